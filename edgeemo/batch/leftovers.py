"""Temporary folders that are removed even where the process that made them was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "edgeemo-batch-"


def own_folder(purpose: str) -> str:
    """Returns a new temporary folder of this process; removes those of processes that are gone.

    Args:
        purpose: a word in its name.
    """
    top = Path(tempfile.gettempdir())
    for folder in top.glob(f"{_PREFIX}{purpose}-*"):
        number = folder.name.removeprefix(f"{_PREFIX}{purpose}-").partition("-")[0]
        if number.isdecimal() and not _is_alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}-{os.getpid()}-")


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
