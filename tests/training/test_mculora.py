"""The MCULoRA trunk: padding says nothing, evidence adds up, absent modalities have no part."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from edgeemo.modality import all_subsets, subset_members  # noqa: E402
from edgeemo.training.lowrank import AdaptedTrunk, Parts  # noqa: E402
from edgeemo.training.trunks.mculora import LOW_RANK, MCULoRATrunk  # noqa: E402
from edgeemo.training.trunks.separation import orthogonality_loss  # noqa: E402
from edgeemo.training.trunks.sequence import sinusoids  # noqa: E402

WIDTHS = {"audio": 5, "video": 4, "text": 6}
LENGTHS = {"audio": 4, "video": 3, "text": 5}
SUBSETS = all_subsets(tuple(WIDTHS))


def new_trunk() -> MCULoRATrunk:
    torch.manual_seed(3)
    trunk = MCULoRATrunk(WIDTHS, LENGTHS, 7, width=8, blocks=2, heads=2)
    trunk.eval()
    return trunk


def windows(subset: str, batch: int = 3) -> tuple[dict[str, Any], dict[str, Any]]:
    torch.manual_seed(4)
    members = subset_members(subset)
    features = {m: torch.randn(batch, LENGTHS[m], WIDTHS[m]) for m in members}
    masks = {m: torch.ones(batch, LENGTHS[m]) for m in members}
    for mask in masks.values():
        mask[0, 1:] = 0.0
        mask[1, 0] = 0.0
    return features, masks


@pytest.mark.parametrize("subset", SUBSETS)
def test_shapes_and_evidence_that_adds_up_to_the_centred_logits(subset: str) -> None:
    logits, evidence = new_trunk()(*windows(subset))
    assert logits.shape == (3, 7)
    assert tuple(evidence) == subset_members(subset)
    total = sum(evidence.values())
    torch.testing.assert_close(total, logits - logits.mean(dim=1, keepdim=True), atol=1e-5, rtol=0)


def test_what_lies_in_padding_does_not_matter() -> None:
    trunk = new_trunk()
    features, masks = windows("audio+text")
    logits, _ = trunk(features, masks)
    noisy = {m: value + 50 * (1 - masks[m])[:, :, None] for m, value in features.items()}
    again, _ = trunk(noisy, masks)
    torch.testing.assert_close(logits, again, atol=1e-5, rtol=0)


def test_what_is_valid_does_matter_and_so_does_its_place() -> None:
    trunk = new_trunk()
    features, masks = windows("audio")
    logits, _ = trunk(features, masks)
    moved, _ = trunk({"audio": features["audio"].flip(1)}, {"audio": torch.ones(3, 4)})
    whole, _ = trunk(features, {"audio": torch.ones(3, 4)})
    assert float((whole - moved).detach().abs().max()) > 1e-4
    assert float((logits - whole).detach()[0].abs().max()) > 1e-4


def test_half_precision_stays_finite_and_close() -> None:
    trunk = new_trunk()
    features, masks = windows("audio+video+text")
    logits, _ = trunk(features, masks)
    half, _ = trunk.half()(
        {m: value.half() for m, value in features.items()}, {m: value.half() for m, value in masks.items()}
    )
    torch.testing.assert_close(half.float(), logits, atol=0.02, rtol=0)


def test_an_absent_modality_gets_no_gradient() -> None:
    trunk = new_trunk()
    logits, _ = trunk(*windows("audio+text"))
    logits.square().sum().backward()
    trained = {name for name, value in trunk.named_parameters() if value.grad is not None}
    assert not [name for name in trained if "video" in name]
    assert {"fusion.audio.text.weight", "fusion.text.audio.weight", "heads.text.bias"} <= trained


def test_positions_are_a_named_buffer() -> None:
    trunk = new_trunk()
    assert torch.equal(trunk.state_dict()["positions.audio.table"], sinusoids(4, 8))
    assert float(sinusoids(3, 4)[1, 0]) == pytest.approx(0.841471, abs=1e-6)  # sin(1)


def test_orthogonality_loss_is_zero_for_parts_that_have_nothing_in_common() -> None:
    masks = {"audio": torch.ones(2, 3)}
    common = torch.zeros(2, 3, 4)
    common[0, :, 0] = 1.0
    apart = torch.zeros(2, 3, 4)
    apart[1, :, 1] = 1.0  # another sample: R_k^T R_common is zero
    name = "blocks.audio.0.fc2"
    assert float(orthogonality_loss({name: Parts(common, apart)}, masks)) == 0.0
    # One shared sample of size 1 gives ||R^T R||^2 / B^2 = 1 / 4.
    assert float(orthogonality_loss({name: Parts(common, common)}, masks)) == pytest.approx(0.25)


def test_orthogonality_loss_reaches_both_pairs() -> None:
    model = AdaptedTrunk(MCULoRATrunk(WIDTHS, LENGTHS, 7, width=8), LOW_RANK)
    with torch.no_grad():
        for value in model.pairs.parameters():
            value.normal_()
    features, masks = windows("video")
    parts: dict[str, Parts] = {}
    model(features, masks, record=parts)
    orthogonality_loss(parts, masks).backward()
    for adapter in ("common", "video"):
        pair = model.pairs[adapter]["blocks/video/0/fc2"]
        assert float(pair.b.grad.abs().max()) > 0
