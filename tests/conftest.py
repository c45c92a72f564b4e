"""Fixtures for what only some machines have: the shared data, PortAudio."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("EDGEEMO_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; the test skips where it is absent."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip("needs the shared data folder beside the project")
    return data


@pytest.fixture(scope="session")
def portaudio() -> None:
    """Skips where sounddevice or its PortAudio library is missing."""
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError) as reason:
        pytest.skip(f"needs PortAudio: {reason}")
