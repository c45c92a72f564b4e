"""edgeemo: emotion recognition on the device that keeps working when sensors fail.

Names load when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeemo.bundle import Bundle
    from edgeemo.errors import EdgeEmoError
    from edgeemo.sensors import Camera, MediaFile, Microphone, TextQueue
    from edgeemo.sensors.drop import Drop
    from edgeemo.session import NO_SIGNAL, EngineOptions, Reading, Session, Settings, State

_HOMES = {
    "NO_SIGNAL": "edgeemo.session",
    "Bundle": "edgeemo.bundle",
    "Camera": "edgeemo.sensors",
    "Drop": "edgeemo.sensors.drop",
    "EdgeEmoError": "edgeemo.errors",
    "EngineOptions": "edgeemo.session",
    "MediaFile": "edgeemo.sensors",
    "Microphone": "edgeemo.sensors",
    "Reading": "edgeemo.session",
    "Session": "edgeemo.session",
    "Settings": "edgeemo.session",
    "State": "edgeemo.session",
    "TextQueue": "edgeemo.sensors",
}

__version__ = "0.1.0"
__all__ = [
    "NO_SIGNAL",
    "Bundle",
    "Camera",
    "Drop",
    "EdgeEmoError",
    "EngineOptions",
    "MediaFile",
    "Microphone",
    "Reading",
    "Session",
    "Settings",
    "State",
    "TextQueue",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgeemo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
