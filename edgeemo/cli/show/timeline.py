"""Readings as lines: for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from edgeemo.cli.show.signs import CONTRADICTION, SIGNS
from edgeemo.session import Reading

_BAR = 16


def print_readings(readings: Iterable[Reading], *, as_json: bool) -> int:
    """Prints each reading as it comes and returns how many there were."""
    count = 0
    describe: Callable[[Reading], str] = _json_line if as_json else line_from_reading
    for reading in readings:
        if count == 0 and not as_json:
            print(_head(reading))
        print(describe(reading), flush=True)
        count += 1
    return count


def _json_line(reading: Reading) -> str:
    return json.dumps(reading.to_json(), ensure_ascii=False)


def _head(reading: Reading) -> str:
    signs = "  ".join(f"{sign} {state}" for state, sign in SIGNS.items())
    signs += f"  {CONTRADICTION} modalities contradict each other"
    columns = " ".join(name[0].upper() for name in reading.states)
    table = (
        f"{'time':>6}  {columns}  {'engine':<22} {'emotion':<9} {'confidence':<{_BAR + 5}} {'mood':<9} why"
    )
    return f"{signs}\n{table}"


def line_from_reading(reading: Reading) -> str:
    """Returns one line: time, a sign for each modality, engine, emotion, confidence, mood, reasons."""
    signs = " ".join(SIGNS[status.state] for status in reading.states.values())
    bar = "█" * round(reading.confidence * _BAR)
    confidence = f"{bar:<{_BAR}} {reading.confidence:4.0%}" if reading.has_signal else " " * (_BAR + 5)
    reasons = [f"{name}: {status.why}" for name, status in reading.states.items() if status.why]
    if reading.contradicts:
        says = {
            name: max(p, key=lambda label: p[label]) for name, p in reading.modality_probabilities.items()
        }
        reasons.insert(0, f"{CONTRADICTION} " + ", ".join(f"{name} {label}" for name, label in says.items()))
    why = "; ".join(reasons)
    return (
        f"{reading.time_s:5.1f}s  {signs}  {reading.engine or '-':<22} {reading.label:<9} {confidence} "
        f"{reading.mood or '-':<9} {why}"
    ).rstrip()
