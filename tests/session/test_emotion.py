"""The momentary emotion does not flicker and does not outlive its signal; coordinates are published ones."""

from __future__ import annotations

import pytest

from edgeemo.affect import COORDINATES, valence_arousal
from edgeemo.session.over_time.emotion import MomentaryEmotion

CALM, GLAD = [0.6, 0.4], [0.3, 0.7]


def test_a_small_lead_does_not_change_the_emotion() -> None:
    it = MomentaryEmotion(margin=0.3)
    it.update(CALM)
    it.update([0.45, 0.55])
    assert it.label == 0
    it.update(GLAD)
    assert it.label == 1


def test_without_a_signal_the_emotion_is_gone_at_once() -> None:
    it = MomentaryEmotion(margin=0.3)
    it.update(GLAD)
    it.update(None)
    assert it.label is None
    it.update([0.51, 0.49])
    assert it.label == 0, "what was shown before the gap has no hold on what comes after it"


def test_valence_and_arousal_are_expectations_over_published_coordinates() -> None:
    assert valence_arousal({"happy": 0.5, "neutral": 0.5}) == pytest.approx((0.405, 0.255))
    assert all(-1 <= value <= 1 for pair in COORDINATES.values() for value in pair)
    assert valence_arousal({"happy": 0.5, "bored": 0.5}) is None
