"""What every recorder does, and how it says that a disk refuses."""

from __future__ import annotations

import errno
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from edgeemo.errors import RecordError
from edgeemo.session import Reading

if TYPE_CHECKING:
    from typing_extensions import Self


class Recorder(Protocol):
    """Keeps readings in a file; a context manager, safe to use from several threads.

    Attributes:
        path: the file that is there after `close`.
        written: readings that were kept.
        lost: readings that could not be kept.
    """

    @property
    def path(self) -> Path:
        """The file that is there after `close`."""

    @property
    def written(self) -> int:
        """Readings that were kept."""

    @property
    def lost(self) -> int:
        """Readings that could not be kept."""

    def write(self, reading: Reading) -> None:
        """Keeps a reading.

        Raises:
            RecordError: it could not be kept; what was kept before still is, and the next may be tried.
        """

    def close(self) -> None:
        """Finishes the file; calling it again does nothing.

        Raises:
            RecordError: it could not be finished; the message says where the readings are.
        """

    def __enter__(self) -> Self:
        """Returns the recorder."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""


def refusal(path: Path, reason: OSError, comfort: str = "") -> RecordError:
    """Returns what a disk says about a file as one sentence, and what is still in order as another.

    Args:
        path: what was to be written.
        reason: what the disk said.
        comfort: said behind the cause.
    """
    known = {
        errno.EEXIST: "it exists already; give another name, or --append to go on with a .jsonl record",
        errno.ENOENT: "there is no such folder",
        errno.ENOSPC: "no room left on the disk",
        errno.EDQUOT: "no room left on the disk",
        errno.EFBIG: "no room left on the disk",
        errno.EACCES: "permission denied",
        errno.EROFS: "the disk is read-only",
    }
    cause = known.get(reason.errno or 0) or reason.strerror or str(reason)
    return RecordError(f"{path} cannot be written: {cause}" + (f". {comfort}" if comfort else ""))
