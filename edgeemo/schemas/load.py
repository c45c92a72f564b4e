"""The schemas as plain data; reading them needs nothing but Python."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgeemo.errors import InputError

_FOLDER = Path(__file__).resolve().parent


def schema_names() -> tuple[str, ...]:
    """Returns the names of all schemas, in alphabetical order."""
    return tuple(sorted(place.stem for place in _FOLDER.glob("*.json")))


def load_schema(name: str) -> dict[str, Any]:
    """Returns one JSON Schema (draft 2020-12) as plain data; the caller may change it.

    Args:
        name: such as ``reading``; see `schema_names`.

    Raises:
        InputError: there is none of that name; the message lists those there are.
    """
    names = schema_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        there = f"here are: {', '.join(names)}"
        there = f"did you mean {near[0]}? T{there}" if near else f"t{there}"
        raise InputError(f"no schema is called {name!r}; {there}")
    schema: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return schema
