"""Gated and ungated sessions hear the same scenes, and what they differ in is counted as it is."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="needs OpenCV")

from made_voice import made_voice

from benchmarks.gating import sound
from benchmarks.gating.sound import Hop, hear
from edgeemo.bundle import Bundle
from edgeemo.session import Settings
from edgeemo.shipped import DEFAULT_BUNDLE
from edgeemo.training.live.gate_scenes import CLEAN, OPEN, Item


def item() -> Item:
    bundle = Bundle.open(DEFAULT_BUNDLE)
    video, text = bundle.manifest.modality("video"), bundle.manifest.modality("text")
    face = np.zeros((1, video.window.length, video.feature_width), np.float32)
    words = np.zeros((1, text.window.length, text.feature_width), np.float32), np.zeros((1, 32), np.float32)
    return Item(0, made_voice(3.0, noise=0.0), face, "the train leaves at ten", words, 2.0)


def test_gates_close_without_a_voice_and_open_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "conditions", lambda: [CLEAN])
    bundle, items = Bundle.open(DEFAULT_BUNDLE), [item()]
    opened = hear(bundle, items, [], OPEN, companions=True)
    gated = hear(bundle, items, [], Settings(), companions=True)
    assert [hop.phase for hop in opened] == [hop.phase for hop in gated]
    assert all(hop.live and hop.right is not None for hop in opened)
    assert not any(hop.live for hop in gated if hop.phase == "before")
    assert all(hop.why.startswith("no voice") for hop in gated if hop.phase == "before")
    assert [hop.live for hop in gated if hop.phase == "during"][-4:] == [True] * 4
    alone = hear(bundle, items, [], Settings(), companions=False)
    assert [hop.right is None for hop in alone] == [not hop.live for hop in alone]


def test_the_interval_is_that_of_scenes() -> None:
    before = [Hop(CLEAN, at, "during", 1.0, True, at % 2 == 0, "") for at in range(40)]
    after = [Hop(CLEAN, at, "during", 1.0, True, True, "") for at in range(40)]
    low, high = sound._interval(before, after)
    assert 0.3 < low < 0.5 < high < 0.7
    assert sound._interval(before, before) == (0.0, 0.0)
