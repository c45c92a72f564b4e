"""The table that readings make: its columns, one row a reading, and how it is read back from Parquet."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeemo.errors import MissingDependencyError, RecordError
from edgeemo.records.header import RecordHeader, header_from_json

ROWS = 4096
"""Rows that are held in memory at once."""
_METADATA = b"edgeemo_record"
_TEXTS = ("label", "emotion", "mood", "subset", "engine", "backend")
_NUMBERS = ("time_s", "confidence", "valence", "arousal", "contradiction", "age_s")
_SHARES = ("probabilities", "mood_probabilities")
_TABLES = ("evidence", "modality_probabilities")
_OTHER = "other"


def check_parquet() -> None:
    """Says before a session begins what would be missing at its end.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingDependencyError("a Parquet record", "pyarrow", "pip install 'edgeemo[parquet]'")


def iterate_parquet(path: Path) -> Iterator[RecordHeader | dict[str, Any]]:
    """Yields each session's header and then its readings, as `write_parquet` took them.

    A row without a time is no reading: it says why a recording has none (`edgeemo.batch`).

    Raises:
        MissingDependencyError: pyarrow is not installed.
        RecordError: the file is missing, broken, or no record.
    """
    check_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as reason:
        raise RecordError(f"{path} cannot be read: {reason}") from None
    with file:
        metadata = file.schema_arrow.metadata or {}
        if _METADATA not in metadata:
            raise RecordError(
                f"{path} is no record of edgeemo; the table has the columns {file.schema_arrow.names}"
            )
        headers = [header_from_json(data, where=str(path)) for data in json.loads(metadata[_METADATA])]
        session = -1
        for batch in file.iter_batches(ROWS):
            for row in batch.to_pylist():
                while session < row["session"]:
                    session += 1
                    yield headers[min(session, len(headers) - 1)]
                if row["time_s"] is not None:
                    yield _reading(row)
        yield from headers[session + 1 :]


def schema_of(entries: Iterable[RecordHeader | dict[str, Any]]) -> Any:
    """Returns the columns (an Arrow schema) of a table of what a record holds; headers alone will do.

    Raises:
        MissingDependencyError: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow as pa

    return _schema(pa, _shape_of(entries))


def row_from_reading(reading: Mapping[str, Any], session: int) -> dict[str, Any]:
    """Returns the row of a table that `iterate_parquet` makes the same reading of.

    Args:
        reading: as `Reading.to_json` gives it.
        session: the number of its session in the table.
    """
    known = {*_NUMBERS, *_TEXTS, *_SHARES, *_TABLES, "states"}
    other = {key: value for key, value in reading.items() if key not in known}
    row = {key: value if value != {} else None for key, value in reading.items() if key in known}
    encodable: dict[str, Any] = _encodable(row)
    return {**encodable, "session": session, _OTHER: json.dumps(other) if other else None}


@dataclass
class _Shape:
    """What the readings of a record have, in the order in which it came."""

    headers: list[RecordHeader] = field(default_factory=list)
    labels: dict[str, None] = field(default_factory=dict)
    modalities: dict[str, None] = field(default_factory=dict)


def _shape_of(entries: Iterable[RecordHeader | dict[str, Any]]) -> _Shape:
    shape = _Shape()
    for entry in entries:
        if isinstance(entry, RecordHeader):
            shape.headers.append(entry)
            shape.labels.update(dict.fromkeys(entry.labels))
            shape.modalities.update(dict.fromkeys(entry.modalities))
            continue
        for key in _SHARES:
            shape.labels.update(dict.fromkeys(entry.get(key, ())))
        for key in _TABLES:
            for name, says in entry.get(key, {}).items():
                shape.modalities.setdefault(name)
                shape.labels.update(dict.fromkeys(says))
        shape.modalities.update(dict.fromkeys(entry.get("states", ())))
    return shape


def _schema(pa: Any, shape: _Shape) -> Any:
    shares = pa.struct([(label, pa.float64()) for label in shape.labels])
    table = pa.struct([(name, shares) for name in shape.modalities])
    status = pa.struct([("state", pa.string()), ("why", pa.string()), ("since_s", pa.float64())])
    fields = [
        ("session", pa.int32()),
        *((key, pa.float64()) for key in _NUMBERS),
        *((key, pa.string()) for key in _TEXTS),
        *((key, shares) for key in _SHARES),
        *((key, table) for key in _TABLES),
        ("states", pa.struct([(name, status) for name in shape.modalities])),
        (_OTHER, pa.string()),
    ]
    headers = json.dumps([header.to_json() for header in shape.headers])
    return pa.schema(fields, metadata={_METADATA: headers.encode()})


def rows_from_record(entries: Iterable[RecordHeader | dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a record's readings; see `row_from_reading`."""
    session = -1
    for entry in entries:
        if isinstance(entry, RecordHeader):
            session += 1
        else:
            yield row_from_reading(entry, session)


def _encodable(value: Any) -> Any:
    """Returns a value whose texts are Unicode; names of devices may hold bytes that are none."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: _encodable(inner) for key, inner in value.items()}
    return value


def _reading(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row as the reading's JSON: mappings without their empty places, or empty."""
    reading: dict[str, Any] = {key: row[key] for key in (*_NUMBERS, *_TEXTS)}
    for key in (*_SHARES, *_TABLES, "states"):
        reading[key] = _without_nulls(row[key]) or {}
    reading.update(json.loads(row[_OTHER] or "{}"))
    return reading


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    inner = {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return inner or None
