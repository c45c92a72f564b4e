"""The table made of parts and of the table that was there before: whole or not at all, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeemo.batch.plan import difference
from edgeemo.batch.table import said_by, table_schema, versions_by_path
from edgeemo.bundle.disk import replaced_file
from edgeemo.errors import RecordError
from edgeemo.records import RecordHeader
from edgeemo.records.recorder import refusal

_GROUP_ROWS = 65_536  # of one row group: what is in memory while the table is written
_READ_ROWS = 4096


def read_table_of_contents(table: Path, identity: Mapping[str, Any]) -> dict[str, str | None]:
    """Returns which state of which recording a table has.

    Args:
        table: made by an earlier run.
        identity: `Plan.identity` of this one.

    Raises:
        RecordError: it is no such table, broken, or was made with another plan.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(table) as file:
            said = said_by(file.metadata.metadata, where=str(table))
            if differs := difference(said["identity"], identity):
                raise RecordError(
                    f"{table} was made another way ({differs}); give another name, or score everything anew "
                    "with --overwrite"
                )
            columns = ["path", "version"]
            return versions_by_path(
                pa.Table.from_batches([batch]) for batch in file.iter_batches(_GROUP_ROWS, columns=columns)
            )
    except (OSError, pa.ArrowException, KeyError) as reason:
        raise RecordError(
            f"{table} exists and cannot be read ({reason}); give another name, or replace it with --overwrite"
        ) from None


def write_table(
    table: Path,
    *,
    header: RecordHeader,
    identity: Mapping[str, Any],
    sources: Mapping[str, Path],
    comfort: str,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Makes the table of its sources, in the order of the recordings' paths; returns how many rows it has.

    Args:
        table: replaced once the new one is whole and on the disk.
        header: of every session.
        identity: kept in it, for runs that go on.
        sources: recording -> its part, or `table` for what stays as it is there.
        comfort: said where the disk refuses.
        tell: takes how many recordings are done, and of how many.

    Raises:
        RecordError: the disk refuses, or a source is broken; the table is as it was.
    """
    import pyarrow as pa
    from pyarrow import parquet

    said = {"identity": dict(identity), "recordings": len(sources)}
    schema = table_schema(header, said)
    rows = 0
    try:
        # Its owner's alone, as records are.
        with (
            replaced_file(table, private=True) as temporary,
            parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
        ):
            kept: list[Any] = []
            waiting = 0
            for piece in _pieces(table, sources, schema, tell):
                kept.append(piece)
                waiting += piece.num_rows
                if waiting >= _GROUP_ROWS:
                    writer.write_table(pa.concat_tables(kept))
                    rows, waiting, kept = rows + waiting, 0, []
            if kept:
                writer.write_table(pa.concat_tables(kept))
    except pa.ArrowException as reason:
        raise RecordError(f"{table} cannot be made: {reason}. {comfort}") from None
    except OSError as reason:
        raise refusal(table, reason, comfort) from None
    return rows + waiting


def _pieces(
    table: Path, sources: Mapping[str, Path], schema: Any, tell: Callable[[int, int], None]
) -> Iterator[Any]:
    """Yields the rows of each recording in turn, numbered as they come."""
    import pyarrow as pa
    from pyarrow import parquet

    old = _Sequence(table)
    try:
        for number, path in enumerate(sorted(sources)):
            if sources[path] == table:
                batches = old.rows_of(path)
            else:
                with parquet.ParquetFile(sources[path]) as file:
                    batches = [pa.Table.from_batches([batch]) for batch in file.iter_batches(_READ_ROWS)]
            for batch in batches:
                session = pa.array([number] * batch.num_rows, pa.int32())
                place = schema.get_field_index("session")
                numbered = batch.set_column(place, schema.field("session"), session)
                yield numbered.replace_schema_metadata(None).cast(schema.remove_metadata())
            tell(number + 1, len(sources))
    finally:
        old.close()


class _Sequence:
    """The rows of a table, recording by recording in their order, read once from front to back."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self._batches: Iterator[Any] | None = None
        self._left: Any = None
        self._file: Any = None

    def rows_of(self, path: str) -> list[Any]:
        """Returns the rows of a recording; those before it are left out."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import parquet

        if self._file is None:
            self._file = parquet.ParquetFile(self._table)
            self._batches = self._file.iter_batches(_READ_ROWS)
        found: list[Any] = []
        while True:
            if self._left is None or not self._left.num_rows:
                batch = next(self._batches or iter(()), None)
                if batch is None:
                    break
                self._left = pa.Table.from_batches([batch])
            paths = self._left["path"].combine_chunks()
            before = pc.index(pc.greater_equal(paths, path), True).as_py()
            self._left = self._left.slice(len(paths) if before < 0 else before)
            if not self._left.num_rows:
                continue
            paths = self._left["path"].combine_chunks()
            behind = pc.index(pc.greater(paths, path), True).as_py()
            count = len(paths) if behind < 0 else behind
            if count:
                found.append(self._left.slice(0, count))
            self._left = self._left.slice(count)
            if behind >= 0:
                break
        return found

    def close(self) -> None:
        """Closes the table."""
        if self._file is not None:
            self._file.close()
