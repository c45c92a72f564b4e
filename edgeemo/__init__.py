"""edgeemo: emotion recognition on the device that keeps working when sensors fail.

Names load when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# onnxruntime 1.29 and newer sends usage data to its maker unless this is set before it is first imported; its
# sender also hangs a forked process at its end. Whoever wants it sets ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edgeemo.bundle import Bundle
    from edgeemo.clock import VirtualClock
    from edgeemo.errors import (
        BackendError,
        BundleError,
        EdgeEmoError,
        InputError,
        MissingDependencyError,
        NoticeError,
        ReloadError,
        SensorError,
        SessionClosedError,
        SubsetError,
    )
    from edgeemo.sensors import Camera, MediaFile, Microphone, TextQueue
    from edgeemo.sensors.drop import Drop
    from edgeemo.session import (
        NO_SIGNAL,
        EngineOptions,
        Event,
        EventKind,
        FaceReading,
        Reading,
        Session,
        SessionStats,
        Settings,
        State,
    )

_HOMES = {
    "BackendError": "edgeemo.errors",
    "Bundle": "edgeemo.bundle",
    "BundleError": "edgeemo.errors",
    "Camera": "edgeemo.sensors",
    "Drop": "edgeemo.sensors.drop",
    "EdgeEmoError": "edgeemo.errors",
    "EngineOptions": "edgeemo.session",
    "Event": "edgeemo.session",
    "EventKind": "edgeemo.session",
    "FaceReading": "edgeemo.session",
    "InputError": "edgeemo.errors",
    "MediaFile": "edgeemo.sensors",
    "Microphone": "edgeemo.sensors",
    "MissingDependencyError": "edgeemo.errors",
    "NO_SIGNAL": "edgeemo.session",
    "NoticeError": "edgeemo.errors",
    "Reading": "edgeemo.session",
    "ReloadError": "edgeemo.errors",
    "SensorError": "edgeemo.errors",
    "Session": "edgeemo.session",
    "SessionClosedError": "edgeemo.errors",
    "SessionStats": "edgeemo.session",
    "Settings": "edgeemo.session",
    "State": "edgeemo.session",
    "SubsetError": "edgeemo.errors",
    "TextQueue": "edgeemo.sensors",
    "VirtualClock": "edgeemo.clock",
}

__version__ = "0.1.0"
__all__ = [
    "NO_SIGNAL",
    "BackendError",
    "Bundle",
    "BundleError",
    "Camera",
    "Drop",
    "EdgeEmoError",
    "EngineOptions",
    "Event",
    "EventKind",
    "FaceReading",
    "InputError",
    "MediaFile",
    "Microphone",
    "MissingDependencyError",
    "NoticeError",
    "Reading",
    "ReloadError",
    "SensorError",
    "Session",
    "SessionClosedError",
    "SessionStats",
    "Settings",
    "State",
    "SubsetError",
    "TextQueue",
    "VirtualClock",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgeemo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
