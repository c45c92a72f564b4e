"""What a command's exit code says."""

from __future__ import annotations

from edgeemo.errors import EdgeEmoError

FAILED, USAGE = 1, 2
INTERRUPTED, CLOSED_PIPE, TERMINATED = 130, 141, 143  # 128 and the number of the signal, as shells say it


class UsageError(EdgeEmoError):
    """Raised by a command for options that do not go together; its exit code is `USAGE`."""
