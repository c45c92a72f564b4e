"""The baselines of the swap benchmark are written correctly, and its drops are judged as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.swap.accuracy_tables import AVERAGE, LATE, MASKED, OWN, verdict
from benchmarks.swap.dropped import half_life_readings, judge_drop
from benchmarks.swap.intervals import accuracies, interval, mean_recalls, pigeonhole_weights
from benchmarks.swap.pooling import fit_weights, half_life_shares, pooled_shares
from benchmarks.swap.triples import CORPORA, Items, draw_triples
from edgeemo.errors import EdgeEmoError

PRIOR = np.array([0.5, 0.3, 0.2])


def evidence(rng: np.random.Generator, labels: np.ndarray, *, flips: float) -> np.ndarray:
    """Log likelihoods (N, 3) of a sensor that names the label, or with `flips` one of the others."""
    wrong = rng.random(len(labels)) < flips
    seen = np.where(wrong, (labels + rng.integers(1, 3, len(labels))) % 3, labels)
    table = np.full((3, 3), flips / 2) + (1 - 1.5 * flips) * np.eye(3)
    logs: np.ndarray = np.log(table.T[seen])
    return logs


def test_pooling_is_bayes_rule_where_the_members_are_independent_given_the_label() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=1000, p=PRIOR)
    one, other = evidence(rng, labels, flips=0.3), evidence(rng, labels, flips=0.4)
    exact = PRIOR * np.exp(one) * np.exp(other)
    exact /= exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled_shares([one, other], np.ones(2), PRIOR), exact, atol=1e-12)
    # A constant of each row, such as the normaliser of a posterior, changes nothing.
    shifted = one + rng.normal(size=(1000, 1))
    np.testing.assert_allclose(pooled_shares([shifted, other], np.ones(2), PRIOR), exact, atol=1e-12)


def test_weights_undo_temperatures_and_leave_out_what_says_nothing() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(3, size=20000, p=PRIOR)
    one, other = evidence(rng, labels, flips=0.3), evidence(rng, labels, flips=0.4)
    liar = -evidence(rng, labels, flips=0.5)
    weights = fit_weights([one * 4, other / 2, liar], labels, PRIOR)
    assert weights[2] == 0
    assert weights[:2] == pytest.approx([0.25, 2.0], rel=0.06)
    assert fit_weights([one * 4], labels, PRIOR) == pytest.approx([0.25], rel=0.06)
    noise = rng.normal(size=one.shape)
    assert fit_weights([one, noise], labels, PRIOR) == pytest.approx([1.0, 0.0], abs=0.06)


def test_half_lives_halve_and_leave_the_last_one_at_full_weight() -> None:
    face, voice = np.array([[0.9, 0.1]]), np.array([[0.3, 0.7]])
    mixed = half_life_shares({"video": face, "audio": voice}, {"video": 5.0, "audio": 0.0}, 5.0)
    np.testing.assert_allclose(mixed, (face / 2 + voice) / 1.5)
    np.testing.assert_array_equal(half_life_shares({"video": face}, {"video": 36000.0}, 5.0), face)


def test_readings_that_still_use_a_dead_modality_are_counted() -> None:
    # 2^(-age) / (2^(-age) + 2) falls under 1 % at an age of 5.63 s: readings at 0.25, 0.75, ... 5.25
    assert half_life_readings(120, 0.5, 0.25, others=2, half_life_s=1.0) == 11
    assert half_life_readings(120, 0.5, 0.25, others=0, half_life_s=1.0) == 120


def test_shared_items_make_the_interval_wide() -> None:
    rng = np.random.default_rng(2)
    hits = rng.random(400) < 0.5
    own = pigeonhole_weights({"audio": np.arange(400)}, replicates=500, seed=0)
    assert own.sum(axis=1) == pytest.approx(np.full(500, 400.0))
    few = pigeonhole_weights({"audio": np.arange(400), "video": np.arange(400) % 8}, replicates=500, seed=0)
    by_face = np.repeat(rng.random(8) < 0.5, 50).reshape(8, 50).T.ravel()  # what is right depends on the face
    narrow, wide = (np.std(accuracies(by_face, weights)) for weights in (own, few))
    assert wide > 2 * narrow
    assert np.std(accuracies(hits, own)) == pytest.approx(0.5 / 20, rel=0.15)
    assert interval(np.linspace(0, 1, 1001)) == pytest.approx((0.025, 0.975))


def test_mean_recall_counts_labels_alike() -> None:
    hits, labels = np.array([True, True, True, False]), np.array([0, 0, 0, 1])
    assert mean_recalls(hits, labels, np.ones((1, 4))) == pytest.approx([0.5])
    assert accuracies(hits, np.array([[1.0, 1.0, 1.0, 3.0]])) == pytest.approx([0.5])


def items(modality: str, labels: list[int], half: list[int], corpus: list[int] | None = None) -> Items:
    count = len(labels)
    assert modality in CORPORA
    return Items(
        np.zeros((count, 2, 3), np.float32),
        np.ones((count, 2), np.float32),
        np.array(labels),
        np.array(corpus or [0] * count),
        np.array(half),
    )


def test_the_members_of_a_triple_share_the_label_and_the_half() -> None:
    banks = {
        "audio": items("audio", [0, 1, 0, 1, 0], [0, 0, 1, 1, 0], [0, 0, 1, 2, 1]),
        "video": items("video", [0, 0, 1, 1], [0, 1, 0, 1]),
        "text": items("text", [1, 0, 0, 1], [0, 0, 1, 1]),
    }
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=300)
    for half in (0, 1):
        drawn = draw_triples(banks, labels, half=half, rng=rng)
        for name, own in banks.items():
            assert (own.labels[drawn.rows[name]] == labels).all()
            assert (own.half[drawn.rows[name]] == half).all()
    first = draw_triples(banks, np.zeros(3000, np.int64), half=0, rng=rng)
    # Two data sets of the same share have the label in this half, with one item each.
    assert np.mean(first.rows["audio"] == 0) == pytest.approx(0.5, abs=0.04)
    with pytest.raises(ValueError, match="half 0 of audio has no item with label 2"):
        draw_triples(banks, np.array([2]), half=0, rng=rng)


def test_a_drop_is_judged_by_what_its_readings_used() -> None:
    full, rest = "audio+video", "audio"
    readings = [(10.5, full), (11.0, rest), (11.5, rest)]
    drop = judge_drop(readings, at_s=10.2, before=full, after=rest, limit_s=1.0)
    assert drop.gap_s == pytest.approx(0.8)
    assert (drop.hops, drop.stale, drop.wrong) == (1, 0, 0)
    late = [(10.5, full), (11.0, "video"), (11.5, full), (12.0, rest)]
    drop = judge_drop(late, at_s=10.2, before=full, after=rest, limit_s=1.0)
    assert drop.gap_s == pytest.approx(1.8)
    assert (drop.hops, drop.stale, drop.wrong) == (2, 1, 1)
    with pytest.raises(EdgeEmoError, match="no reading went over from audio\\+video to audio"):
        judge_drop(readings[:1], at_s=10.2, before=full, after=rest, limit_s=1.0)


def test_the_page_says_where_a_baseline_is_level_or_ahead() -> None:
    def gap(low: float, high: float) -> dict[str, dict[str, float]]:
        return {"accuracy": {"mean": (low + high) / 2, "low": low, "high": high}}

    def figures(late: tuple[float, float]) -> dict[str, dict[str, dict[str, float]]]:
        return {
            f"{OWN} minus {LATE}": gap(*late),
            f"{OWN} minus {MASKED}": gap(0.01, 0.02),
            f"{OWN} minus {AVERAGE}": gap(0, 0),
        }

    said = verdict(
        {
            "audio": figures((0, 0)),
            "audio+video": figures((-0.03, -0.01)),
            "audio+text": figures((-0.01, 0.03)),
            "video+text": figures((0.01, 0.02)),
        }
    )
    assert (
        "Late fusion, calibrated log-linear: behind for video+text +1.5; level for audio+text +1.0; "
        "ahead for audio+video -2.0." in said
    )
    assert "for what is missing: behind for audio +1.5, audio+video +1.5" in said
