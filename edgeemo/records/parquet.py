"""Readings written as a Parquet table, for analysis."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from edgeemo.errors import RecordError
from edgeemo.records.read import iterate_record
from edgeemo.records.table import ROWS, check_parquet, rows_from_record, schema_of


def write_parquet(source: Path, target: Path) -> int:
    """Writes a record as a table and returns how many readings there are.

    The columns are the keys of a reading's JSON (`edgeemo.session.reading_json`). Those that map labels or
    modalities to something are structs, null where a reading has none; ``session`` counts the sessions of
    the record from 0, and keys that are not known here are JSON text in ``other``. The headers of the
    sessions are the file's metadata; where there are fewer, the last one is that of the rest.

    Args:
        source: a record.
        target: overwritten.

    Raises:
        MissingDependencyError: pyarrow is not installed.
        RecordError: the source is missing or broken.
        OSError: the target cannot be written.
    """
    check_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    schema = schema_of(iterate_record(source))
    count = 0
    try:
        with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
            rows = rows_from_record(iterate_record(source))
            while part := list(islice(rows, ROWS)):
                writer.write_table(pa.Table.from_pylist(part, schema=schema))
                count += len(part)
    except pa.ArrowException as reason:
        raise RecordError(f"{source} holds what no table can ({reason})") from None
    return count
