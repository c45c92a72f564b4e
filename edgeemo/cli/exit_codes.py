"""What a command's exit code says."""

from __future__ import annotations

FAILED, USAGE = 1, 2
INTERRUPTED, TERMINATED = 130, 143
