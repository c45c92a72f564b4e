"""A device read by whoever polls: for devices that never block, on a clock that may be virtual."""

from __future__ import annotations

import logging

from edgeemo.sensors.connections.base import Connection, Device, Gone, gone_from_error

log = logging.getLogger(__name__)

_MOST_READS = 10_000  # in one poll; a device that always has more gives the rest to the next


class InlineConnection(Connection):
    """Opens the device when it begins and reads it in `pump`, until it has nothing more that is due.

    Everything happens in the thread that polls, in the same order every time. A device that hangs is one
    that has nothing for ever.
    """

    _device: Device | None = None
    _watched_s: float | None = None

    def begin(self) -> None:
        """Opens the device, here and now."""
        try:
            device = self._source.open_device(self._clock)
        except Exception as error:  # whatever a driver raises becomes a status, and is tried again
            log.debug("%s failed", self._source.name, exc_info=True)
            device = gone_from_error(self._source.name, error)
        if isinstance(device, Gone):
            self._end(device)
            return
        self._device = device
        self._opened(device)

    @property
    def watched_s(self) -> float | None:
        """When it was read before: data that waited in the device since is no silence."""
        return self.started_s if self._watched_s is None else self._watched_s

    def pump(self) -> None:
        """Reads all that is due."""
        self._read_all()
        self._watched_s = self._clock()

    def _read_all(self) -> None:
        for _ in range(_MOST_READS):
            if self._device is None or self.is_stopped or self.waits:
                return
            try:
                got = self._device.read()
            except Exception as error:
                log.debug("%s failed", self._source.name, exc_info=True)
                got = gone_from_error(self._source.name, error)
            if got is None:
                return
            if isinstance(got, Gone):
                self._end(got)
            else:
                self._receive(self, got)

    def stop(self) -> None:
        """Closes the device, here and now."""
        super().stop()
        self._end(self.outcome)

    def _end(self, outcome: Gone) -> None:
        device, self._device = self._device, None
        self.outcome = outcome
        if device is not None:
            try:
                device.close()
            except Exception:  # it is given up in any case
                log.debug("%s failed to close", self._source.name, exc_info=True)
        self._finished.set()
