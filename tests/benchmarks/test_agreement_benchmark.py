"""The scores that the agreement benchmark compares are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.agreement.scores import DIFFER, DIVERGENCE, SHIPPED, area_under_roc, scores_from_logits
from edgeemo.session.over_time.agreement import contradiction_of, shares_from_evidence


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    assert area_under_roc(scores, positive) == pytest.approx((np.sign(pairs) / 2 + 0.5).mean())
    assert area_under_roc(positive.astype(float), positive) == 1.0
    assert area_under_roc(np.zeros(60), positive) == 0.5


def test_every_score_puts_contradiction_above_agreement() -> None:
    same, other = np.array([3.0, 0.0, 0.0]), np.array([0.0, 3.0, 0.0])
    logits = {"audio": np.stack([same, same]), "video": np.stack([same, other])}
    scores = scores_from_logits(logits, {"audio": 1.0, "video": 2.0})
    for name in (SHIPPED, DIVERGENCE, DIFFER):
        assert 0 <= scores[name][0] < scores[name][1] <= 1
    audio, video = (dict(zip("abc", map(float, row), strict=True)) for row in (same, other))
    shares = shares_from_evidence({"audio": audio}, temperature=1.0)
    shares |= shares_from_evidence({"video": video}, temperature=2.0)
    assert scores[SHIPPED][1] == contradiction_of(shares)
