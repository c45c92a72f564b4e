"""Readings as JSON lines: whole after every kill, durable after seconds."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeemo.bundle.disk import sync_folder
from edgeemo.bundle.file_lock import NoLocksError, lock_file
from edgeemo.errors import RecordError
from edgeemo.records.header import RecordHeader, header_from_json, is_header
from edgeemo.records.recorder import refusal
from edgeemo.session import Reading

if TYPE_CHECKING:
    from typing_extensions import Self

SYNC_EVERY_S = 2.0
"""Readings reach the disk at most so many seconds after they were written; a power cut loses no more."""
_PATIENCE_S = 10.0  # how long `close` waits for a disk that does not answer


class JsonlRecorder:
    """One line a reading, as `Reading.to_json` gives it, behind one line of `RecordHeader`.

    A line is handed to the system whole and at once, so that a kill loses nothing that was written, and a
    line that was cut off by a power cut is the last one, which readers leave out. A thread of its own
    forces the file to the disk every `sync_every_s`: nobody who writes waits for a slow card.

    Only its owner can read the file: what it says about people is theirs.

    Args:
        path: the file; must not exist, unless `append`.
        header: what the record is of.
        append: go on with a record that exists; a torn last line is cut off it.
        sync_every_s: see `SYNC_EVERY_S`.

    Raises:
        RecordError: the file exists, is no record, is being written by somebody else, or cannot be written.
        FormatVersionError: a newer edgeemo wrote what is to be gone on with.
    """

    def __init__(
        self,
        path: Path,
        header: RecordHeader,
        *,
        append: bool = False,
        sync_every_s: float = SYNC_EVERY_S,
    ) -> None:
        self.path = path
        self.written = self.lost = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._dirty = False
        self._unsynced: OSError | None = None
        self._sync_every_s = sync_every_s
        self._thread: threading.Thread | None = None
        existed = path.exists()
        access = os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            self._file: int | None = os.open(path, access | os.O_CREAT | (0 if append else os.O_EXCL), 0o600)
        except OSError as reason:
            raise refusal(path, reason) from None
        try:
            _claim(self._file, path)
            self._size = _end_of_record(self._file, path)
            self._append(self._file, line_from_json(header.to_json()))
            sync_folder(path.parent)
        except BaseException as reason:
            os.close(self._file)
            if not existed:
                path.unlink(missing_ok=True)
            if isinstance(reason, OSError):
                raise refusal(path, reason) from None
            raise

    def write(self, reading: Reading) -> None:
        """Keeps a reading.

        Raises:
            RecordError: it could not be kept; the file is as it was before.
        """
        line = line_from_json(reading.to_json())
        with self._lock:
            if self._file is None:
                raise RecordError(f"{self.path} is closed; open a recorder for each session")
            unsynced, self._unsynced = self._unsynced, None
            try:
                if unsynced is not None:
                    raise unsynced
                self._append(self._file, line)
            except OSError as reason:
                self.lost += 1
                comfort = (
                    f"The {self.written} readings before are kept; the one at {reading.time_s:.1f} s is not"
                )
                raise refusal(self.path, reason, comfort) from None
            self.written += 1
            self._dirty = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._sync, name="edgeemo-record", daemon=True)
                self._thread.start()

    def _append(self, file: int, line: bytes) -> None:
        """Adds a whole line or, where the disk refuses, nothing."""
        sent = 0
        try:
            while sent < len(line):
                sent += os.write(file, line[sent:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, self._size)
            raise
        self._size += len(line)

    def _sync(self) -> None:
        while not self._stop.wait(self._sync_every_s):
            if self._dirty and self._file is not None:
                self._dirty = False
                try:
                    os.fsync(self._file)
                except OSError as reason:
                    self._unsynced = reason

    def close(self) -> None:
        """Forces the file to the disk and closes it; calling it again does nothing.

        Raises:
            RecordError: the disk refuses, or does not answer for 10 s.
        """
        with self._lock:
            file, self._file = self._file, None
        if file is None:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)
            if self._thread.is_alive():  # it uses the file still, so that stays open
                raise RecordError(f"{self.path}: the disk does not answer; what it has not taken may be lost")
        try:
            os.fsync(file)
        except OSError as reason:
            raise refusal(self.path, reason) from None
        finally:
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def line_from_json(data: dict[str, Any]) -> bytes:
    """Returns one line of a record: ASCII, without spaces, ended."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _claim(file: int, path: Path) -> None:
    """Keeps a second recorder off the file, where the file system can."""
    with suppress(NoLocksError):
        if not lock_file(file):
            raise RecordError(f"{path} is being written by another session; give another name")


def _end_of_record(file: int, path: Path) -> int:
    """Returns the length of a record that is gone on with, a torn last line cut off; 0 for a new file."""
    size = os.fstat(file).st_size
    if not size:
        return 0
    with open(file, "rb", closefd=False) as lines:
        try:
            first = json.loads(lines.readline())
        except ValueError:
            first = None
        if not is_header(first):
            raise RecordError(
                f"{path} is no record of edgeemo, so nothing is appended to it; give another name"
            )
        header_from_json(first, where=str(path))  # refuses a newer format
        place = size
        while place:  # backwards to the last end of a line
            start = max(0, place - 65536)
            lines.seek(start)
            found = lines.read(place - start).rfind(b"\n")
            if found >= 0:
                size = start + found + 1
                break
            place = start
    os.ftruncate(file, size)
    return size
