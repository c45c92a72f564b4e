"""Dynamic training ratios: the divergence has its arguments in order, q stays on the simplex."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tiny_trunks import KINDS, SUBSETS, randomise_pairs, tiny_adapted, windows  # noqa: E402

from edgeemo.errors import TrainingError  # noqa: E402
from edgeemo.training.dpft import (  # noqa: E402
    TrainingRatios,
    js_divergence,
    kl_divergence,
    lift_to_floor,
    ranked_signs,
    separation_jsd,
)
from edgeemo.training.lowrank import Parts  # noqa: E402

EQUAL = dict.fromkeys(SUBSETS, 1.0)


def test_kl_takes_its_mean_over_the_first_argument() -> None:
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    # 0.75 ln 1.5 + 0.25 ln 0.5, and the other way round 0.5 ln (2/3) + 0.5 ln 2.
    assert kl_divergence(p, q).item() == pytest.approx(0.130812, abs=1e-6)
    assert kl_divergence(q, p).item() == pytest.approx(0.143841, abs=1e-6)
    assert kl_divergence(p, q).item() == pytest.approx(
        torch.nn.functional.kl_div(q.log(), p, reduction="sum").item(), abs=1e-6
    )


def test_js_divergence_by_hand_its_symmetry_and_its_bounds() -> None:
    p, q = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.8]])
    # m = (0.55, 0.45): (0.9 ln 0.9/0.55 + 0.1 ln 0.1/0.45 + 0.2 ln 0.2/0.55 + 0.8 ln 0.8/0.45) / 2
    by_hand = 0.275396
    assert js_divergence(p.log(), q.log()).item() == pytest.approx(by_hand, abs=1e-6)
    assert js_divergence(q.log(), p.log()).item() == pytest.approx(by_hand, abs=1e-6)
    far = torch.tensor([[500.0, 0.0]])
    assert js_divergence(far, -far).item() == pytest.approx(math.log(2))
    assert js_divergence(far, far).item() == 0.0


def test_js_divergence_is_scipys() -> None:
    distance = pytest.importorskip("scipy.spatial.distance", reason="needs scipy")
    first, second = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(0))
    p, q = torch.softmax(first, -1).numpy(), torch.softmax(second, -1).numpy()
    expected = distance.jensenshannon(p, q, axis=-1) ** 2  # scipy returns the square root
    np.testing.assert_allclose(js_divergence(first, second).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_separation_is_measured_in_every_family(kind: str) -> None:
    model = tiny_adapted(kind).eval()
    features, masks = windows("audio+video")
    record: dict[str, Parts] = {}
    with torch.no_grad():
        model.answer(features, masks, record=record)
        assert float(separation_jsd(record, masks).max()) == 0.0  # every B is zero
        randomise_pairs(model)
        model.answer(features, masks, record=record)
    found = separation_jsd(record, masks)
    assert found.shape == (4,)
    assert 0 < float(found.min()) <= float(found.max()) < math.log(2)
    with pytest.raises(TrainingError, match="no block's adapters were recorded"):
        separation_jsd({}, masks)


def test_separation_averages_blocks_then_modalities() -> None:
    def part(common: list[float], specific: list[float]) -> Parts:
        return Parts(torch.tensor([[common, [9.0, 9.0]]]), torch.tensor([[specific, [0.0, 5.0]]]))

    masks = {"audio": torch.tensor([[1.0, 0.0]]), "video": torch.tensor([[1.0, 0.0]])}
    same, apart = part([1.0, 2.0], [1.0, 2.0]), part([900.0, 0.0], [0.0, 900.0])
    parts = {"blocks.audio.0.fc2": same, "blocks.audio.1.fc2": apart, "blocks.video.0.fc2": same}
    parts["heads.audio"] = apart  # not the end of a block
    assert separation_jsd(parts, masks).item() == pytest.approx(math.log(2) / 4)


def test_the_subset_that_moved_least_is_drawn_most() -> None:
    ratios = TrainingRatios(EQUAL)
    start = dict.fromkeys(SUBSETS, 0.1)
    assert ratios.update(start) == pytest.approx(dict.fromkeys(SUBSETS, 1 / 7))
    moved = {name: 0.1 + 0.01 * (-1) ** i * i for i, name in enumerate(SUBSETS)}
    q = ratios.update(moved)
    # s = 1, 2/3, 1/3, 0, -1/3, -2/3, -1 sums to 0, so q = (1 + 0.2 s) / 7.
    expected = {name: (1 + 0.2 * (1 - i / 3)) / 7 for i, name in enumerate(SUBSETS)}
    assert q == pytest.approx(expected)
    assert ratios.probabilities == q
    again = ratios.update(moved)  # nothing moved: all are equal again
    assert again == pytest.approx(dict.fromkeys(SUBSETS, 1 / 7))


def test_equal_moves_share_a_rank_whatever_their_order() -> None:
    assert ranked_signs(np.array([0.3, 0.1, 0.3])).tolist() == [-0.5, 1.0, -0.5]
    assert ranked_signs(np.array([0.3])).tolist() == [0.0]


def test_every_probability_stays_above_the_floor_and_they_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    ratios = TrainingRatios({name: 3.0 ** (i % 3) for i, name in enumerate(SUBSETS)}, strength=0.9)
    for _ in range(50):
        q = ratios.update({name: float(rng.random()) for name in SUBSETS})
        assert tuple(q) == SUBSETS
        assert min(q.values()) >= 0.05 - 1e-12
        assert sum(q.values()) == pytest.approx(1.0)
    np.testing.assert_allclose(lift_to_floor(np.array([0.9, 0.06, 0.04]), 0.1), [0.8, 0.1, 0.1])
    # Lifting one takes so much of another that it must be lifted too.
    np.testing.assert_allclose(
        lift_to_floor(np.array([0.5, 0.26, 0.24, 0.0]), 0.25), [0.25, 0.25, 0.25, 0.25]
    )


def test_a_resumed_run_goes_on_as_an_unbroken_one() -> None:
    rng = np.random.default_rng(1)
    steps = [{name: float(rng.random()) for name in SUBSETS} for _ in range(4)]
    whole, first = TrainingRatios(EQUAL), TrainingRatios(EQUAL)
    for step in steps:
        whole.update(step)
    for step in steps[:2]:
        first.update(step)
    resumed = TrainingRatios(EQUAL)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert resumed.probabilities == first.probabilities
    for step in steps[2:]:
        resumed.update(step)
    assert resumed.probabilities == whole.probabilities


def test_what_is_no_distribution_over_subsets_is_refused() -> None:
    with pytest.raises(TrainingError, match="each needs a modality"):
        TrainingRatios({"audio": 1.0, "": 1.0})
    with pytest.raises(TrainingError, match="each needs a modality"):
        TrainingRatios({})
    with pytest.raises(TrainingError, match="must be positive; not so: video"):
        TrainingRatios({"audio": 1.0, "video": 0.0})
    with pytest.raises(TrainingError, match=re.escape("7 subsets leave room for 0.1429")):
        TrainingRatios(EQUAL, floor=0.2)
    with pytest.raises(TrainingError, match="strength is 1"):
        TrainingRatios(EQUAL, strength=1.0)
    ratios = TrainingRatios(EQUAL)
    with pytest.raises(TrainingError, match="divergences came for audio; expected audio, video"):
        ratios.update({"audio": 0.1})
    with pytest.raises(TrainingError, match="not finite"):
        ratios.update(dict.fromkeys(SUBSETS, math.nan))
    with pytest.raises(TrainingError, match="the state is of audio; expected"):
        ratios.load_state_dict({"subsets": ["audio"], "shares": [1.0], "before": None})
