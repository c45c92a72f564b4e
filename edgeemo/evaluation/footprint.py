"""What a session costs before it says anything: memory, and the time from a fresh process to a reading."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeemo.errors import BackendError
from edgeemo.runtimes import AUTO

_TIMEOUT_S = 120
_PROGRAM = Path(__file__).with_name("first_reading.py")


@dataclass(frozen=True)
class Memory:
    """Memory of one process, in bytes.

    Attributes:
        pss: proportional set size: pages that processes share count in parts.
        private: pages of this process alone.
        rss: resident set size: shared pages count fully.
    """

    pss: int
    private: int
    rss: int


@dataclass(frozen=True)
class Footprint:
    """A fresh process that opens a session and makes one reading from sound and words pushed to it.

    Attributes:
        import_ms: ``import edgeemo`` and its session, with what they load at once.
        open_ms: opening the bundle: stems, engines, and choosing variants where nothing is cached.
        reading_ms: from the first push to the first reading that has a signal. The sound is pushed at once,
            so the time that a microphone needs to deliver it is not in here.
        process_ms: from starting the process to that reading, the start of Python included.
        base: memory with the interpreter and numpy alone; None where the system does not tell.
        ready: memory after the first reading.
        subset: that the reading came from.
    """

    import_ms: float
    open_ms: float
    reading_ms: float
    process_ms: float
    base: Memory | None
    ready: Memory | None
    subset: str | None


def memory_of(pid: int | str = "self") -> Memory | None:
    """Returns the memory of a process; None where there is no ``smaps_rollup`` (other than Linux)."""
    try:
        return memory_from_smaps(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
    except OSError:
        return None


def memory_from_smaps(text: str) -> Memory:
    """Returns the sums of a ``smaps_rollup`` text, see proc(5)."""
    lines = [line.split() for line in text.splitlines() if line.endswith(" kB")]
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
    private = sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
    return Memory(sizes.get("Pss", 0), private, sizes.get("Rss", 0))


def measure_footprint(
    bundle: str | Path,
    *,
    subsets: Sequence[str] | None = None,
    variant: str = AUTO,
    backend: str = AUTO,
    threads: int = 1,
) -> Footprint:
    """Returns what a fresh process costs until its first reading.

    Args:
        bundle: its folder.
        subsets: the engines that the session opens; None for all.
        variant: as `edgeemo.runtimes.open_engine` takes it.
        backend: as `edgeemo.runtimes.open_engine` takes it.
        threads: threads of each engine.

    Raises:
        BackendError: the process failed; the message ends with what it said.
    """
    task = {
        "bundle": str(bundle),
        "options": {"subsets": subsets, "variant": variant, "backend": backend, "threads": threads},
    }
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(_PROGRAM), json.dumps(task)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BackendError(f"a fresh process could not make a reading: {last}")
    told = json.loads(done.stdout)
    return Footprint(
        import_ms=told["import_ms"],
        open_ms=told["open_ms"],
        reading_ms=told["reading_ms"],
        # perf_counter is the system's monotonic clock, the same in both processes.
        process_ms=round((told["read_at"] - begun) * 1e3, 1),
        base=memory_from_smaps(told["base"]) if told["base"] else None,
        ready=memory_from_smaps(told["ready"]) if told["ready"] else None,
        subset=told["subset"],
    )
