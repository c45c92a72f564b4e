"""Locks on open files: freed by the system however a process ends, on every system that has them."""

from __future__ import annotations

import errno
import os
import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# A file system without locks (some network mounts) says one of these.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})
_FAR = 1 << 30  # Windows locks bytes: one behind everything that is written


class NoLocksError(OSError):
    """Raised where the file system, or the system, has no such lock: nobody can tell who holds a file."""


def lock_file(descriptor: int, *, shared: bool = False) -> bool:
    """Locks an open file until it is closed; returns at once.

    Args:
        descriptor: of the file, open for writing.
        shared: many may hold it, but nobody else alone; the file may be open for reading only.

    Returns:
        False where somebody else holds it.

    Raises:
        NoLocksError: there are none here; Windows has no shared ones.
        OSError: the disk refuses.
    """
    if sys.platform == "win32" and shared:
        raise NoLocksError(errno.ENOLCK, "no shared locks on Windows")
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        else:
            before = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            try:
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            finally:
                os.lseek(descriptor, before, os.SEEK_SET)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as reason:
        if reason.errno in _NO_LOCKS:
            raise NoLocksError(reason.errno, os.strerror(reason.errno or 0)) from None
        raise
    return True
