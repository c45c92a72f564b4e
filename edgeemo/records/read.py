"""Records read back, as they were written, whole or cut off."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeemo.errors import RecordError
from edgeemo.records.header import RecordHeader, header_from_json, is_header
from edgeemo.records.table import iterate_parquet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedSession:
    """One session of a record.

    Attributes:
        header: what it is of.
        readings: as `Reading.to_json` gives them; `edgeemo.session.reading_from_json` makes readings of them.
    """

    header: RecordHeader
    readings: tuple[dict[str, Any], ...]


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Returns every reading of a record, as `Reading.to_json` gives it, oldest first.

    Args:
        path: a ``.jsonl`` or ``.parquet`` record, or the journal of one that was cut off.

    Raises:
        RecordError: there is no such file, it is no record, or it is broken before its last line.
        FormatVersionError: a newer edgeemo wrote it.
        MissingDependencyError: it is Parquet, and pyarrow is not installed.
    """
    return [reading for session in read_sessions(path) for reading in session.readings]


def read_sessions(path: str | Path) -> tuple[RecordedSession, ...]:
    """Returns the sessions of a record, in order.

    Args:
        path: as for `read_records`.

    Raises:
        RecordError, FormatVersionError, MissingDependencyError: as `read_records`.
    """
    sessions: list[tuple[RecordHeader, list[dict[str, Any]]]] = []
    for entry in iterate_record(Path(path)):
        if isinstance(entry, RecordHeader):
            sessions.append((entry, []))
        else:
            sessions[-1][1].append(entry)
    return tuple(RecordedSession(header, tuple(readings)) for header, readings in sessions)


def iterate_record(path: Path) -> Iterator[RecordHeader | dict[str, Any]]:
    """Yields each session's header and then its readings, without holding them all.

    Raises:
        RecordError, FormatVersionError, MissingDependencyError: as `read_records`.
    """
    if path.suffix == ".parquet":
        yield from iterate_parquet(path)
    elif path.suffix == ".jsonl":
        yield from _iterate_lines(path)
    else:
        raise RecordError(f"{path} cannot be read back; records that can are .jsonl and .parquet")


def _iterate_lines(path: Path) -> Iterator[RecordHeader | dict[str, Any]]:
    try:
        file = path.open("rb")
    except OSError as reason:
        raise RecordError(f"{path} cannot be read: {reason.strerror or reason}") from None
    with file:
        number = 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                log.warning("%s: its last line was cut off and is left out", path)
                break
            where = f"{path}, line {number}"
            try:
                entry = json.loads(line)
            except ValueError as reason:
                raise RecordError(f"{where}: neither a reading nor a header ({reason})") from None
            if is_header(entry):
                yield header_from_json(entry, where=where)
            elif number == 1:
                raise RecordError(f"{path} is no record of edgeemo: its first line is no header")
            elif not isinstance(entry, dict) or "time_s" not in entry:
                raise RecordError(f"{where}: neither a reading nor a header")
            else:
                yield entry
        if number == 0:
            raise RecordError(f"{path} is empty: nothing was recorded")
