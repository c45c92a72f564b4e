"""One measurement in a process of its own: a driver that hangs or crashes takes one row with it.

``python -m benchmarks.gpu.child TASK JSON`` prints one line of JSON, last.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeemo.errors import EdgeEmoError

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900.0
NOT_MEASURED = "not_measured"
TASKS = {
    "look": "look",
    "memory path": "memory_paths",
    "engine": "engine_calls",
    "memory": "session_memory",
    "plans": "plan_builds",
    "first reading": "first_reading",
    "swap": "live_swap",
}
"""Task -> module of this package whose ``measure`` does it."""

Found = dict[str, Any]


def run_task(
    task: str,
    given: Mapping[str, Any],
    *,
    python: str = sys.executable,
    limit_s: float = LIMIT_S,
    environment: Mapping[str, str] | None = None,
) -> Found:
    """Returns what a task found; where it could not run, why, under ``not_measured``.

    Args:
        task: a key of `TASKS`.
        given: keyword arguments, plain data.
        python: the interpreter, for libraries that cannot be installed beside each other.
        limit_s: how long it may take.
        environment: variables to set.
    """
    command = [python, "-m", "benchmarks.gpu.child", task, json.dumps(dict(given))]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **(environment or {})}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False, cwd=ROOT, env=known
        )
    except subprocess.TimeoutExpired:
        return {NOT_MEASURED: f"no answer within {limit_s:g} s"}
    except OSError as error:
        return {NOT_MEASURED: f"{Path(python).name} cannot be started: {error.strerror}"}
    try:
        found: Found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        return {NOT_MEASURED: f"the process ended with {how}: {without_places(said[-1])}"}
    return found


def not_measured(why: str) -> Found:
    """Returns a row that could not be measured."""
    return {NOT_MEASURED: without_places(why)}


def without_places(text: str) -> str:
    """Returns a message without the folders of this machine: results are published."""
    for place, word in ((str(ROOT), "."), (sys.prefix, "ENVIRONMENT"), (str(Path.home()), "~")):
        text = text.replace(place, word)
    return " ".join(text.split())


def main() -> int:
    """Does what the arguments ask for."""
    begun = time.perf_counter()
    logging.disable(logging.WARNING)
    task, given = sys.argv[1], json.loads(sys.argv[2])
    try:
        found = importlib.import_module(f"benchmarks.gpu.{TASKS[task]}").measure(**given)
    except EdgeEmoError as error:
        found = not_measured(str(error))
    print("\n" + json.dumps({**found, "task_s": round(time.perf_counter() - begun, 2)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
