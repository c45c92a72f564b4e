"""The table of an archive: its columns, the rows of one recording, and what a table says about itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeemo.errors import RecordError
from edgeemo.records import RecordHeader
from edgeemo.records.table import row_from_reading, schema_of

METADATA = b"edgeemo_batch"
ROWS = 4096
"""Readings that are held in memory at once while a recording is scored."""


@dataclass(frozen=True)
class Scored:
    """What came of one recording.

    Attributes:
        path: as in `Recording`.
        version: as in `Recording`; None where it has to be tried again.
        readings: how many there are.
        duration_s: how long the recording is, as far as it could be read.
        error: why there are no readings, or not all of them; empty where nothing is wrong.
        part: its rows as a Parquet file; empty where that was written before.
    """

    path: str
    version: str | None
    readings: int
    duration_s: float
    error: str = ""
    part: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """Returns what is kept in the part's own metadata."""
        return {
            "path": self.path,
            "version": self.version,
            "readings": self.readings,
            "duration_s": self.duration_s,
            "error": self.error,
        }


def table_schema(header: RecordHeader, said: Mapping[str, Any] | None = None) -> Any:
    """Returns the columns: where a reading is from, the reading, and which state of the file it is of.

    Args:
        header: of every session.
        said: kept as the table's metadata.
    """
    import pyarrow as pa

    schema = schema_of([header])
    fields = [
        pa.field("path", pa.string()),
        schema.field("session"),
        pa.field("error", pa.string()),
        *(field for field in schema if field.name != "session"),
        pa.field("version", pa.string()),
    ]
    metadata = dict(schema.metadata)
    if said is not None:
        metadata[METADATA] = json.dumps(said).encode("ascii")
    return pa.schema(fields, metadata=metadata)


class PartWriter:
    """Takes the readings of one recording and makes its part of the table, a few rows in memory at a time.

    Args:
        header: of the session.
        path: as in `Recording`.
        version: as in `Recording`.
    """

    def __init__(self, header: RecordHeader, *, path: str, version: str | None) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self._pa = pa
        self._path, self._version = path, version
        self._schema = table_schema(header)
        self._sink = pa.BufferOutputStream()
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self.readings = 0

    def add(self, reading: Mapping[str, Any]) -> None:
        """Takes one reading, as `Reading.to_json` gives it."""
        self._add({**row_from_reading(reading, 0), "error": None})
        self.readings += 1

    def finish(self, *, duration_s: float, error: str = "") -> Scored:
        """Returns what came of the recording; an error is a row of its own, behind the readings."""
        if error:
            self._add({"session": 0, "error": error})
        self._flush()
        scored = Scored(self._path, self._version, self.readings, duration_s, error)
        self._writer.add_key_value_metadata({METADATA.decode(): json.dumps(scored.to_json())})
        self._writer.close()
        return Scored(**scored.to_json(), part=self._sink.getvalue().to_pybytes())

    def _add(self, row: dict[str, Any]) -> None:
        self._rows.append({**row, "path": self._path, "version": self._version})
        if len(self._rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def failed(header: RecordHeader, path: str, version: str | None, error: str) -> Scored:
    """Returns a recording without readings: a row with its error."""
    return PartWriter(header, path=path, version=version).finish(duration_s=0.0, error=error)


def said_by(metadata: Mapping[bytes, bytes] | None, *, where: str) -> dict[str, Any]:
    """Returns what a table or a part says about itself.

    Raises:
        RecordError: nothing, so it is no table of ours.
    """
    try:
        said: dict[str, Any] = json.loads((metadata or {})[METADATA])
    except (KeyError, ValueError):
        raise RecordError(f"{where} is no table that `edgeemo batch` made; give another name") from None
    return said


def versions_by_path(batches: Iterable[Any]) -> dict[str, str | None]:
    """Returns which state of each recording the rows of a table are of."""
    found: dict[str, str | None] = {}
    for batch in batches:
        rows = batch.group_by(["path", "version"]).aggregate([])
        found.update(zip(rows["path"].to_pylist(), rows["version"].to_pylist(), strict=True))
    return found
