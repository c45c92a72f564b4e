"""Low-rank pairs beside a trunk: they are independent, all of them learn, and absent branches do not run."""

from __future__ import annotations

import re
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from edgeemo.errors import TrainingError  # noqa: E402
from edgeemo.modality import subset_members  # noqa: E402
from edgeemo.training.lowrank import (  # noqa: E402
    COMMON,
    AdaptedTrunk,
    LowRankSpec,
    draw_subsets,
    peft_config,
    peft_state,
    rows_by_subset,
)
from edgeemo.training.trunks.mculora import LOW_RANK, MCULoRATrunk  # noqa: E402

WIDTHS = {"audio": 5, "video": 4, "text": 6}
LENGTHS = {"audio": 4, "video": 3, "text": 5}


def new_model(seed: int = 0) -> AdaptedTrunk:
    torch.manual_seed(seed)
    trunk = MCULoRATrunk(WIDTHS, LENGTHS, 7, width=8, blocks=2, heads=2, dropout=0.0, fusion_dropout=0.0)
    return AdaptedTrunk(trunk, LOW_RANK)


def inputs(subset: str, batch: int = 6, seed: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    members = subset_members(subset)
    features = {m: torch.randn(batch, LENGTHS[m], WIDTHS[m], generator=generator) for m in members}
    return features, {m: torch.ones(batch, LENGTHS[m]) for m in members}


def test_fresh_pairs_change_nothing() -> None:
    model = new_model().eval()
    for subset in model.subsets:
        features, masks = inputs(subset)
        adapted, _ = model(features, masks)
        plain, _ = model.trunk(features, masks)
        torch.testing.assert_close(adapted, plain)


def test_every_pair_of_every_subset_gets_a_gradient_and_moves_within_three_steps() -> None:
    model = new_model()
    start = {name: value.detach().clone() for name, value in model.pairs.named_parameters()}
    reached: set[str] = set()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(3):
        optimizer.zero_grad()
        for subset in model.subsets:
            features, masks = inputs(subset, seed=step)
            logits, _ = model(features, masks)
            labels = torch.arange(len(logits)) % 7
            torch.nn.functional.cross_entropy(logits, labels).backward()
        for name, value in model.pairs.named_parameters():
            if value.grad is not None and bool((value.grad != 0).any()):
                reached.add(name)
        optimizer.step()
    names = {name for name, _ in model.pairs.named_parameters()}
    assert {name.split(".")[0] for name in names} == {COMMON, *model.subsets}
    assert names - reached == set()
    still = [name for name, value in model.pairs.named_parameters() if torch.equal(value, start[name])]
    assert still == []


def test_a_subset_trains_its_own_pairs_and_the_common_ones_alone() -> None:
    model = new_model()
    features, masks = inputs("audio+text")
    logits, _ = model(features, masks)
    logits.square().sum().backward()
    with_gradient = {
        name.split(".")[0] for name, value in model.pairs.named_parameters() if value.grad is not None
    }
    assert with_gradient == {COMMON, "audio+text"}
    assert not [
        name
        for name, value in model.named_parameters()
        if "video" in name.split(".", 2)[-1] and value.grad is not None
    ]


def test_pairs_are_where_the_sub_network_runs_and_nowhere_on_query_key_value() -> None:
    model = new_model()
    assert all("video" not in name for name in model.modules_of["audio+text"])
    assert "fusion.audio.text" in model.modules_of["audio+text"]
    assert not [name for name in model.linears if name.endswith("qkv")]
    linears = {name for name, module in model.trunk.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {name for name in linears if not name.endswith("qkv")} == set(model.linears)


@pytest.mark.parametrize("subset", ["audio", "audio+video", "audio+video+text"])
def test_added_pairs_equal_the_merged_weight(subset: str) -> None:
    model = new_model().eval()
    with torch.no_grad():
        for value in model.pairs.parameters():
            value.normal_(std=0.2)
    features, masks = inputs(subset)
    unmerged, _ = model(features, masks)
    plain, _ = model.trunk(features, masks)
    merged = {
        f"{name}.weight": model.merged_weight(name, subset).float() for name in model.modules_of[subset]
    }
    state = {**model.trunk.state_dict(), **merged}
    again, _ = torch.func.functional_call(model.trunk, state, (features, masks))
    torch.testing.assert_close(unmerged, again, atol=1e-5, rtol=1e-5)
    assert float((unmerged - plain).detach().abs().max()) > 0.01


def test_adapters_do_not_stay_on_the_trunk_after_a_call_that_failed() -> None:
    model = new_model().eval()
    with torch.no_grad():
        for value in model.pairs.parameters():
            value.normal_()
    features, masks = inputs("audio")
    before, _ = model.trunk(features, masks)
    with pytest.raises(RuntimeError):
        model({"audio": features["audio"][:, :, :2]}, masks)
    after, _ = model.trunk(features, masks)
    assert torch.equal(before, after)


def test_peft_names_shapes_and_scales() -> None:
    model = new_model()
    state = peft_state(model, "video", "trunk")
    assert set(state) == {
        f"base_model.model.trunk.{name}.lora_{part}.weight"
        for name in model.modules_of["video"]
        for part in "AB"
    }
    assert state["base_model.model.trunk.inputs.video.lora_A.weight"].shape == (4, WIDTHS["video"])
    assert state["base_model.model.trunk.blocks.video.1.fc2.lora_B.weight"].shape == (8, 8)
    config = peft_config(model, "video", "trunk", "ab" * 32)
    assert config["r"] == 8
    assert config["lora_alpha"] == 8 * LOW_RANK.scale
    assert config["rank_pattern"] == {
        f"trunk.{name}": 4 for name in ("inputs.video", "fusion.video.video", "heads.video")
    }
    assert config["target_modules"] == [f"trunk.{name}" for name in model.modules_of["video"]]


def test_draws_one_known_subset_for_each_sample() -> None:
    chances = {"audio": 0.5, "video": 0.0, "audio+video": 0.5}
    drawn = draw_subsets(200, chances, torch.Generator().manual_seed(0))
    assert set(drawn) == {"audio", "audio+video"}
    groups = rows_by_subset(drawn)
    assert sorted(row for rows in groups.values() for row in rows) == list(range(200))
    assert all(drawn[row] == subset for subset, rows in groups.items() for row in rows)


def test_a_pattern_that_finds_no_linear_is_refused() -> None:
    trunk = MCULoRATrunk(WIDTHS, LENGTHS, 7, width=8)
    with pytest.raises(TrainingError, match=re.escape("no Linear of the trunk matches")):
        AdaptedTrunk(trunk, LowRankSpec(ranks=(("nothing", 2),)))
