"""The momentary emotion does not flicker, the mood lasts, and neither survives its evidence."""

from __future__ import annotations

import numpy as np
import pytest

from edgeemo.affect import COORDINATES, valence_arousal
from edgeemo.session.smoothing import Smoother

CALM, GLAD = np.array([0.6, 0.4]), np.array([0.3, 0.7])


def smoother() -> Smoother:
    return Smoother(labels=2, margin=0.3, tau_s=10.0)


def test_a_small_lead_does_not_change_the_emotion() -> None:
    it = smoother()
    it.update(CALM, at_s=0.5, hop_s=0.5)
    it.update(np.array([0.45, 0.55]), at_s=1.0, hop_s=0.5)
    assert it.emotion == 0
    it.update(GLAD, at_s=1.5, hop_s=0.5)
    assert it.emotion == 1


def test_without_a_signal_the_emotion_is_gone_at_once() -> None:
    it = smoother()
    it.update(GLAD, at_s=0.5, hop_s=0.5)
    it.update(None, at_s=1.0, hop_s=0.5)
    assert it.emotion is None


def test_a_flash_changes_the_emotion_and_not_the_mood() -> None:
    it = smoother()
    for hop in range(20):
        it.update(CALM, at_s=hop / 2, hop_s=0.5)
    it.update(GLAD, at_s=10.0, hop_s=0.5)
    assert it.emotion == 1
    assert it.mood is not None
    assert it.mood.argmax() == 0
    assert it.mood.sum() == pytest.approx(1.0)


def test_the_mood_fades_on_capture_time() -> None:
    it = smoother()
    for hop in range(20):
        it.update(CALM, at_s=hop / 2, hop_s=0.5)
    it.update(None, at_s=12.0, hop_s=0.5)
    assert it.mood is not None
    it.update(None, at_s=60.0, hop_s=0.5)
    assert it.mood is None


def test_valence_and_arousal_are_expectations_over_published_coordinates() -> None:
    assert valence_arousal({"happy": 0.5, "neutral": 0.5}) == pytest.approx((0.405, 0.255))
    assert all(-1 <= value <= 1 for pair in COORDINATES.values() for value in pair)
    assert valence_arousal({"happy": 0.5, "bored": 0.5}) is None
