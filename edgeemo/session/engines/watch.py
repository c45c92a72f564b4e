"""A thread that looks at a bundle's manifest now and then and says when it is another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from edgeemo.bundle.store import MANIFEST
from edgeemo.errors import InputError, SessionClosedError


class Watch:
    """Looks at a bundle until `stop` is set.

    The first look counts as a change, so that nothing is missed between opening and watching.

    Args:
        folder: the bundle's folder.
        changed: called when ``manifest.json`` is another file than before, or none any more.
        every_s: seconds between two looks.
        stop: ends the watch when it is set.

    Raises:
        InputError: `every_s` is not positive.
    """

    def __init__(
        self, folder: Path, changed: Callable[[], object], *, every_s: float, stop: threading.Event
    ) -> None:
        if not 0 < every_s < threading.TIMEOUT_MAX:
            raise InputError(f"every_s must be a positive number of seconds, got {every_s}")
        self._manifest = folder / MANIFEST
        self._changed, self._every_s, self._stop = changed, every_s, stop
        self._thread = threading.Thread(target=self._look, name="edgeemo-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits for the end of the thread; set `stop` first."""
        self._thread.join()

    def _look(self) -> None:
        seen: tuple[int, ...] = ()
        while not self._stop.is_set():
            now = self._identity()
            if now != seen:
                seen = now
                try:
                    self._changed()
                except SessionClosedError:
                    return
            self._stop.wait(self._every_s)

    def _identity(self) -> tuple[int, ...]:
        """Returns what changes whenever the manifest is replaced; zeros where there is none."""
        try:
            status = self._manifest.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_ino, status.st_mtime_ns, status.st_size)
