"""Holds every reading of a run against the truth of its moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.faults.device import Delivery
from benchmarks.faults.play import Play
from benchmarks.faults.scenario import MODALITIES, Fault, Kind
from benchmarks.faults.truth import Line, Truth, effects, truth_lines
from edgeemo.modality import AUDIO, TEXT, VIDEO, subset_members
from edgeemo.session import Reading

_OWN_CLOCK_S = 0.05  # a sensor that stamps data itself may be off by about a chunk
_SLACK_S = {AUDIO: 0.7, VIDEO: 0.55, TEXT: 0.0}  # a block, or a frame in which no face is found, and a chunk
_TWICE = 2  # hops in which a block of sound or a picture has come for certain


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        what: ``wrong subset``, ``stale``, ``time``, ``words`` or ``refused``.
        time_s: of the reading.
        text: the rest, in a sentence.
    """

    what: str
    time_s: float
    text: str

    def __str__(self) -> str:
        return f"{self.time_s:.2f} s: {self.what}: {self.text}"


@dataclass(frozen=True)
class Verdict:
    """What the check of a run gives.

    Attributes:
        findings: everything wrong; empty where the session kept its promise.
        left_s: modality and kind of fault -> seconds from its start to the first reading without it.
        back_s: modality and kind of fault -> seconds from its end to the first reading with it again.
    """

    findings: tuple[Finding, ...]
    left_s: dict[tuple[str, Kind], float]
    back_s: dict[tuple[str, Kind], float]


def check(play: Play) -> Verdict:
    """Checks every reading of a run."""
    lines = truth_lines(play.scenario, settings=play.settings, hop_s=play.hop_s, delivered=play.delivered)
    findings = [*_check_times(play), *_check_words(play, lines), *_check_refused(play)]
    for place, reading in enumerate(play.readings):
        seen = play.delivered[: play.seen[place]]
        findings += _check_subset(reading, lines)
        findings += _check_contents(reading)
        findings += _check_age(reading, seen, lines)
        if place >= _TWICE:
            findings += _check_fresh(play.readings[place - _TWICE], reading, lines)
    left_s, back_s = {}, {}
    for fault in play.scenario.faults:
        left, back = _moments(play.readings, fault)
        if left is not None and lines[fault.modality].at(fault.start_s + 4.5) is Truth.OUT:
            left_s[fault.modality, fault.kind] = left
        if back is not None:
            back_s[fault.modality, fault.kind] = back
    return Verdict(tuple(findings), left_s, back_s)


def _check_subset(reading: Reading, lines: dict[str, Line]) -> Iterator[Finding]:
    used = _used(reading)
    for name in MODALITIES:
        truth = lines[name].at(reading.time_s)
        status = reading.states[name]
        if truth is Truth.OUT and name in used:
            yield Finding("wrong subset", reading.time_s, f"{name} is used and cannot be")
        if truth is Truth.IN and name not in used:
            said = f"{status.state}, {status.why}"
            yield Finding("wrong subset", reading.time_s, f"{name} is well and is not used: {said}")
        if (name in used) != (status.state == "live"):
            yield Finding("words", reading.time_s, f"{name} is {status.state}, the subset {reading.subset}")
        if name not in used and not status.why:
            yield Finding("words", reading.time_s, f"{name} is {status.state} and nobody says why")


def _check_contents(reading: Reading) -> Iterator[Finding]:
    if reading.subset is None:
        left = (reading.probabilities, reading.emotion, reading.age_s, reading.engine, reading.backend)
        if reading.label != "no signal" or reading.confidence or any(left):
            yield Finding("stale", reading.time_s, f"nothing is live and the reading says {reading.label!r}")
        return
    total = sum(reading.probabilities.values())
    best = max(reading.probabilities, key=lambda label: reading.probabilities[label], default="")
    if abs(total - 1.0) > 1e-3 or best != reading.label:
        yield Finding("words", reading.time_s, f"{reading.label!r} of {dict(reading.probabilities)}")
    if (reading.engine or "").rpartition(".")[0] != reading.subset:
        yield Finding("wrong subset", reading.time_s, f"{reading.engine} answered for {reading.subset}")


def _check_age(reading: Reading, seen: Sequence[Delivery], lines: dict[str, Line]) -> Iterator[Finding]:
    """The age is that of the oldest of the newest data of each modality used, as the devices know it."""
    used = _used(reading)
    if not used:
        return
    youngest_s = -1.0
    oldest_s = -1.0
    for name in used:
        pieces = [
            piece
            for piece in seen
            if piece.modality == name
            and piece.captured_s <= reading.time_s + _OWN_CLOCK_S
            and (name != TEXT or piece.words)
        ]
        if not pieces:
            yield Finding("stale", reading.time_s, f"{name} is used and has delivered nothing")
            return
        newest_s = max(piece.captured_s for piece in pieces)
        truthful_s = max((piece.captured_s for piece in pieces if piece.is_truthful), default=newest_s)
        youngest_s = max(youngest_s, reading.time_s - newest_s)
        oldest_s = max(oldest_s, reading.time_s - truthful_s + _SLACK_S[name])
    steady = all(lines[name].at(reading.time_s) is Truth.IN for name in used)
    age_s = -1.0 if reading.age_s is None else reading.age_s
    if age_s < youngest_s - _OWN_CLOCK_S or (steady and age_s > oldest_s + _OWN_CLOCK_S):
        yield Finding(
            "stale",
            reading.time_s,
            f"{reading.subset} says that it is {age_s:.2f} s old and is {youngest_s:.2f} to {oldest_s:.2f}",
        )


def _check_fresh(before: Reading, reading: Reading, lines: dict[str, Line]) -> Iterator[Finding]:
    """New sound or pictures never give the very same numbers."""
    moving = [
        name
        for name in (AUDIO, VIDEO)
        if name in _used(reading)
        and lines[name].at(reading.time_s) is Truth.IN
        and lines[name].steady_since(reading.time_s) <= before.time_s
    ]
    same = reading.subset == before.subset and reading.probabilities == before.probabilities
    if moving and same:
        yield Finding("stale", reading.time_s, f"the numbers are those of {before.time_s:.2f} s")


def _check_times(play: Play) -> Iterator[Finding]:
    """Readings come one a hop, in order; a slow application gets them late, and those left out counted."""
    last_s, stall = play.readings[-1].time_s, play.scenario.stall
    numbers = [int(reading.time_s / play.hop_s + 1e-6) for reading in play.readings]
    for number, reading in zip(numbers, play.readings, strict=True):
        is_late = stall is not None and reading.time_s > stall.start_s
        if not is_late and abs(number * play.hop_s - reading.time_s) > 1e-6:
            yield Finding("time", reading.time_s, "the reading lies beside its hop")
    times = [reading.time_s for reading in play.readings]
    if sorted(set(numbers)) != numbers or sorted(times) != times:
        yield Finding("time", last_s, f"hops are doubled or out of order: {times}")
    missing = set(range(1, numbers[-1] + 1)) - set(numbers)
    if len(missing) != play.stats.late_hops or (missing and stall is None):
        yield Finding("time", last_s, f"hops {sorted(missing)} are missing, counted {play.stats.late_hops}")
    if play.stats.hops != len(play.readings):
        yield Finding("time", last_s, f"{play.stats.hops} hops counted, {len(play.readings)} came")


def _check_words(play: Play, lines: dict[str, Line]) -> Iterator[Finding]:
    """The state of what failed fits its fault."""
    for fault in play.scenario.faults:
        if fault.modality == TEXT:
            continue
        effect = effects(fault.modality, play.settings)[fault.kind]
        during = [
            reading.states[fault.modality]
            for reading in play.readings
            if fault.start_s <= reading.time_s < fault.end_s
            and lines[fault.modality].at(reading.time_s) is Truth.OUT
        ]
        states = {str(status.state) for status in during}
        if during and (not states <= effect.states or not states >= effect.says):
            expected = f"{sorted(effect.says)} at least, of {sorted(effect.states)}"
            yield Finding("words", fault.start_s, f"{fault}: {sorted(states)}; expected {expected}")


def _check_refused(play: Play) -> Iterator[Finding]:
    """What came with a false time is refused as a whole or stamped anew; nothing else is ever refused."""
    for name in MODALITIES:
        false = sum(piece.modality == name and not piece.is_truthful for piece in play.delivered)
        refused = play.stats.rejected.get(name, 0)
        if refused not in (0, false):
            text = f"{refused} pieces of {name}; {false} had a false time"
            yield Finding("refused", play.readings[-1].time_s, text)


def _moments(readings: Sequence[Reading], fault: Fault) -> tuple[float | None, float | None]:
    """Returns the seconds from a fault's start to the first reading without, from its end to one with it."""
    out = [r.time_s for r in readings if r.time_s >= fault.start_s and fault.modality not in _used(r)]
    again = [r.time_s for r in readings if r.time_s >= fault.end_s and fault.modality in _used(r)]
    return (
        out[0] - fault.start_s if out and out[0] < fault.end_s else None,
        again[0] - fault.end_s if again else None,
    )


def _used(reading: Reading) -> tuple[str, ...]:
    return subset_members(reading.subset) if reading.subset else ()
