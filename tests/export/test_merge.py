"""Merging: the merged product is the unmerged one, to the tolerance that fp32 allows and no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeemo.export import Checkpoint
from edgeemo.export.adapters.merge import Adapter, LowRankPair, add_low_rank, merge_adapters
from edgeemo.modality import subset_members

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
UNIT = float(np.finfo(np.float32).eps) / 2  # one rounding to float32 is off by at most this, relatively


def random_pair(rng: np.random.Generator, out: int, inner: int, rank: int, scale: float) -> LowRankPair:
    return LowRankPair(
        a=rng.normal(size=(rank, inner)).astype(np.float32),
        b=rng.normal(size=(out, rank)).astype(np.float32),
        scale=scale,
    )


def product(pair: LowRankPair) -> NDArray[np.float64]:
    result: NDArray[np.float64] = pair.scale * (pair.b.astype(np.float64) @ pair.a.astype(np.float64))
    return result


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    out=st.integers(1, 24),
    inner=st.integers(1, 24),
    ranks=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    scale=st.sampled_from([0.125, 0.5, 1.0, 2.0, 7.3]),
)
def test_merged_is_unmerged(seed: int, out: int, inner: int, ranks: list[int], scale: float) -> None:
    """x W'^T against x W^T + sum s (x A^T) B^T, in float64.

    Only the cast of the merged weight rounds: each entry by at most UNIT of itself, so each output by at
    most UNIT * sum_j |W'_ij| |x_j|. The float64 sums add less than a thousandth of that.
    """
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(out, inner)).astype(np.float32)
    pairs = [random_pair(rng, out, inner, rank, scale) for rank in ranks]
    adapters = [Adapter(f"adapter {i}", {"layer": pair}) for i, pair in enumerate(pairs)]
    x = rng.normal(size=(5, inner))
    merged = merge_adapters({"layer.weight": base}, adapters)["layer.weight"]
    assert merged.dtype == np.float32
    unmerged = x @ base.T.astype(np.float64)
    for pair in pairs:
        unmerged += pair.scale * (x @ pair.a.T.astype(np.float64)) @ pair.b.T.astype(np.float64)
    tolerance = 1.01 * UNIT * np.abs(x) @ np.abs(merged.T.astype(np.float64)) + 1e-12
    assert np.all(np.abs(x @ merged.T.astype(np.float64) - unmerged) <= tolerance)
    assert not np.array_equal(merged, base)


def test_the_order_of_sums_is_fixed_and_exact() -> None:
    """Bit for bit the sum of rank-1 products in the order of the adapters and ranks, cast once."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=(6, 5)).astype(np.float32)
    pairs = [random_pair(rng, 6, 5, rank, 0.3) for rank in (4, 2)]
    expected = base.astype(np.float64)
    for pair in pairs:
        for r in range(len(pair.a)):
            for i in range(6):
                for j in range(5):
                    expected[i, j] += float(pair.b[i, r]) * pair.scale * float(pair.a[r, j])
    adapters = [Adapter(str(n), {"layer": pair}) for n, pair in enumerate(pairs)]
    merged = merge_adapters({"layer.weight": base}, adapters)["layer.weight"]
    np.testing.assert_array_equal(merged, expected.astype(np.float32))


def test_large_weights_are_the_same_sums_though_taken_in_parts() -> None:
    rng = np.random.default_rng(3)
    pair = random_pair(rng, 700, 90, 5, 0.3)
    total = rng.normal(size=(700, 90))
    expected = total.copy()
    for r in range(5):
        expected += (pair.b[:, r].astype(np.float64) * pair.scale)[:, None] * pair.a[r].astype(np.float64)
    add_low_rank(total, pair)
    np.testing.assert_array_equal(total, expected)


def test_nothing_else_changes() -> None:
    rng = np.random.default_rng(2)
    weights = {
        "layer.weight": rng.normal(size=(3, 3)).astype(np.float32),
        "layer.bias": rng.normal(size=3).astype(np.float32),
        "other.weight": rng.normal(size=(3, 3)).astype(np.float32),
        "layer": rng.normal(size=(3, 3)).astype(np.float32),
    }
    before = {name: array.copy() for name, array in weights.items()}
    merged = merge_adapters(weights, [Adapter("x", {"layer": random_pair(rng, 3, 3, 2, 1.0)})])
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)
        assert np.array_equal(merged[name], array) == (name != "layer.weight")


def test_every_subset_of_the_checkpoint_gets_weights_of_its_own() -> None:
    """Base + common + subset, for every adapted module; no two subsets and no base are alike."""
    checkpoint = Checkpoint.open(TINY)
    merged = {subset: checkpoint.merged_weights(subset) for subset in checkpoint.subsets}
    common = checkpoint.adapters["common"].pairs
    for subset, weights in merged.items():
        own = checkpoint.adapters[subset].pairs
        assert own
        for module, pair in own.items():
            base = checkpoint.weights[f"{module}.weight"].astype(np.float64)
            expected = base + product(common[module]) + product(pair)
            # Rounding of the cast, and of float64 products summed in another order.
            np.testing.assert_allclose(
                weights[f"{module}.weight"], expected, rtol=1.01 * UNIT, atol=1e-12 * np.abs(base).max()
            )
            assert not np.array_equal(weights[f"{module}.weight"], checkpoint.weights[f"{module}.weight"])
    for subset, other in [(a, b) for a in merged for b in merged if a < b]:
        shared = set(subset_members(subset)) & set(subset_members(other))
        for member in shared:
            name = f"trunk.inputs.{member}.weight"
            assert not np.array_equal(merged[subset][name], merged[other][name]), (subset, other)
