"""What ships inside the package: the default bundle and the recording of the demo."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).resolve().parent / "assets"
DEFAULT_BUNDLE = _ASSETS / "live"
"""The bundle of a session that is given none."""
RECORDING = _ASSETS / "demo.mp4"
"""Fourteen seconds of a talking face with captions, made for `edgeemo demo`."""
