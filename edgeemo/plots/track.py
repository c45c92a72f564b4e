"""A record as arrays: what a picture of it is drawn from, a few bytes for each reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, RecordError
from edgeemo.records.header import RecordHeader
from edgeemo.records.read import iterate_record
from edgeemo.session import State

STATES = (State.LIVE, State.QUIET, State.POOR, State.MUTED, State.ABSENT, State.LOST)
"""From what serves to what is worst: `Track.states` counts in it."""
NOTHING = -1
"""Stands for no label, no engine and no state."""


@dataclass(frozen=True)
class Track:
    """N readings of one or several sessions that follow each other, C labels, M modalities.

    Attributes:
        labels: names of the C labels.
        modalities: names of the M modalities.
        engines: names that `engine` counts in.
        time_s: (N,) from the start of the first session; sessions stand one after the other.
        session: (N,) number of the session of each reading.
        starts: for each session its first time and the header.
        probabilities: (N, C); zeros without a signal.
        emotion, mood: (N,) index of the label, or `NOTHING`.
        valence, arousal: (N,), not a number where there is none.
        states: (N, M) index in `STATES`, or `NOTHING`.
        engine: (N,) index in `engines`, or `NOTHING`.
    """

    labels: tuple[str, ...]
    modalities: tuple[str, ...]
    engines: tuple[str, ...]
    time_s: NDArray[np.float64]
    session: NDArray[np.int32]
    starts: tuple[tuple[float, RecordHeader], ...]
    probabilities: NDArray[np.float32]
    emotion: NDArray[np.int16]
    mood: NDArray[np.int16]
    valence: NDArray[np.float32]
    arousal: NDArray[np.float32]
    states: NDArray[np.int8]
    engine: NDArray[np.int16]

    @property
    def hop_s(self) -> float:
        """Seconds that a reading stands for."""
        return self.starts[0][1].hop_s

    def __len__(self) -> int:
        """How many readings there are."""
        return len(self.time_s)


def track_from_record(path: str | Path, *, session: int | None = None) -> Track:
    """Returns the readings of a record as arrays, without ever holding them as they are written.

    Args:
        path: a ``.jsonl`` or ``.parquet`` record, the journal of one, or a table of `edgeemo batch`.
        session: only this one, 1 for the first; None for all.

    Raises:
        RecordError: there is no such file, it is no record, it is broken, or it holds no reading.
        InputError: it has no session of that number.
        FormatVersionError: a newer edgeemo wrote it.
        MissingDependencyError: it is Parquet, and pyarrow is not installed.
    """
    gathered = _Gathered()
    count = 0
    for entry in iterate_record(Path(path)):
        if isinstance(entry, RecordHeader):
            count += 1
            if session in (None, count):
                gathered.begin(entry)
        elif session in (None, count):
            gathered.add(entry)
    if session is not None and not 1 <= session <= count:
        raise InputError(f"{path} has no session {session}; it has {count}, the first is 1")
    if not gathered.rows:
        raise RecordError(f"{path} holds no reading, so there is nothing to draw")
    return gathered.track()


@dataclass
class _Gathered:
    """What came so far."""

    labels: dict[str, int] = field(default_factory=dict)
    modalities: dict[str, int] = field(default_factory=dict)
    engines: dict[str, int] = field(default_factory=dict)
    starts: list[tuple[float, RecordHeader]] = field(default_factory=list)
    rows: list[tuple[float, int, int, int, float, float, int]] = field(default_factory=list)
    probabilities: list[NDArray[np.float32]] = field(default_factory=list)
    states: list[NDArray[np.int8]] = field(default_factory=list)
    base_s: float = 0.0
    end_s: float = 0.0

    def begin(self, header: RecordHeader) -> None:
        for label in header.labels:
            self.labels.setdefault(label, len(self.labels))
        for modality in header.modalities:
            self.modalities.setdefault(modality, len(self.modalities))
        self.base_s = self.end_s
        self.starts.append((self.base_s, header))

    def add(self, reading: Mapping[str, Any]) -> None:
        says: Mapping[str, float] = reading.get("probabilities") or {}
        for label in says:
            self.labels.setdefault(label, len(self.labels))
        statuses: Mapping[str, Mapping[str, Any]] = reading.get("states") or {}
        for modality in statuses:
            self.modalities.setdefault(modality, len(self.modalities))
        row = np.zeros(len(self.labels), np.float32)
        for label, p in says.items():
            row[self.labels[label]] = p
        kinds = np.full(len(self.modalities), NOTHING, np.int8)
        for modality, status in statuses.items():
            kinds[self.modalities[modality]] = _STATE_NUMBERS[status["state"]]
        engine = reading.get("engine")
        number = NOTHING if engine is None else self.engines.setdefault(engine, len(self.engines))
        self.end_s = self.base_s + float(reading["time_s"])
        self.rows.append(
            (
                self.end_s,
                len(self.starts) - 1,
                self._label(reading.get("emotion")),
                self._label(reading.get("mood")),
                _number(reading.get("valence")),
                _number(reading.get("arousal")),
                number,
            )
        )
        self.probabilities.append(row)
        self.states.append(kinds)

    def _label(self, name: str | None) -> int:
        return NOTHING if name is None else self.labels.setdefault(name, len(self.labels))

    def track(self) -> Track:
        columns = list(zip(*self.rows, strict=True))
        return Track(
            labels=tuple(self.labels),
            modalities=tuple(self.modalities),
            engines=tuple(self.engines),
            time_s=np.array(columns[0], np.float64),
            session=np.array(columns[1], np.int32),
            starts=tuple(self.starts),
            probabilities=_stacked(self.probabilities, len(self.labels), 0),
            emotion=np.array(columns[2], np.int16),
            mood=np.array(columns[3], np.int16),
            valence=np.array(columns[4], np.float32),
            arousal=np.array(columns[5], np.float32),
            states=_stacked(self.states, len(self.modalities), NOTHING),
            engine=np.array(columns[6], np.int16),
        )


_STATE_NUMBERS = {str(state): number for number, state in enumerate(STATES)}


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _stacked(rows: list[NDArray[Any]], width: int, fill: int) -> NDArray[Any]:
    """Returns (N, width); labels and modalities that came later are missing in rows from before."""
    stacked = np.full((len(rows), width), fill, rows[0].dtype)
    for number, row in enumerate(rows):
        stacked[number, : len(row)] = row
    return stacked
