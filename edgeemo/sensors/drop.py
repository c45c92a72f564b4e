"""Rehearsed failures: a sensor taken away between two times, written ``MODALITY@FROM-TO`` in seconds."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgeemo.errors import InputError
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.base import Chunk

_FORM = re.compile(r"([^@\s]+)@(\d+(?:\.\d*)?|\.\d+)-(\d+(?:\.\d*)?|\.\d+)")


@dataclass(frozen=True)
class Drop:
    """One rehearsed failure: ``modality`` gives nothing from ``from_s`` up to, not including, ``to_s``."""

    modality: str
    from_s: float
    to_s: float

    def __str__(self) -> str:
        return f"{self.modality}@{self.from_s:g}-{self.to_s:g}"


def parse_drop(text: str, modalities: Sequence[str] | None = (AUDIO, VIDEO, TEXT)) -> Drop:
    """Returns the failure that a person wrote, such as ``video@1-2.5``.

    Args:
        text: ``MODALITY@FROM-TO`` in seconds.
        modalities: those that there are; None where that is not known yet.

    Raises:
        InputError: another form, an unknown modality, or an end that is not after the start.
    """
    match = _FORM.fullmatch(text.strip())
    if not match:
        raise InputError(
            f"{text!r} does not say what to take away and when; "
            "write MODALITY@FROM-TO in seconds, for example video@1-2.5"
        )
    drop = Drop(match[1], float(match[2]), float(match[3]))
    if modalities is not None:
        check_modality(drop, modalities)
    if not drop.from_s < drop.to_s:
        raise InputError(f"{drop}: the end ({drop.to_s:g} s) must come after the start ({drop.from_s:g} s)")
    return drop


def check_modality(drop: Drop, modalities: Sequence[str]) -> None:
    """Refuses a failure of what there is not.

    Raises:
        InputError: an unknown modality.
    """
    if drop.modality not in modalities:
        raise InputError(f"{drop}: unknown modality {drop.modality!r}; there are: {', '.join(modalities)}")


def find_drop(drops: Iterable[Drop], modality: str, time_s: float) -> Drop | None:
    """Returns the failure that ``modality`` suffers at ``time_s``, None if it suffers none."""
    for drop in drops:
        if drop.modality == modality and drop.from_s <= time_s < drop.to_s:
            return drop
    return None


def drop_chunks(chunks: Iterable[Chunk], drops: Sequence[Drop]) -> Iterator[Chunk]:
    """Yields what the session would have received had the sensors failed at those times.

    Frames and words inside a failure are taken out. Audio is cut to the sample, so that the result is the
    same however the stream was cut into chunks before. Time order is kept.
    """
    late: list[tuple[float, int, Chunk]] = []  # what comes after a failure waits for its time
    for number, chunk in enumerate(chunks):
        while late and late[0][0] <= chunk.time_s:
            yield heapq.heappop(late)[2]
        mine = [drop for drop in drops if drop.modality == chunk.modality]
        for part in _surviving(chunk, mine):
            if part.time_s > chunk.time_s:
                heapq.heappush(late, (part.time_s, number, part))
            else:
                yield part
    yield from (chunk for _, _, chunk in sorted(late))


def _surviving(chunk: Chunk, drops: Sequence[Drop]) -> Iterator[Chunk]:
    if not drops:
        yield chunk
    elif chunk.rate_hz:
        yield from _cut(chunk, drops, chunk.rate_hz)
    elif find_drop(drops, chunk.modality, chunk.time_s) is None:
        yield chunk


def _cut(chunk: Chunk, drops: Sequence[Drop], rate_hz: int) -> Iterator[Chunk]:
    start = 0
    for drop in sorted(drops, key=lambda d: d.from_s):
        first = _index(drop.from_s, chunk, rate_hz)
        beyond = _index(drop.to_s, chunk, rate_hz)
        if first > start:
            yield _part(chunk, start, first, rate_hz)
        start = max(start, beyond)
    if start < len(chunk.array):
        yield _part(chunk, start, len(chunk.array), rate_hz)


def _index(time_s: float, chunk: Chunk, rate_hz: int) -> int:
    """The first sample at or after ``time_s``; a thousandth of a sample of rounding is forgiven."""
    index = math.ceil((time_s - chunk.time_s) * rate_hz - 1e-3)
    return min(max(index, 0), len(chunk.array))


def _part(chunk: Chunk, start: int, stop: int, rate_hz: int) -> Chunk:
    if start == 0 and stop == len(chunk.array):
        return chunk
    return Chunk(chunk.modality, chunk.time_s + start / rate_hz, chunk.array[start:stop], rate_hz)
