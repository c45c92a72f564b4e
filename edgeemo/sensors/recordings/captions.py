"""Captions from SubRip files (.srt): sentences with the times at which they are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeemo.errors import InputError
from edgeemo.modality import TEXT
from edgeemo.sensors.base import Chunk

_STAMP = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_TIMING = re.compile(rf"^\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?$")
_MARKUP = re.compile(r"<[^>]*>|\{[^}]*\}")
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Caption:
    """One caption: plain words without markup, shown from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    text: str


def parse_srt(source: str) -> list[Caption]:
    r"""Returns the captions of a SubRip text in order of their start.

    Lenient where players are: the counters, hours and blank lines may be missing, line ends may be of any
    kind, and markup such as ``<i>`` or ``{\an8}`` is taken out. Captions without words are left out.

    Raises:
        InputError: no timing line at all, a ``-->`` line that cannot be read, or a caption that ends
            before it starts; the message names the line.
    """
    captions: list[Caption] = []
    times: tuple[float, float] | None = None
    words: list[str] = []
    seen = False
    for number, raw in enumerate([*source.lstrip("\ufeff").splitlines(), ""], start=1):
        line = raw.strip()
        if "-->" in line:
            if times:  # the blank line before this caption is missing: its counter is not a word
                words = words[:-1] if words and words[-1].isdigit() else words
                captions.extend(_caption(times, words))
            times, words, seen = _times_from_line(line, number), [], True
        elif line and times:
            words.append(line)
        elif times:
            captions.extend(_caption(times, words))
            times, words = None, []
    if not seen:
        raise InputError(
            "no captions found; expected SubRip lines such as '00:00:01,000 --> 00:00:02,500' above each text"
        )
    return sorted(captions, key=lambda caption: (caption.start_s, caption.end_s))


def read_srt(path: str | Path) -> list[Caption]:
    """Returns the captions of a file in UTF-8 or, failing that, Windows-1252.

    Raises:
        InputError: the file is missing, larger than 16 MB, or not SubRip.
    """
    try:
        size = Path(path).stat().st_size
        if size > _MOST_BYTES:
            raise InputError(f"{path} is {size} bytes long; captions of at most {_MOST_BYTES} are read")
        raw = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"captions {path} cannot be read: {error.strerror}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    try:
        return parse_srt(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def chunks_from_captions(captions: list[Caption]) -> Iterator[Chunk]:
    """Yields the words of each caption at the time it appears."""
    for caption in captions:
        yield Chunk(TEXT, caption.start_s, caption.text)


def _times_from_line(line: str, number: int) -> tuple[float, float]:
    match = _TIMING.match(line)
    if not match:
        raise InputError(f"line {number}: {line!r} is not a timing such as '00:00:01,000 --> 00:00:02,500'")
    parts = match.groups()
    start_s, end_s = _seconds(*parts[:4]), _seconds(*parts[4:])
    if end_s < start_s:
        raise InputError(f"line {number}: the caption ends at {end_s:g} s, before it starts at {start_s:g} s")
    return start_s, end_s


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return (whole * 1000 + int(fraction.ljust(3, "0"))) / 1000


def _caption(times: tuple[float, float], words: list[str]) -> Iterator[Caption]:
    text = " ".join(_MARKUP.sub(" ", " ".join(words)).split())
    if text:
        yield Caption(*times, text)
