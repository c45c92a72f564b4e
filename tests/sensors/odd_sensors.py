"""Sensors whose devices do what drivers do in the field; a child process makes them by their recipe."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from edgeemo.sensors import Chunk, LiveSensor, Patience
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections import Device, Gone, Recipe
from edgeemo.sensors.queue import Policy

QUICK = Patience(deadline_s=0.5, reopen_s=0.8, open_s=20.0, first_wait_s=0.05, most_wait_s=0.1)


class OddSensor(LiveSensor):
    """A sensor that counts, and misbehaves after some numbers.

    Args:
        fault: what happens then: ``hang`` sleeps for ever, ``hold`` does so while it holds Python's lock,
            ``crash`` is a segmentation fault, ``raise`` an error, ``end`` is the end of the source,
            ``none`` nothing, ``flood`` is all at once; ``open`` hangs when it is opened, ``close`` when it
            is closed.
        after: how many numbers come before the fault.
        marks: a folder where each opening leaves a file with the process id; the fault happens in the first
            ``faulty`` of them.
        kind: ``text`` or ``frames``.
    """

    def __init__(
        self,
        fault: str,
        *,
        after: int = 5,
        marks: str,
        faulty: int = 1_000_000,
        kind: str = "text",
        policy: Policy = "drop-oldest",
        capacity: int = 200,
    ) -> None:
        modality = "video" if kind == "frames" else "text"
        super().__init__(
            modality, "odd", capacity=capacity, policy=policy, patience=QUICK, connection="process", seed=0
        )
        self.fault, self.after, self.faulty = fault, after, faulty
        self.marks, self.kind = Path(marks), kind

    def recipe(self) -> Recipe:
        options = {"fault": self.fault, "after": self.after, "marks": str(self.marks)}
        return Recipe(f"{__name__}:OddSensor", {**options, "faulty": self.faulty, "kind": self.kind})

    def open_device(self, clock: Clock) -> Device | Gone:
        (self.marks / f"{time.monotonic_ns()}").write_text(str(os.getpid()))
        os.write(1, b"a driver's chatter on standard output\n")
        if self.fault == "open":
            time.sleep(1e6)
        return _OddDevice(self, clock)

    @property
    def pids(self) -> list[int]:
        """The processes in which it was opened, oldest first."""
        return [int(mark.read_text() or 0) for mark in sorted(self.marks.iterdir())]


class _OddDevice:
    def __init__(self, sensor: OddSensor, clock: Clock) -> None:
        self._sensor, self._clock = sensor, clock
        self._fault = sensor.fault if len(sensor.pids) <= sensor.faulty else "none"
        self._count = 0

    def read(self) -> Chunk | Gone | None:
        self._count += 1
        if self._count > self._sensor.after:
            self._misbehave()
            if self._fault == "end":
                return Gone("lost", "it has ended", retry=False)
        if self._fault == "flood":
            return Chunk("text", self._clock(), str(self._count))
        time.sleep(0.02)
        if self._count % 4 == 0:
            self._sensor.count_losses(drops=1, overflows=2)
            return None
        if self._sensor.kind == "frames":
            return Chunk("video", self._clock(), frame_of(self._count))
        return Chunk("text", self._clock(), str(self._count))

    def close(self) -> None:
        (self._sensor.marks / f"{time.monotonic_ns()}").write_text("0")
        if self._fault == "close":
            time.sleep(1e6)

    def _misbehave(self) -> None:
        if self._fault == "hang":
            time.sleep(1e6)
        elif self._fault == "hold":
            ctypes.PyDLL(None).sleep(1_000_000)  # a C call that keeps Python's lock
        elif self._fault == "crash":
            print("the driver's last line", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        elif self._fault == "raise":
            raise OSError("the cable is gone")


def frame_of(number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The frame that the device gives at that count."""
    return np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
