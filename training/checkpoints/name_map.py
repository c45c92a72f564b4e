"""A name map: which tensor of somebody else's file is which of a network's, read from TOML or JSON.

```toml
ignore = ["optimizer.**", "aux_head.*"]        # theirs that nobody needs
keep = ["positions.**"]                        # ours that the file does not have and the network has already

[weights]                                      # theirs = ours
"proj_a.*" = "inputs.audio.*"
"enc_a.*.in_proj_weight" = ["blocks.audio.*.q.weight", "blocks.audio.*.k.weight", "blocks.audio.*.v.weight"]
"cls_a" = { name = "heads.audio.weight", transpose = true }

[adapters."audio+video"]                       # "common" or a subset
alpha = 8                                      # or scale = 2.0; s = alpha / r
[adapters."audio+video".modules]               # our layer = their A, their B
"blocks.audio.*.out" = ["enc_a.*.lora_av_A", "enc_a.*.lora_av_B"]
```
``*`` stands for one part of a name (no dot), ``**`` for any number of them; what they stood for goes into
the other side's stars, in order. A list splits a tensor along its first dimension into equal parts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeemo.bundle.fields import Fields, parse_json
from edgeemo.errors import CheckpointError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_STARS = re.compile(r"\*\*|\*")


@dataclass(frozen=True)
class WeightRule:
    """Their tensor, and what it is here: one name, or several that it is split into."""

    theirs: str
    ours: tuple[str, ...]
    transpose: bool


@dataclass(frozen=True)
class PairRule:
    """Our layer, and which of their tensors are its A and B."""

    layer: str
    a: str
    b: str


@dataclass(frozen=True)
class AdapterRule:
    """The pairs of ``"common"`` or of a subset; one of ``alpha`` and ``scale`` is None."""

    name: str
    pairs: tuple[PairRule, ...]
    alpha: float | None
    scale: float | None


@dataclass(frozen=True)
class NameMap:
    """What a name map says; made by `read_name_map`."""

    where: str
    weights: tuple[WeightRule, ...]
    adapters: tuple[AdapterRule, ...]
    ignore: tuple[str, ...]
    keep: tuple[str, ...]


def read_name_map(path: str | Path) -> NameMap:
    """Returns the name map in a ``.toml`` or ``.json`` file.

    Raises:
        CheckpointError: it cannot be read, or a field is missing, unknown or of the wrong kind.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be read ({reason.strerror or reason})") from None
    if path.suffix == ".json":
        content = parse_json(data, str(path), CheckpointError)
    else:
        try:
            content = tomllib.loads(data.decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
            raise CheckpointError(f"{path}: not TOML ({reason})") from None
    top = Fields(content, str(path), CheckpointError)
    weights = top.fields("weights")
    rules = tuple(_weight_rule(weights, theirs) for theirs in weights.names())
    adapters = top.fields("adapters") if "adapters" in top.names() else None
    found = tuple(_adapter_rule(adapters, name) for name in adapters.names()) if adapters else ()
    lists = [top.texts(name) if name in top.names() else () for name in ("ignore", "keep")]
    top.finish()
    return NameMap(str(path), rules, found, lists[0], lists[1])


def matched(pattern: str, name: str) -> tuple[str, ...] | None:
    """Returns what the stars of ``pattern`` stand for in ``name``; None where it does not match."""
    parts = [re.escape(part) for part in _STARS.split(pattern)]
    stars = [r"(.+)" if star == "**" else r"([^.]+)" for star in _STARS.findall(pattern)]
    expression = "".join(part + star for part, star in zip(parts, [*stars, ""], strict=True))
    found = re.fullmatch(expression, name)
    return None if found is None else found.groups()


def filled(pattern: str, stars: Sequence[str]) -> str:
    """Returns ``pattern`` with its stars replaced, in order."""
    values = iter(stars)
    return _STARS.sub(lambda _: next(values), pattern)


def _weight_rule(weights: Fields, theirs: str) -> WeightRule:
    value = weights.value(theirs)
    transpose = False
    if isinstance(value, list):
        ours = weights.texts(theirs)
    elif isinstance(value, dict):
        entry = weights.fields(theirs)
        ours = (entry.text("name"),)
        transpose = entry.flag("transpose") if "transpose" in entry.names() else False
        entry.finish()
    else:
        ours = (weights.text(theirs),)
    if not ours:
        weights.fail(f"{theirs!r} is an empty list; expected the names that it is split into")
    for name in ours:
        _check_stars(weights, theirs, name)
    return WeightRule(theirs, ours, transpose)


def _adapter_rule(adapters: Fields, name: str) -> AdapterRule:
    entry = adapters.fields(name)
    given = [option for option in ("alpha", "scale") if option in entry.names()]
    if len(given) != 1:
        entry.fail(
            "needs either 'alpha' or 'scale' (s = alpha / r): without it nobody knows how strongly the "
            "adapter was trained to act, and it stands in no tensor; look it up where it was trained"
        )
    number = entry.number(given[0], above=0.0)
    modules = entry.fields("modules")
    pairs = []
    for layer in modules.names():
        sides = modules.texts(layer)
        if len(sides) != 2:
            modules.fail(f"{layer!r} needs two names, those of A and B; found {len(sides)}")
        for side in sides:
            _check_stars(modules, side, layer)
        pairs.append(PairRule(layer, *sides))
    entry.finish()
    if not pairs:
        modules.fail("is empty; leave the adapter out where it has no pairs")
    alpha, scale = (number, None) if given == ["alpha"] else (None, number)
    return AdapterRule(name, tuple(pairs), alpha, scale)


def _check_stars(fields: Fields, left: str, right: str) -> None:
    if len(_STARS.findall(left)) != len(_STARS.findall(right)):
        fields.fail(f"{left!r} and {right!r} need the same number of stars")
