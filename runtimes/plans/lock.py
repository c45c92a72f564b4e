"""One builder at a time for each plan: a lock that names its holder and does not outlive it.

The lock belongs to the open file, so that the system frees it however its process ends; what a dead holder
wrote about itself is overwritten by the next. Where a file system has no locks, the holder's process number
and start time decide: a holder that is gone, or a number that now belongs to another process, holds nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from edgeemo.bundle.file_lock import NoLocksError, lock_file
from edgeemo.errors import BackendError

if TYPE_CHECKING:
    from types import TracebackType

log = logging.getLogger(__name__)
_POLL_S = 0.1


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: its process.
        started: when that process started, in the system's own count; empty where it cannot be told.
        since: when the lock was taken, UTC.
    """

    pid: int
    started: str
    since: str

    def is_alive(self) -> bool:
        """Tells whether the process that took the lock still runs; unknown counts as yes."""
        if not process_runs(self.pid):
            return False
        now = process_start(self.pid)
        return not self.started or not now or now == self.started

    def __str__(self) -> str:
        return f"process {self.pid} since {self.since[11:19] or '?'} UTC"


class PlanLock:
    """The right to build one plan, from `acquire` to `release`; a context manager once acquired.

    Args:
        place: the lock's file; its folder exists.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._descriptor: int | None = None

    def acquire(self, wait_s: float, stop: threading.Event | None = None) -> PlanLock:
        """Takes the lock, waiting up to ``wait_s`` seconds for whoever has it.

        Raises:
            BackendError: another process still has it, named with its start; or `stop` was set meanwhile.
            OSError: the folder cannot be written.
        """
        deadline = time.monotonic() + wait_s
        said = False
        while not self._try():
            holder = read_holder(self.place)
            if not said:
                log.info("waiting for %s, which builds the same plan", holder or "another process")
                said = True
            if time.monotonic() >= deadline:
                raise BackendError(
                    f"{self.place} is held by {holder or 'another process'}, which builds the same plan and "
                    f"has not finished after {wait_s:g} s; wait for it or end it"
                )
            if stop is not None and stop.wait(_POLL_S):
                raise BackendError("waiting for another builder of the same plan was cancelled")
            if stop is None:
                time.sleep(_POLL_S)
        return self

    def release(self) -> None:
        """Gives the lock back; nothing happens the second time."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)  # which frees the lock

    def __enter__(self) -> PlanLock:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _try(self) -> bool:
        descriptor = os.open(self.place, os.O_RDWR | os.O_CREAT, 0o644)
        before = read_holder(self.place)
        try:
            taken = lock_file(descriptor)
        except NoLocksError:
            taken = before is None or before.pid == os.getpid() or not before.is_alive()
        except OSError:
            os.close(descriptor)
            raise
        if not taken:
            os.close(descriptor)
            return False
        if before is not None:
            log.info("taking over the lock of %s, which ended without giving it back", before)
        said = {
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # only for messages: one that cannot be written down still holds the lock
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(said).encode())
        self._descriptor = descriptor
        return True


def read_holder(place: Path) -> Holder | None:
    """Returns who wrote itself into a lock's file, alive or not; None where it says nothing readable."""
    try:
        said = json.loads(place.read_bytes()[:4096])
        return Holder(int(said["pid"]), str(said["started"]), str(said["since"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def process_runs(pid: int) -> bool:
    """Tells whether there is a process of that number; unknown counts as yes."""
    if sys.platform == "win32":  # where asking would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def process_start(pid: int) -> str:
    """Returns when a process started, as clock ticks since boot; empty where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # proc(5): field 22, counted behind the command's name, which may hold anything but ends with the last ")"
    return text.rpartition(")")[2].split()[19]
