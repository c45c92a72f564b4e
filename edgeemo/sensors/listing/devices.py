"""What this machine can sense with: devices, what works, what is missing and how to get it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from edgeemo.errors import EdgeEmoError, MissingDependencyError
from edgeemo.sensors.connections.python import child_command
from edgeemo.sensors.listing.video_nodes import list_video_nodes
from edgeemo.sensors.opencv import has_gstreamer, load_cv2
from edgeemo.sensors.recordings.decoding import load_av
from edgeemo.sensors.registry import RegisteredSensor, registered_sensors

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
        kind: ``microphones``, ``cameras``, ``media files``, ``text``, ``test patterns``, or ``sensor`` and
            the name of one that a package registers.
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
    """Returns what can be sensed with here, each kind with what works and what is missing.

    Microphones are asked for in a child process, because PortAudio freezes its list when it starts; so are
    cameras where the system does not list them (they are opened for a moment then), and what packages
    register. Takes about a second.
    """
    return [
        _microphones(),
        _cameras(),
        _media_files(),
        DeviceGroup("text", True, "words from standard input"),
        DeviceGroup("test patterns", True, "a scale and colour bars: --mic pattern, --camera pattern"),
        *map(_registered, registered_sensors()),
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
        cv2 = load_cv2()
    except MissingDependencyError as error:
        devices = _linux_cameras()
        why = f"{error.package} is not installed; {_found(devices, 'no camera is connected')}"
        return DeviceGroup(kind, False, why, error.command, devices)
    pipelines = "" if has_gstreamer(cv2) else "; no pipelines: this OpenCV has no GStreamer"
    if sys.platform == "linux":
        devices = _linux_cameras()
    else:
        try:
            found = _ask_child("cameras")
        except EdgeEmoError as error:
            return DeviceGroup(kind, False, str(error))
        devices = tuple(Device(str(n), f"camera {n}", detail, n == 0) for n, detail in enumerate(found))
    why = _found(devices, "no camera is connected") + pipelines
    return DeviceGroup(kind, bool(devices), why, None, devices)


def _linux_cameras() -> tuple[Device, ...]:
    nodes = list_video_nodes()
    return tuple(
        Device(str(node.number), node.name, node.stable_path or f"/dev/video{node.number}", index == 0)
        for index, node in enumerate(nodes)
    )


def _registered(sensor: RegisteredSensor) -> DeviceGroup:
    kind = f"sensor {sensor.name}"
    if sensor.problem:
        return DeviceGroup(kind, False, sensor.problem)
    try:
        found = _ask_child(f"sensor:{sensor.name}")
    except MissingDependencyError as error:
        return DeviceGroup(kind, False, f"{error.package} is not installed", error.command)
    except EdgeEmoError as error:
        return DeviceGroup(kind, False, str(error))
    devices = tuple(Device(**device) for device in found)
    return DeviceGroup(kind, True, f"registered by {sensor.package}", None, devices)


def _media_files() -> DeviceGroup:
    try:
        load_av()
    except MissingDependencyError as error:
        return DeviceGroup("media files", False, f"{error.package} is not installed", error.command)
    return DeviceGroup("media files", True, f"read with PyAV {importlib.metadata.version('av')}")


def _found(devices: tuple[Device, ...], none: str) -> str:
    return f"{len(devices)} found" if devices else none


def _ask_child(what: str) -> list[Any]:
    """Returns what `edgeemo.sensors.listing.ask` finds in a fresh process.

    Raises:
        MissingDependencyError: the library is missing there.
        EdgeEmoError: the child failed or hung; the message says how.
    """
    name = what.removeprefix("sensor:")
    whose = what if name == what else f"the devices of sensor {name!r}"
    try:
        child = subprocess.run(
            child_command("edgeemo.sensors.listing.ask"),
            input=what,
            capture_output=True,
            timeout=_ASK_S,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise EdgeEmoError(f"{whose} could not be listed: no answer within {_ASK_S:g} s") from None
    except OSError as error:
        raise EdgeEmoError(f"{whose} could not be listed: {error}") from None
    try:
        answer = json.loads(child.stdout.splitlines()[-1])  # libraries may have printed before
    except (IndexError, ValueError):
        last = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EdgeEmoError(f"{whose} could not be listed: exit {child.returncode}, {last}") from None
    if "missing" in answer:
        raise MissingDependencyError(*answer["missing"])
    if "failed" in answer:
        raise EdgeEmoError(answer["failed"])
    found: list[Any] = answer["found"]
    return found
