"""Temporary folders that are removed even where the process that made them was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from edgeemo.runtimes.plans.lock import process_runs

_PREFIX = "edgeemo-batch-"


def own_folder(purpose: str) -> str:
    """Returns a new temporary folder of this process; removes those of processes that are gone.

    Args:
        purpose: a word in its name.
    """
    top = Path(tempfile.gettempdir())
    for folder in top.glob(f"{_PREFIX}{purpose}-*"):
        number = folder.name.removeprefix(f"{_PREFIX}{purpose}-").partition("-")[0]
        if number.isdecimal() and not process_runs(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_PREFIX}{purpose}-{os.getpid()}-")
