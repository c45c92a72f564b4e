"""What an export chose where several ways are right: ``recipe.toml``.

`edgeemo export --tune` measures and writes one, ``--recipe`` obeys one and measures nothing, so that the
same checkpoint, recipe and package versions give the same bytes on every machine. Without either the
built-in choices hold: products in int8 are quantized on the fly, nothing stays float, nothing is dropped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeemo.errors import ExportError, InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT_VERSION = 1
DYNAMIC, STATIC = "dynamic", "static"
METHODS = (DYNAMIC, STATIC)
ENGINES, STEMS = "engines", "stems"
_GRAPH_KEYS = frozenset({"method", "keep_float"})
_MAX_BYTES = 1 << 20

Key = tuple[str, str, str]


@dataclass(frozen=True)
class GraphRecipe:
    """How one graph becomes one variant.

    Attributes:
        method: ``"dynamic"`` or ``"static"``: how ``int8`` quantizes the inputs of constant products.
        keep_float: nodes that stay float -> what quantizing them costs: the relative root mean square
            error of the graph's output that goes away with them.
    """

    method: str = DYNAMIC
    keep_float: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """The choices of a whole export.

    Attributes:
        graphs: (``"engines"`` or ``"stems"``, name, variant) -> choices; what is not here is built in.
        dropped: the same key -> why the variant is not made.
    """

    graphs: Mapping[Key, GraphRecipe] = field(default_factory=dict)
    dropped: Mapping[Key, str] = field(default_factory=dict)

    def graph(self, kind: str, name: str, variant: str) -> GraphRecipe:
        """Returns the choices for one graph."""
        return self.graphs.get((kind, name, variant), GraphRecipe())

    def check_names(self, engines: Sequence[str], stems: Sequence[str], variants: Sequence[str]) -> None:
        """Raises `ExportError` where the recipe speaks of a graph that there is none of."""
        for kind, name, variant in (*self.graphs, *self.dropped):
            known = engines if kind == ENGINES else stems
            if name not in known or variant not in variants:
                raise ExportError(
                    f"the recipe speaks of {kind}.{name}.{variant}; there are the {kind} {', '.join(known)} "
                    f"in {', '.join(variants)}. Is it the recipe of another checkpoint?"
                )


def recipe_from_toml(text: str, where: str = "recipe.toml") -> Recipe:
    """Returns the recipe that ``text`` spells.

    Raises:
        ExportError: not TOML, of another format version, or with something that is no choice.
    """
    try:
        top: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as reason:
        raise ExportError(f"{where}: not TOML ({reason})") from None
    if top.pop("format_version", None) != FORMAT_VERSION:
        raise ExportError(f"{where}: expected format_version = {FORMAT_VERSION}; write it again with --tune")
    graphs: dict[Key, GraphRecipe] = {}
    dropped: dict[Key, str] = {}
    for kind, name, variant, entry in _entries(top, where):
        place = f"{where}: {kind}.{name}.{variant}"
        if set(entry) == {"dropped"} and isinstance(entry["dropped"], str):
            dropped[kind, name, variant] = entry["dropped"]
            continue
        method, keep = entry.get("method", DYNAMIC), entry.get("keep_float", {})
        numbers = isinstance(keep, dict) and all(type(cost) in (int, float) for cost in keep.values())
        if set(entry) - _GRAPH_KEYS or method not in METHODS or not numbers:
            raise ExportError(
                f"{place}: expected dropped = 'reason', or method = {' or '.join(map(repr, METHODS))} and "
                f"keep_float = {{node = cost}}; found {entry!r}"[:500]
            )
        graphs[kind, name, variant] = GraphRecipe(
            method, {node: float(cost) for node, cost in sorted(keep.items())}
        )
    return Recipe(graphs, dropped)


def toml_from_recipe(recipe: Recipe) -> str:
    """Returns the canonical text of a recipe; `recipe_from_toml` of it gives the recipe back."""
    lines = [
        "# Written by `edgeemo export --tune`; `edgeemo export --recipe` obeys it and measures nothing.",
        f"format_version = {FORMAT_VERSION}",
    ]
    for key in sorted({*recipe.graphs, *recipe.dropped}):
        lines += ["", f"[{'.'.join(_quoted(part) for part in key)}]"]
        if key in recipe.dropped:
            lines.append(f"dropped = {_quoted(recipe.dropped[key])}")
            continue
        graph = recipe.graphs[key]
        if key[2] == "int8":
            lines.append(f"method = {_quoted(graph.method)}")
        lines += [f"keep_float.{_quoted(node)} = {cost!r}" for node, cost in sorted(graph.keep_float.items())]
    return "\n".join(lines) + "\n"


def read_recipe(path: str | Path) -> Recipe:
    """Returns the recipe in the file ``path``.

    Raises:
        InputError: there is no such file, or it is no text.
        ExportError: it is no recipe.
    """
    place = Path(path)
    try:
        data = place.read_bytes()
        if len(data) > _MAX_BYTES:
            raise ExportError(f"{place} has {len(data)} bytes; a recipe has at most {_MAX_BYTES}")
        return recipe_from_toml(data.decode("utf-8"), str(place))
    except OSError as reason:
        raise InputError(f"{place}: cannot be read ({reason.strerror or reason})") from None
    except UnicodeDecodeError:
        raise ExportError(f"{place}: not TOML (no UTF-8 text)") from None


def _entries(top: Mapping[str, Any], where: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    found: list[tuple[str, str, str, dict[str, Any]]] = []
    for kind, names in top.items():
        if kind not in (ENGINES, STEMS) or not isinstance(names, dict):
            raise ExportError(f"{where}: unknown {kind!r}; expected tables [{ENGINES}.*] and [{STEMS}.*]")
        for name, variants in names.items():
            for variant, entry in variants.items() if isinstance(variants, dict) else [(None, None)]:
                if not isinstance(entry, dict):
                    raise ExportError(f"{where}: {kind}.{name} must hold a table for each variant")
                found.append((kind, name, str(variant), entry))
    return found


def _quoted(text: str) -> str:
    """Returns a TOML basic string: JSON's, which writes one control character plainly."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
