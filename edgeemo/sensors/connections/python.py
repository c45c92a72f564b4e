"""How a second Python is started that finds the same modules as this one, and nothing else."""

from __future__ import annotations

import sys


def can_isolate() -> bool:
    """Whether this interpreter can be started a second time; a program frozen into one file cannot."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def child_command(module: str, function: str = "main") -> list[str]:
    """Returns the command that calls a function without arguments in a child process.

    Neither a working directory that the parent does not search nor a ``__main__`` is imported there.
    """
    boot = f"import sys; sys.path[:] = sys.argv[1:]; from {module} import {function}; {function}()"
    return [sys.executable, "-c", boot, *sys.path]
