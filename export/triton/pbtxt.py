"""Text in protobuf's text format, as Triton reads its ``config.pbtxt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

Value = Union["Word", str, int, bool, "Message", Sequence["Message"], Sequence[int]]
Message = Mapping[str, Value]
_ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


class Word(str):
    """A name that the schema knows, such as ``TYPE_FP32``: written without quotes."""

    __slots__ = ()


def pbtxt_from_message(message: Message, *, indent: int = 0) -> str:
    """Returns the text of a message, one field a line, in the order of ``message``.

    Args:
        message: field -> a word, text, number or truth; a message; or several messages or numbers, which
            are written as the repeated field that they are.
        indent: spaces before each line.
    """
    margin = " " * indent
    lines: list[str] = []
    for name, value in message.items():
        if isinstance(value, Mapping):
            lines += _block(name, value, indent)
        elif isinstance(value, (str, int)):
            lines.append(f"{margin}{name}: {_scalar(value)}\n")
        elif any(isinstance(item, Mapping) for item in value):
            for item in value:
                lines += _block(name, item, indent)  # type: ignore[arg-type]  # messages do not mix with numbers
        elif value:
            lines.append(f"{margin}{name}: [{', '.join(str(item) for item in value)}]\n")
    return "".join(lines)


def map_entries(entries: Mapping[str, str]) -> list[Message]:
    """Returns a map of texts as the repeated messages that a map field is, sorted by key."""
    return [{"key": key, "value": entries[key]} for key in sorted(entries)]


def parameters(entries: Mapping[str, str]) -> list[Message]:
    """Returns entries as Triton's ``ModelParameter`` map, sorted by key."""
    return [{"key": key, "value": {"string_value": entries[key]}} for key in sorted(entries)]


def _block(name: str, message: Message, indent: int) -> list[str]:
    margin = " " * indent
    return [f"{margin}{name} {{\n", pbtxt_from_message(message, indent=indent + 2), f"{margin}}}\n"]


def _scalar(value: str | int) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if code in _ESCAPES:
        return _ESCAPES[code]
    return f"\\{code:03o}" if code < 32 or code == 127 else character
