"""A device read in a daemon thread: what hangs is left behind and never holds up the session."""

from __future__ import annotations

import logging
import threading

from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections.base import Connection, Device, Gone, Receiver, Source, gone_from_error

log = logging.getLogger(__name__)


class ThreadConnection(Connection):
    """Opens, reads and closes the device in a thread of its own.

    A thread that hangs in a driver cannot be ended: it closes its device when the driver lets it go.
    """

    def __init__(self, source: Source, clock: Clock, receive: Receiver) -> None:
        super().__init__(source, clock, receive)
        self._thread = threading.Thread(target=self._run, name=f"edgeemo {source.name}", daemon=True)

    def begin(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """True if the thread has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return self.is_finished

    def _run(self) -> None:
        try:
            self.outcome = self._outcome()
        except Exception as error:  # whatever a driver raises becomes a status, and is tried again
            log.debug("%s failed", self._source.name, exc_info=True)
            self.outcome = gone_from_error(self._source.name, error)
        finally:
            self._finished.set()

    def _outcome(self) -> Gone:
        device = self._source.open_device(self._clock)
        if isinstance(device, Gone):
            return device
        try:
            self._opened(device)
            return self._read_from(device)
        finally:
            device.close()

    def _read_from(self, device: Device) -> Gone:
        while not self.is_stopped:
            got = device.read()
            if isinstance(got, Gone):
                return got
            if got is not None:
                self._receive(self, got)
        return self.outcome
