"""What this machine can sense with: devices, what works, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from edgeemo.errors import EdgeEmoError, MissingDependencyError
from edgeemo.sensors.media import load_av
from edgeemo.sensors.opencv import load_cv2
from edgeemo.sensors.video_nodes import list_video_nodes

_ASK_S = 20.0


@dataclass(frozen=True)
class Device:
    """One microphone or camera.

    Attributes:
        key: what to pass to ``--mic`` or ``--camera``.
        name: as the system calls it.
        detail: what else is known, in words.
        default: the one that is used when none is asked for.
    """

    key: str
    name: str
    detail: str
    default: bool


@dataclass(frozen=True)
class DeviceGroup:
    """All devices of one kind.

    Attributes:
        kind: ``microphones``, ``cameras``, ``media files`` or ``text``.
        works: whether a sensor of this kind can be opened here and now.
        why: one sentence.
        install: the command that gets what is missing, None if nothing is.
        devices: those found.
    """

    kind: str
    works: bool
    why: str
    install: str | None = None
    devices: tuple[Device, ...] = ()


def list_devices() -> list[DeviceGroup]:
    """Returns microphones, cameras, media files and text, each with what works and what is missing.

    Microphones are asked for in a child process, because PortAudio freezes its list when it starts; so are
    cameras where the system does not list them (they are opened for a moment then). Takes about a second.
    """
    return [
        _microphones(),
        _cameras(),
        _media_files(),
        DeviceGroup("text", True, "words from standard input"),
    ]


def _microphones() -> DeviceGroup:
    kind = "microphones"
    try:
        found = _ask_child("microphones")
    except MissingDependencyError as error:
        return DeviceGroup(kind, False, f"{error.package} is not installed", error.command)
    except EdgeEmoError as error:
        return DeviceGroup(kind, False, str(error))
    devices = tuple(
        Device(
            str(device["index"]),
            device["name"],
            f"{device['api']}, {device['max_input_channels']} channels, {device['default_samplerate']:g} Hz",
            device["default"],
        )
        for device in found
    )
    return DeviceGroup(kind, bool(devices), _found(devices, "PortAudio sees no input"), None, devices)


def _cameras() -> DeviceGroup:
    kind = "cameras"
    try:
        load_cv2()
    except MissingDependencyError as error:
        devices = _linux_cameras()
        why = f"{error.package} is not installed; {_found(devices, 'no camera is connected')}"
        return DeviceGroup(kind, False, why, error.command, devices)
    if sys.platform == "linux":
        devices = _linux_cameras()
    else:
        try:
            found = _ask_child("cameras")
        except EdgeEmoError as error:
            return DeviceGroup(kind, False, str(error))
        devices = tuple(Device(str(n), f"camera {n}", detail, n == 0) for n, detail in enumerate(found))
    return DeviceGroup(kind, bool(devices), _found(devices, "no camera is connected"), None, devices)


def _linux_cameras() -> tuple[Device, ...]:
    nodes = list_video_nodes()
    return tuple(
        Device(str(node.number), node.name, node.stable_path or f"/dev/video{node.number}", index == 0)
        for index, node in enumerate(nodes)
    )


def _media_files() -> DeviceGroup:
    try:
        load_av()
    except MissingDependencyError as error:
        return DeviceGroup("media files", False, f"{error.package} is not installed", error.command)
    return DeviceGroup("media files", True, f"read with PyAV {importlib.metadata.version('av')}")


def _found(devices: tuple[Device, ...], none: str) -> str:
    return f"{len(devices)} found" if devices else none


def _ask_child(what: str) -> list[Any]:
    """Returns what `edgeemo.sensors.ask` finds in a fresh process.

    Raises:
        MissingDependencyError: the library is missing there.
        EdgeEmoError: the child failed or hung; the message says how.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-m", "edgeemo.sensors.ask", what],
            capture_output=True,
            timeout=_ASK_S,
            check=False,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeEmoError(f"the system did not list its {what}: {error}") from None
    try:
        answer = json.loads(child.stdout.splitlines()[-1])  # libraries may have printed before
    except (IndexError, ValueError):
        last = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EdgeEmoError(f"the system did not list its {what}: exit {child.returncode}, {last}") from None
    if "missing" in answer:
        raise MissingDependencyError(*answer["missing"])
    if "failed" in answer:
        raise EdgeEmoError(answer["failed"])
    found: list[Any] = answer["found"]
    return found
