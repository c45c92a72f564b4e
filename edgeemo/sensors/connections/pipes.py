"""Waiting for a pipe without blocking for ever."""

from __future__ import annotations

import select
import sys


def has_data(file: int, timeout_s: float) -> bool:
    """Waits for data or the end of a file descriptor; on Windows, whose pipes cannot be waited for, True.

    Unlike `select.select` it serves programs with more than 1024 open files.
    """
    if sys.platform == "win32":
        return True
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(round(1000 * timeout_s)))
