"""Run as a program in a fresh process: prints the devices of one kind as one line of JSON.

PortAudio lists devices once, when it starts, so a process that has been running for a while cannot know
what was plugged in since; a fresh one can. A driver or a package that hangs or crashes takes the child
with it and not the parent.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from edgeemo.errors import EdgeEmoError, InputError, MissingDependencyError
from edgeemo.sensors.listing.devices import Device
from edgeemo.sensors.opencv import load_cv2
from edgeemo.sensors.portaudio import input_devices, load_sounddevice
from edgeemo.sensors.registry import load_factory

_MOST_CAMERAS = 4
SENSOR = "sensor:"
"""What to ask for is this and a name, for the devices of a sensor that a package registers."""


def find_cameras() -> list[str]:
    """Opens cameras by number until one is not there, and returns the frame size of each in words."""
    cv2 = load_cv2()
    found: list[str] = []
    while len(found) < _MOST_CAMERAS:
        capture = cv2.VideoCapture(len(found))
        if not capture.isOpened():
            break
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        found.append(f"{width:.0f}x{height:.0f}")
        capture.release()
    return found


def find_microphones() -> list[dict[str, Any]]:
    """Returns the microphones as PortAudio sees them now."""
    return input_devices(load_sounddevice())


def find_devices_of(name: str) -> list[dict[str, Any]]:
    """Returns the devices that a registered sensor lists; empty where it lists none.

    Raises:
        EdgeEmoError: its code cannot be loaded, or what it lists is not a list of `Device`.
    """
    list_them = getattr(load_factory(name), "list_devices", None)
    if list_them is None:
        return []
    try:
        devices = list(list_them())
    except EdgeEmoError:
        raise
    except Exception as error:  # a package's own
        raise EdgeEmoError(f"it cannot list its devices: {type(error).__name__}: {error}") from error
    wrong = [device for device in devices if not isinstance(device, Device)]
    if wrong:
        raise EdgeEmoError(f"it lists a {type(wrong[0]).__name__}, not an edgeemo.sensors.Device")
    return [dataclasses.asdict(device) for device in devices]


FINDERS = {"microphones": find_microphones, "cameras": find_cameras}


def answer(what: str) -> dict[str, object]:
    """Returns ``{"found": [...]}``, ``{"missing": [feature, package, command]}`` or ``{"failed": why}``."""
    try:
        if what.startswith(SENSOR):
            return {"found": find_devices_of(what[len(SENSOR) :])}
        if what not in FINDERS:
            raise InputError(f"unknown kind of device {what!r}; there are: {', '.join(FINDERS)}")
        return {"found": FINDERS[what]()}
    except MissingDependencyError as error:
        return {"missing": [error.feature, error.package, error.command]}
    except EdgeEmoError as error:
        return {"failed": str(error)}


def main() -> None:
    """Prints the answer to what standard input asks for."""
    print("\n" + json.dumps(answer(sys.stdin.read().strip())))
