"""What holds for every family of trunks: shapes, padding, absent modalities, adapters, one interface."""

from __future__ import annotations

import re
import zlib
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tiny_trunks import (  # noqa: E402
    CLASSES,
    KINDS,
    LENGTHS,
    SUBSETS,
    WIDTHS,
    randomise_pairs,
    tiny_adapted,
    tiny_trunk,
    windows,
)

from edgeemo.errors import TrainingError  # noqa: E402
from edgeemo.modality import subset_members  # noqa: E402
from edgeemo.training.answer import cross_entropy  # noqa: E402
from edgeemo.training.lowrank import COMMON, Parts  # noqa: E402
from edgeemo.training.trunks import (  # noqa: E402
    FAMILIES,
    build_trunk,
    orthogonality_loss,
    trunk_options,
)

each_kind = pytest.mark.parametrize("kind", KINDS)
SAME = dict.fromkeys(WIDTHS, 6)


def centred(logits: Any) -> Any:
    return logits - logits.mean(dim=-1, keepdim=True)


@each_kind
@pytest.mark.parametrize("subset", SUBSETS)
def test_evidence_adds_up_to_the_centred_logits(kind: str, subset: str) -> None:
    logits, evidence = tiny_trunk(kind).eval()(*windows(subset))
    assert logits.shape == (4, CLASSES)
    assert tuple(evidence) == subset_members(subset)
    torch.testing.assert_close(sum(evidence.values()), centred(logits), atol=1e-5, rtol=0)


@each_kind
@pytest.mark.parametrize("subset", ["audio", "video+text", "audio+video+text"])
def test_what_lies_in_padding_does_not_matter(kind: str, subset: str) -> None:
    trunk = tiny_trunk(kind).eval()
    features, masks = windows(subset)
    before = trunk.answer(features, masks)
    noisy = {m: value + 50 * (1 - masks[m])[:, :, None] for m, value in features.items()}
    after = trunk.answer(noisy, masks)
    torch.testing.assert_close(before.logits, after.logits, atol=1e-5, rtol=0)
    if before.frame_logits is not None:
        torch.testing.assert_close(before.frame_logits, after.frame_logits, atol=1e-5, rtol=0)
    whole = trunk.answer(features, {m: torch.ones_like(mask) for m, mask in masks.items()})
    assert float((before.logits - whole.logits).detach()[0].abs().max()) > 1e-4


@each_kind
def test_each_position_gets_logits_and_padding_says_nothing(kind: str) -> None:
    trunk = tiny_trunk(kind, lengths=SAME, per_position=True).eval()
    features, masks = windows("audio+video+text", lengths=SAME)
    answer = trunk.answer(features, masks)
    assert answer.logits.shape == (4, 6, CLASSES)
    assert answer.frame_logits is None
    torch.testing.assert_close(sum(answer.evidence.values()), centred(answer.logits), atol=1e-5, rtol=0)
    noisy = {m: value + 50 * (1 - masks[m])[:, :, None] for m, value in features.items()}
    valid = masks["audio"] > 0
    torch.testing.assert_close(
        trunk.answer(noisy, masks).logits[valid], answer.logits[valid], atol=1e-5, rtol=0
    )
    moved = {m: value.clone() for m, value in features.items()}
    moved["audio"][2, 3] += 3.0
    change = (trunk.answer(moved, masks).logits - answer.logits).detach().abs().amax(dim=-1)
    assert float(change[2, 3]) > 1e-3  # the position itself
    assert float(change[3].max()) == 0.0  # another sequence


@each_kind
def test_shorter_sequences_equal_longer_ones_with_padding(kind: str) -> None:
    trunk = tiny_trunk(kind, lengths=SAME, per_position=True).eval()
    features, masks = windows("audio+text", lengths=SAME, full=True)
    for mask in masks.values():
        mask[:, 4:] = 0.0
    long = trunk.answer(features, masks).logits[:, :4]
    short = trunk.answer(
        {m: value[:, :4] for m, value in features.items()}, {m: mask[:, :4] for m, mask in masks.items()}
    ).logits
    torch.testing.assert_close(short, long, atol=1e-5, rtol=0)


@each_kind
def test_half_precision_stays_finite_and_close(kind: str) -> None:
    trunk = tiny_trunk(kind).eval()
    features, masks = windows("audio+video+text")
    logits, _ = trunk(features, masks)
    half, _ = trunk.half()(
        {m: value.half() for m, value in features.items()}, {m: value.half() for m, value in masks.items()}
    )
    torch.testing.assert_close(half.float(), logits, atol=0.02, rtol=0)


@each_kind
def test_every_pair_of_every_subset_gets_a_gradient_and_moves_within_three_steps(kind: str) -> None:
    model = tiny_adapted(kind)
    start = {name: value.detach().clone() for name, value in model.pairs.named_parameters()}
    reached: set[str] = set()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(3):
        optimizer.zero_grad()
        for subset in model.subsets:
            features, masks = windows(subset, batch=6, seed=step)
            answer = model.answer(features, masks)
            labels = torch.arange(6) % CLASSES
            loss = cross_entropy(answer.logits, labels)
            loss = loss + sum(model.trunk.extra_losses(answer, labels).values())
            loss.backward()
        for name, value in model.pairs.named_parameters():
            if value.grad is not None and bool((value.grad != 0).any()):
                reached.add(name)
        optimizer.step()
    names = {name for name, _ in model.pairs.named_parameters()}
    assert {name.split(".")[0] for name in names} == {COMMON, *SUBSETS}
    assert names - reached == set()
    assert [n for n, value in model.pairs.named_parameters() if torch.equal(value, start[n])] == []


@each_kind
@pytest.mark.parametrize("subset", SUBSETS)
def test_an_absent_modality_has_no_part_in_a_subset(kind: str, subset: str) -> None:
    model = tiny_adapted(kind)
    absent = set(WIDTHS) - set(subset_members(subset))
    assert not [name for name in model.modules_of[subset] if absent & set(name.split("."))]
    answer = model.answer(*windows(subset))
    loss = cross_entropy(answer.logits, torch.tensor([0, 1, 2, 3]))
    (loss + sum(model.trunk.extra_losses(answer, torch.tensor([0, 1, 2, 3])).values())).backward()
    trained = {name for name, value in model.named_parameters() if value.grad is not None}
    assert not [name for name in trained if absent & set(re.split(r"[./]", name))]


@each_kind
def test_pairs_hang_on_every_linear_but_query_key_and_value(kind: str) -> None:
    model = tiny_adapted(kind)
    linears = {name for name, module in model.trunk.named_modules() if isinstance(module, torch.nn.Linear)}
    bare = {name for name in linears if name.rpartition(".")[2] in ("qkv", "query", "key_value")}
    assert bare
    assert linears - bare == set(model.linears)


@each_kind
@pytest.mark.parametrize("subset", ["audio", "video+text", "audio+video+text"])
def test_added_pairs_equal_the_merged_weight(kind: str, subset: str) -> None:
    model = randomise_pairs(tiny_adapted(kind)).eval()
    features, masks = windows(subset)
    unmerged, _ = model(features, masks)
    plain, _ = model.trunk(features, masks)
    merged = {
        f"{name}.weight": model.merged_weight(name, subset).float() for name in model.modules_of[subset]
    }
    state = {**model.trunk.state_dict(), **merged}
    again, _ = torch.func.functional_call(model.trunk, state, (features, masks))
    torch.testing.assert_close(unmerged, again, atol=1e-4, rtol=1e-4)
    assert float((unmerged - plain).detach().abs().max()) > 0.01


@each_kind
def test_orthogonality_loss_reaches_both_pairs_of_every_modality(kind: str) -> None:
    model = randomise_pairs(tiny_adapted(kind))
    features, masks = windows("audio+video+text")
    record: dict[str, Parts] = {}
    model.answer(features, masks, record=record)
    orthogonality_loss(record, masks).backward()
    for adapter in (COMMON, "audio+video+text"):
        moved = {
            name.split("/")[1]
            for name, pair in model.pairs[adapter].items()
            if pair.b.grad is not None and float(pair.b.grad.abs().max()) > 0
        }
        assert set(WIDTHS) <= moved


# A checkpoint is read by these names: change them and older checkpoints no longer load.
NAMES = {
    "mculora": 222024983,
    "crosstemporal": 1832171295,
    "redifu-difference": 2332408064,
    "redifu-dual": 572778637,
}


@each_kind
def test_names_of_parameters_and_buffers_are_stable(kind: str) -> None:
    names = sorted(tiny_trunk(kind).state_dict())
    assert zlib.crc32("\n".join(names).encode()) == NAMES[kind], names


def test_what_cannot_be_built_is_refused_with_the_choices() -> None:
    with pytest.raises(TrainingError, match=re.escape(f"known are: {', '.join(FAMILIES)}")):
        build_trunk("transformer", WIDTHS, LENGTHS, 7)
    options = ", ".join(sorted(trunk_options("redifu")))
    with pytest.raises(TrainingError, match=re.escape(f"'blocks' for a redifu trunk; it has: {options}")):
        build_trunk("redifu", WIDTHS, LENGTHS, 7, blocks=2)
    with pytest.raises(TrainingError, match="'sharpen'; it can be: difference, dual"):
        build_trunk("redifu", WIDTHS, LENGTHS, 7, denoise="sharpen")
    with pytest.raises(TrainingError, match="multiple of twice the 4 heads"):
        build_trunk("redifu", WIDTHS, LENGTHS, 7, width=12)
    with pytest.raises(TrainingError, match="multiple of heads = 4"):
        build_trunk("crosstemporal", WIDTHS, LENGTHS, 7, channels=(8, 6))


def test_cross_entropy_counts_labelled_samples_alone() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    labels = torch.tensor([0, 1, -1])
    expected = torch.nn.functional.cross_entropy(logits[:2], labels[:2])
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    shares = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(cross_entropy(logits, shares), expected)
    prior = torch.tensor([0.9, 0.1]).log()
    torch.testing.assert_close(
        cross_entropy(logits, labels, prior),
        torch.nn.functional.cross_entropy(logits[:2] + prior, labels[:2]),
    )
