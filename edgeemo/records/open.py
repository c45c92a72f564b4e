"""Which recorder keeps a file, told by its suffix; and one kind of record made of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeemo.bundle.disk import replaced_file
from edgeemo.errors import InputError, RecordError
from edgeemo.records.emotionml import write_emotionml
from edgeemo.records.header import RecordHeader
from edgeemo.records.journaled import JournaledRecorder
from edgeemo.records.jsonl import JsonlRecorder, line_from_json
from edgeemo.records.parquet import write_parquet
from edgeemo.records.read import iterate_record
from edgeemo.records.recorder import Recorder, refusal
from edgeemo.records.table import check_parquet

SUFFIXES = (".jsonl", ".parquet", ".xml", ".emotionml")
"""JSON lines, Parquet, and twice EmotionML."""


def open_recorder(path: str | Path, header: RecordHeader, *, append: bool = False) -> Recorder:
    """Returns what keeps readings in a file of the kind that its suffix names.

    Readings alone are kept, never sound, pictures or words.

    Args:
        path: ends in one of `SUFFIXES`; must not exist, unless `append`.
        header: what the record is of.
        append: go on with a ``.jsonl`` record; a new one begins where there is none.

    Raises:
        InputError: another suffix, or `append` for a file that has an end.
        RecordError: the file exists or cannot be written.
        MissingDependencyError: Parquet without pyarrow.
    """
    path = Path(path)
    write = _writer(path)
    if path.suffix == ".jsonl":
        return JsonlRecorder(path, header, append=append)
    if append:
        raise InputError(f"only .jsonl records can be gone on with; {path} has an end")
    return JournaledRecorder(path, header, lambda journal, target: _replace(journal, target, write))


def convert_record(source: str | Path, target: str | Path) -> int:
    """Makes a record of one kind of another, or of the journal of one that was cut off.

    Args:
        source: a ``.jsonl`` or ``.parquet`` record, or a journal; it stays.
        target: ends in one of `SUFFIXES`; must not exist.

    Returns:
        How many readings there are.

    Raises:
        InputError: the target's suffix is none of `SUFFIXES`.
        RecordError: the source is missing or broken, or the target exists or cannot be written.
        MissingDependencyError: Parquet without pyarrow.
    """
    source, target = Path(source), Path(target)
    write = _writer(target)
    if target.exists():
        raise RecordError(f"{target} exists already; give another name")
    try:
        return _replace(source, target, write)
    except OSError as reason:
        raise refusal(target, reason, f"{source} is as it was") from None


_Writer = Callable[[Path, Path], int]


def _writer(path: Path) -> _Writer:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} ends in none of {', '.join(SUFFIXES)}, which say how readings are kept")
    if path.suffix == ".parquet":
        check_parquet()
        return write_parquet
    return _write_lines if path.suffix == ".jsonl" else write_emotionml


def _write_lines(source: Path, target: Path) -> int:
    count = 0
    with target.open("wb") as file:
        for entry in iterate_record(source):
            count += not isinstance(entry, RecordHeader)
            file.write(line_from_json(entry.to_json() if isinstance(entry, RecordHeader) else entry))
    return count


def _replace(source: Path, target: Path, write: _Writer) -> int:
    """Writes all of the target or nothing; it is its owner's alone, as records are."""
    with replaced_file(target, private=True) as temporary:
        return write(source, temporary)
