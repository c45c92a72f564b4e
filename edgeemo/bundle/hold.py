"""Files that are in use: a bundle's writer collects none that a session holds.

Holding is a shared lock on the file itself (``flock``), so that nothing is written into a bundle, a
read-only one can be held too, and the locks of a process that dies go with it. Where there is no such
lock (Windows) an open file cannot be deleted in the first place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from edgeemo.bundle.file_lock import NoLocksError, lock_file
from edgeemo.errors import BundleError


class HeldFiles:
    """Files that stay where they are until `close`; a context manager.

    Args:
        folder: the bundle.
        names: files in it, as its manifest names them.

    Raises:
        BundleError: a file is not there (any more), or is being deleted this moment.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._descriptors: list[int] = []
        try:
            for name in names:
                self._hold(folder / name)
        except BaseException:
            self.close()
            raise

    def _hold(self, place: Path) -> None:
        try:
            descriptor = os.open(place, os.O_RDONLY)
        except OSError as reason:
            raise BundleError(f"{place}: cannot be read ({reason.strerror or reason})") from None
        self._descriptors.append(descriptor)
        if not _lock(descriptor, exclusive=False) or not _is_at(place, descriptor):
            raise BundleError(f"{place} is of an older state of this bundle and was deleted; open it again")

    def __len__(self) -> int:
        return len(self._descriptors)

    def close(self) -> None:
        """Lets the files go; nothing happens the second time."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> HeldFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<HeldFiles: {len(self)}>"


def delete_unheld(place: Path) -> bool:
    """Deletes a file, or a link, unless somebody holds it; returns whether it is gone.

    Raises:
        OSError: the disk refuses.
    """
    if place.is_symlink() or sys.platform == "win32":
        place.unlink()
        return True
    descriptor = os.open(place, os.O_RDONLY)
    try:
        if not _lock(descriptor, exclusive=True):
            return False
        place.unlink()
    finally:
        os.close(descriptor)
    return True


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    """Returns whether the file is locked now; a file system without locks locks nothing."""
    try:
        return lock_file(descriptor, shared=not exclusive)
    except NoLocksError:
        return not exclusive  # nobody can tell whether it is held: it stays


def _is_at(place: Path, descriptor: int) -> bool:
    """Tells whether a file was not deleted between its opening and its locking."""
    try:
        return os.path.samestat(os.stat(place), os.fstat(descriptor))
    except OSError:
        return False
