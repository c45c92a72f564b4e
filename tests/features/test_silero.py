"""Silero's detector is used where it is installed and asked for, and its absence says what to install."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from made_voice import made_voice

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.session import Settings
from edgeemo.session.streams.hearing import Hearing
from edgeemo.session.streams.silero import SileroVoice

installed = pytest.mark.skipif(find_spec("silero_vad") is None, reason="needs silero-vad")


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "silero_vad", raising=False)
    if find_spec("silero_vad") is not None:
        pytest.skip("silero-vad is installed where no path leads")
    with pytest.raises(MissingDependencyError, match="pip install --no-deps silero-vad"):
        Hearing(16000, Settings(voice_activity="silero"), window_s=4.0)


def test_another_detector_or_rate_is_refused() -> None:
    with pytest.raises(InputError, match="edgeemo, silero, off"):
        Settings(voice_activity="webrtc")
    with pytest.raises(InputError, match="8000 Hz"):
        SileroVoice(8000)


@installed
@pytest.mark.parametrize("chunk", [100, 1600, 50000])
def test_it_is_the_same_for_every_chunking_and_needs_no_torch(chunk: int) -> None:
    sound = np.concatenate([np.zeros(16000, np.float32), made_voice(2.0)])
    found: list[bool] = []
    detector = SileroVoice(16000)
    for at in range(0, len(sound), chunk):
        found += detector.push(sound[at : at + chunk])
    assert len(found) == 30
    assert not any(found[:9])
    assert found == SileroVoice(16000).push(sound)
    assert "silero_vad" not in sys.modules
