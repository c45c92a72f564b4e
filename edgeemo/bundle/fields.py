"""Strict reading of JSON objects: every surprise becomes one sentence that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

from edgeemo.errors import EdgeEmoError

MAX_JSON_BYTES = 16 * 1024 * 1024


def parse_json(data: bytes, where: str, error: type[EdgeEmoError]) -> dict[str, object]:
    """Returns the JSON object in ``data``; refuses what JSON readers usually let through.

    Args:
        data: UTF-8 text of one JSON object, at most 16 MiB.
        where: the file's name, for messages.
        error: the class to raise.

    Raises:
        error: too large, not UTF-8, not JSON, a key twice, NaN or infinity, nested absurdly deep, or
            not an object.
    """
    if len(data) > MAX_JSON_BYTES:
        raise error(f"{where}: {len(data)} bytes of JSON; at most {MAX_JSON_BYTES} are read")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise error(f"{where}: the key {twice!r} occurs twice in one object")
        return found

    def refuse_constant(text: str) -> NoReturn:
        raise error(f"{where}: {text} is not a JSON number")

    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse_constant)
    except UnicodeDecodeError as reason:
        raise error(f"{where}: not UTF-8 text ({reason.reason} at byte {reason.start})") from None
    except RecursionError:
        raise error(f"{where}: nested too deeply to be read") from None
    except ValueError as reason:
        raise error(f"{where}: not JSON ({reason})") from None
    if not isinstance(parsed, dict):
        raise error(f"{where}: expected a JSON object, found {_kind(parsed)}")
    return parsed


class Fields:
    """One JSON object being read: each accessor checks presence and type, `finish` refuses leftovers.

    Args:
        data: the object.
        where: how messages name it, such as ``"manifest.json: modalities[0]"``.
        error: the class that every complaint is raised as.
    """

    def __init__(self, data: Mapping[str, object], where: str, error: type[EdgeEmoError]) -> None:
        self._data = data
        self._asked: set[str] = set()
        self.where = where
        self.error = error

    def fail(self, sentence: str) -> NoReturn:
        """Raises the reader's error with ``sentence`` behind the place."""
        raise self.error(f"{self.where}: {sentence}")

    def names(self) -> tuple[str, ...]:
        """Returns the keys of this object, for objects that are maps."""
        return tuple(self._data)

    def value(self, key: str) -> object:
        """Returns the raw value of ``key``, which must be there."""
        self._asked.add(key)
        if key not in self._data:
            self.fail(f"{key!r} is missing; found: {', '.join(sorted(self._data)) or 'nothing'}")
        return self._data[key]

    def text(self, key: str, *, choices: Sequence[str] = ()) -> str:
        """Returns a non-empty string, one of ``choices`` where given."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            self.fail(f"{key!r} must be a non-empty text, found {_kind(value)}")
        if choices and value not in choices:
            self.fail(f"{key!r} is {value!r}; known: {', '.join(choices)}")
        return value

    def flag(self, key: str) -> bool:
        """Returns a boolean."""
        value = self.value(key)
        if not isinstance(value, bool):
            self.fail(f"{key!r} must be true or false, found {_kind(value)}")
        return value

    def integer(self, key: str, *, low: int, high: int = 2**53) -> int:
        """Returns an integer within ``low..high``."""
        return self._integer(self.value(key), repr(key), low, high)

    def integers(self, key: str, *, low: int, high: int = 2**53) -> tuple[int, ...]:
        """Returns a list of integers, each within ``low..high``."""
        items = self.items(key)
        return tuple(self._integer(item, f"{key}[{i}]", low, high) for i, item in enumerate(items))

    def number(self, key: str, *, low: float = -math.inf, above: float = -math.inf) -> float:
        """Returns a finite number, at least ``low`` and greater than ``above``."""
        return self._number(self.value(key), repr(key), low, above)

    def numbers(self, key: str, *, low: float = -math.inf, above: float = -math.inf) -> tuple[float, ...]:
        """Returns a list of finite numbers, each at least ``low`` and greater than ``above``."""
        items = self.items(key)
        return tuple(self._number(item, f"{key}[{i}]", low, above) for i, item in enumerate(items))

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns a list of distinct non-empty strings."""
        items = self.items(key)
        for i, item in enumerate(items):
            if not isinstance(item, str) or not item:
                self.fail(f"{key}[{i}] must be a non-empty text, found {_kind(item)}")
        found = cast(list[str], items)
        if len(set(found)) < len(found):
            self.fail(f"{key!r} names {next(t for t in found if found.count(t) > 1)!r} twice")
        return tuple(found)

    def items(self, key: str) -> list[object]:
        """Returns a list as it is."""
        value = self.value(key)
        if not isinstance(value, list):
            self.fail(f"{key!r} must be a list, found {_kind(value)}")
        return value

    def fields(self, key: str) -> Fields:
        """Returns the reader of the object under ``key``."""
        return self._fields(self.value(key), f"{self.where}: {key}")

    def listed(self, key: str) -> list[Fields]:
        """Returns a reader for each object of the list under ``key``."""
        return [self._fields(item, f"{self.where}: {key}[{i}]") for i, item in enumerate(self.items(key))]

    def finish(self) -> None:
        """Refuses keys that nobody asked for, listing those that are known."""
        unknown = sorted(set(self._data) - self._asked)
        if unknown:
            self.fail(f"unknown {', '.join(map(repr, unknown))}; known: {', '.join(sorted(self._asked))}")

    def _fields(self, value: object, where: str) -> Fields:
        if not isinstance(value, dict):
            raise self.error(f"{where} must be an object, found {_kind(value)}")
        return Fields(value, where, self.error)

    def _integer(self, value: object, name: str, low: int, high: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(f"{name} must be an integer, found {_kind(value)}")
        if not low <= value <= high:
            self.fail(f"{name} is {value}; expected {low}..{high}")
        return value

    def _number(self, value: object, name: str, low: float, above: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f"{name} must be a number, found {_kind(value)}")
        try:
            number = float(value)
        except OverflowError:
            self.fail(f"{name} does not fit a float")
        if not math.isfinite(number):
            self.fail(f"{name} is {number}; expected a finite number")
        if number < low or number <= above:
            bound = f"at least {low:g}" if number < low else f"more than {above:g}"
            self.fail(f"{name} is {number:g}; expected {bound}")
        return number


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {str(value)[:40]}"
    return "a list" if isinstance(value, list) else "an object"
