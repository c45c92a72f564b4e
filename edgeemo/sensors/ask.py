"""Run as a program in a fresh process: prints the devices of one kind as one line of JSON.

PortAudio lists devices once, when it starts, so a process that has been running for a while cannot know
what was plugged in since; a fresh one can. A driver that hangs hangs the child and not the parent.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from edgeemo.errors import EdgeEmoError, InputError, MissingDependencyError
from edgeemo.sensors.opencv import load_cv2
from edgeemo.sensors.portaudio import input_devices, load_sounddevice

_MOST_CAMERAS = 4


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


FINDERS = {"microphones": find_microphones, "cameras": find_cameras}


def main(what: str) -> None:
    """Prints ``{"found": [...]}``, ``{"missing": [feature, package, command]}`` or ``{"failed": why}``."""
    answer: dict[str, object]
    try:
        if what not in FINDERS:
            raise InputError(f"unknown kind of device {what!r}; there are: {', '.join(FINDERS)}")
        answer = {"found": FINDERS[what]()}
    except MissingDependencyError as error:
        answer = {"missing": [error.feature, error.package, error.command]}
    except EdgeEmoError as error:
        answer = {"failed": str(error)}
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
