"""Records that are written in one go at their end, kept as JSON lines until then."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgeemo.errors import RecordError
from edgeemo.records.header import RecordHeader
from edgeemo.records.jsonl import JsonlRecorder
from edgeemo.records.recorder import refusal
from edgeemo.session import Reading

if TYPE_CHECKING:
    from typing_extensions import Self

JOURNAL = ".journal.jsonl"


class JournaledRecorder:
    """Keeps readings in a journal beside the file, and makes the file of it when it is closed.

    A file of a format that has an end cannot be whole before it is closed; after a kill or a power cut the
    journal is there, and `edgeemo.records.convert_record` or ``edgeemo records`` makes the file of it.

    Args:
        path: the file; neither it nor its journal may exist.
        header: what the record is of.
        convert: makes the file (second) of the journal (first), all or nothing.

    Raises:
        RecordError: the file or its journal exists, or cannot be written.
    """

    def __init__(self, path: Path, header: RecordHeader, convert: Callable[[Path, Path], object]) -> None:
        self.path, self._convert = path, convert
        self._closed = False
        journal = path.with_name(path.name + JOURNAL)
        if path.exists():
            raise RecordError(
                f"{path} exists already; give another name (only .jsonl records can be gone on with)"
            )
        if journal.exists():
            raise RecordError(
                f"{journal} is there, of a record that was cut off; save it with "
                f"`edgeemo records {journal} --out OTHER{path.suffix}` and remove it, or give another name"
            )
        self._journal = JsonlRecorder(journal, header)

    @property
    def written(self) -> int:
        """Readings that were kept."""
        return self._journal.written

    @property
    def lost(self) -> int:
        """Readings that could not be kept."""
        return self._journal.lost

    def write(self, reading: Reading) -> None:
        """Keeps a reading.

        Raises:
            RecordError: it could not be kept; what was kept before still is.
        """
        self._journal.write(reading)

    def close(self) -> None:
        """Makes the file and removes the journal; calling it again does nothing.

        Raises:
            RecordError: the file could not be made; the message says where the readings are.
        """
        if self._closed:
            return
        self._closed = True
        journal = self._journal.path
        command = f"`edgeemo records {journal} --out {self.path}`"
        comfort = f"The readings are in {journal}; {command} makes the file of them"
        try:
            self._journal.close()
            self._convert(journal, self.path)
        except OSError as reason:
            raise refusal(self.path, reason, comfort) from None
        except RecordError as reason:
            raise RecordError(f"{reason}. {comfort}") from None
        os.unlink(journal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
