"""One writer at a time: a lock on a folder that names its holder and does not outlive it.

The lock belongs to the open file, so the system frees it when its process ends in whatever way; what the
holder wrote about itself is then overwritten by the next one.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgeemo.errors import ExportError, MissingDependencyError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
HOLDER = ".lock.holder"
_MAX_HOLDER_BYTES = 4096


class FolderLock:
    """The right to change a folder, from `acquire` to `release`.

    Args:
        folder: it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: BaseFileLock | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def acquire(self, wait_s: float) -> None:
        """Takes the lock, waiting up to ``wait_s`` for whoever has it.

        Raises:
            ExportError: another process has it; the message names it and says since when.
            MissingDependencyError: filelock is not installed.
            OSError: the folder cannot be written.
        """
        try:
            from filelock import FileLock, Timeout
        except ImportError:
            raise MissingDependencyError(
                "writing a bundle", "filelock", "pip install 'edgeemo[export]'"
            ) from None
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            raise ExportError(
                f"{self.folder} is being written by another process{self._holder()} (it holds "
                f"{self.folder / LOCK}); wait for it to finish or choose another folder"
            ) from None
        self._lock = lock
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        # Only for the message: a holder that cannot be written down still holds the lock.
        with suppress(OSError):
            (self.folder / HOLDER).unlink(missing_ok=True)
            with (self.folder / HOLDER).open("x", encoding="utf-8") as file:
                json.dump({"pid": os.getpid(), "since": now}, file)

    def release(self) -> None:
        """Gives the lock back; nothing happens the second time."""
        if self._lock is not None:
            with suppress(OSError):
                (self.folder / HOLDER).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _holder(self) -> str:
        """Returns who holds the lock, as far as it said so."""
        try:
            with (self.folder / HOLDER).open("rb") as file:
                said = json.loads(file.read(_MAX_HOLDER_BYTES))
            since = datetime.fromisoformat(said["since"]).astimezone(timezone.utc)
            return f", process {int(said['pid'])} since {since:%H:%M:%S} UTC"
        except (OSError, ValueError, TypeError, KeyError):
            return ""
