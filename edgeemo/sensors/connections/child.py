"""Runs in a child process: opens one device, reads it, and hands everything to the parent through a pipe.

The child ends when the parent closes its standard input, which the death of the parent does as well; where
a driver holds it up, it ends all the same. Ctrl-C on the terminal is the parent's affair.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING, Any

from edgeemo.sensors.connections.base import Device, Gone, gone_from_error
from edgeemo.sensors.connections.wire import Kind, Message, message_from_chunk, write_message
from edgeemo.sensors.supervision import Patience

if TYPE_CHECKING:
    from edgeemo.sensors.live import LiveSensor

_LET_GO_S = 0.3  # what a driver gets to release the device in good order
_PIPE_BYTES = 1 << 20  # a frame of 640x480 fits; the system's own 64 kB take 15 turns of both processes
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python has the name from 3.10 on, not on every system


def main() -> None:
    """Does what the first line of standard input says, until standard input ends."""
    wire = _take_over_stdout()
    told = json.loads(_first_line())
    _end_with_parent(told["parent"])
    stop = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    try:
        gone = _serve(told, wire, stop)
        write_message(wire, Message(Kind.GONE, meta=vars(gone)))
    except OSError:
        pass  # nobody reads any more
    sys.stderr.flush()
    os._exit(0)  # no libraries' own farewells, some of which wait for a server that is gone


def _serve(told: dict[str, Any], wire: FileIO, stop: threading.Event) -> Gone:
    name = told["target"]
    try:
        module, _, attribute = name.partition(":")
        sensor: LiveSensor = getattr(importlib.import_module(module), attribute)(**told["options"])
        sensor.patience = Patience(**told["patience"])
        name = sensor.name
        device = sensor.open_device(time.monotonic)
    except Exception as error:  # whatever a driver raises becomes a status of the parent's sensor
        return gone_from_error(name, error)
    if isinstance(device, Gone):
        return device
    about = {
        "declared_rate": getattr(device, "declared_rate", None),
        "about": dict(getattr(device, "about", {})),
    }
    write_message(wire, Message(Kind.OPENED, meta=about))
    try:
        return _hand_over(sensor, device, wire, stop)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return gone_from_error(name, error)
    except Exception as error:
        return gone_from_error(name, error)
    finally:
        device.close()


def _hand_over(sensor: LiveSensor, device: Device, wire: FileIO, stop: threading.Event) -> Gone:
    while not stop.is_set():
        got = device.read()
        drops, overflows = sensor.take_losses()
        if isinstance(got, Gone):
            if drops or overflows:
                write_message(wire, Message(Kind.LOSSES, drops=drops, overflows=overflows))
            return got
        if got is not None:
            write_message(wire, message_from_chunk(got, drops=drops, overflows=overflows))
        elif drops or overflows:
            write_message(wire, Message(Kind.LOSSES, drops=drops, overflows=overflows))
    return Gone("lost", f"{sensor.name} stopped")


def _take_over_stdout() -> FileIO:
    """Returns the pipe to the parent; what libraries print goes to standard error from now on."""
    wire = FileIO(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # more than this user may have: slower, not worse
            fcntl.fcntl(wire.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)
    return wire


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            os._exit(0)
        line += piece
    return line


def _end_with_parent(parent: int) -> None:
    """Has the kernel end this process with its parent, even while a driver holds Python's lock."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os._exit(0)


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(0, 64):
        pass
    stop.set()
    time.sleep(_LET_GO_S)
    os._exit(0)
