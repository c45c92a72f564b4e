"""ReDiFu: both forms of denoising against their published formulas, gates, relations, own losses."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from tiny_trunks import CLASSES, WIDTHS, tiny_trunk, windows  # noqa: E402

from edgeemo.training.answer import cross_entropy  # noqa: E402
from edgeemo.training.lowrank import AdaptedTrunk  # noqa: E402
from edgeemo.training.trunks import low_rank_spec  # noqa: E402
from edgeemo.training.trunks.denoise import (  # noqa: E402
    DifferenceAttention,
    DualAttention,
    GatedDelta,
    RelationAttention,
    change_to_next,
)

WIDTH, HEADS, STEPS = 8, 2, 6


def heads_of(x: Any) -> Any:
    return x.reshape(x.shape[0], STEPS, HEADS, -1).transpose(1, 2)


def merged(x: Any) -> Any:
    return x.transpose(1, 2).reshape(x.shape[0], STEPS, WIDTH)


def random_input(batch: int = 3) -> Any:
    return torch.randn(batch, STEPS, WIDTH, generator=torch.Generator().manual_seed(5))


def test_one_softmax_over_changes_equals_two_softmaxes_over_shifted_keys() -> None:
    torch.manual_seed(1)
    attention = DifferenceAttention(WIDTH, HEADS, 0)
    with torch.no_grad():
        attention.strength.copy_(torch.tensor([0.7, 1.3]).reshape(2, 1, 1))
    h = random_input()
    query, key, value = (heads_of(x) for x in attention.qkv(h).split(WIDTH, dim=-1))
    scale = (WIDTH // HEADS) ** -0.5
    now = torch.softmax(query @ key.transpose(-1, -2) * scale, dim=-1)
    before = torch.softmax(query @ key.roll(1, dims=2).transpose(-1, -2) * scale, dim=-1)
    published = attention.strength * ((now - before) @ value)
    # Attention to keys rolled by one step is attention to values rolled the other way.
    one_softmax = attention.strength * (now @ (value - value.roll(-1, dims=2)))
    torch.testing.assert_close(one_softmax, published, atol=1e-6, rtol=1e-5)
    # With the edge repeated, only the last position's term of the circular shift is missing.
    wrapped = attention.strength * (now[..., -1:] @ (value[:, :, -1:] - value[:, :, :1]))
    torch.testing.assert_close(
        attention(h, torch.ones(3, STEPS)), merged(published - wrapped), atol=1e-6, rtol=1e-5
    )


def test_a_change_never_reaches_into_padding() -> None:
    value = torch.tensor([[1.0, 3.0, 100.0, 7.0, 8.0]]).unsqueeze(-1)
    mask = torch.tensor([[1.0, 1, 0, 1, 1]])
    assert change_to_next(value, mask).flatten().tolist() == [-2.0, 0.0, 0.0, -1.0, 0.0]


def test_what_stays_the_same_is_taken_for_noise() -> None:
    attention = DifferenceAttention(WIDTH, HEADS, 0)
    still = random_input()[:, :1].expand(-1, STEPS, -1)
    assert float(attention(still, torch.ones(3, STEPS)).detach().abs().max()) < 1e-6


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_dual_form_is_that_of_the_differential_transformer(depth: int) -> None:
    torch.manual_seed(2)
    attention = DualAttention(WIDTH, HEADS, depth)
    h = random_input()
    query, key, value = (heads_of(x) for x in attention.qkv(h).split(WIDTH, dim=-1))
    half = WIDTH // HEADS // 2
    start = 0.8 - 0.6 * math.exp(-0.3 * depth)
    strength = (
        torch.exp(attention.query_1 @ attention.key_1)
        - torch.exp(attention.query_2 @ attention.key_2)
        + start
    )
    maps = [
        torch.softmax(query[..., part] @ key[..., part].transpose(-1, -2) / half**0.5, dim=-1)
        for part in (slice(0, half), slice(half, 2 * half))
    ]
    mixed = (maps[0] - strength * maps[1]) @ value
    normed = mixed / (mixed.square().mean(-1, keepdim=True) + 1e-5).sqrt() * (1 - start)
    torch.testing.assert_close(attention(h, torch.ones(3, STEPS)), merged(normed), atol=1e-5, rtol=1e-4)
    assert attention.strength().item() == pytest.approx(strength.item())


def test_delta_is_that_of_the_formula() -> None:
    torch.manual_seed(3)
    delta = GatedDelta(WIDTH)
    x = random_input()
    weight = delta.taps.T.unsqueeze(1)  # (d, 1, 3)
    local = torch.nn.functional.conv1d(
        x.transpose(1, 2), weight, delta.taps_bias, padding=1, groups=WIDTH
    ).transpose(1, 2)
    changed = x + delta.alpha * torch.sigmoid(delta.gate(x)) * delta.norm_delta(local)
    both = delta.norm_both(torch.cat((x, changed), -1))
    gate = torch.sigmoid(delta.blend_2(torch.tanh(delta.blend_1(both))))
    expected = gate * changed + (1 - gate) * x
    torch.testing.assert_close(delta(x, torch.ones(3, STEPS)), expected, atol=1e-6, rtol=1e-5)


def test_relations_are_past_and_future_within_reach_by_speaker() -> None:
    attention = RelationAttention(WIDTH, 1, length=5, reach=2)
    with torch.no_grad():
        attention.relation.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    alone = [[1, 3, 3, 0, 0], [2, 1, 3, 3, 0], [2, 2, 1, 3, 3], [0, 2, 2, 1, 3], [0, 0, 2, 2, 1]]
    assert attention.bias(5)[0].tolist() == alone
    assert attention.bias(2)[0].tolist() == [[1, 3], [2, 1]]
    speakers = torch.tensor([[7, 8, 7, 7, 8]])
    spoken = [[1, 5, 3, 0, 0], [4, 1, 5, 5, 0], [2, 4, 1, 3, 5], [0, 4, 2, 1, 5], [0, 0, 4, 4, 1]]
    assert attention.bias(5, speakers)[0, 0].tolist() == spoken
    assert torch.equal(attention.bias(5, torch.zeros(1, 5))[0], attention.bias(5))


def test_only_the_guide_has_relations_and_only_the_others_are_denoised() -> None:
    names = tiny_trunk("redifu-difference").state_dict()
    assert {name.split(".")[1] for name in names if name.endswith(".relation")} == {"text"}
    assert {name.split(".")[1] for name in names if name.startswith(("delta.", "filters."))} == {
        "audio",
        "video",
    }


def test_speakers_change_what_the_text_says() -> None:
    trunk = tiny_trunk("redifu-dual", lengths=dict.fromkeys(WIDTHS, 6), per_position=True).eval()
    with torch.no_grad():
        for name, value in trunk.named_parameters():
            if name.endswith(".relation"):
                value.normal_()
    features, masks = windows("audio+text", lengths=dict.fromkeys(WIDTHS, 6))
    monologue = trunk.answer(features, masks).logits
    same = trunk.answer(features, masks, speakers=torch.zeros(4, 6)).logits
    dialogue = trunk.answer(features, masks, speakers=torch.arange(6).expand(4, -1) % 2).logits
    torch.testing.assert_close(monologue, same)
    assert float((monologue - dialogue).detach().abs().max()) > 1e-3
    adapted = AdaptedTrunk(trunk, low_rank_spec("redifu")).eval()  # fresh pairs add nothing
    again = adapted.answer(features, masks, speakers=torch.arange(6).expand(4, -1) % 2).logits
    torch.testing.assert_close(again, dialogue)


def test_modality_weights_are_learned() -> None:
    trunk = tiny_trunk("redifu-difference")
    features, masks = windows("audio+text")
    logits, _ = trunk(features, masks)
    cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
    assert float(trunk.importance["text"].grad.abs()) > 0
    assert trunk.importance["video"].grad is None
    with torch.no_grad():
        trunk.importance["text"].fill_(math.log(2))
    _, doubled = trunk(features, masks)
    with torch.no_grad():
        trunk.importance["text"].fill_(0.0)
    _, plain = trunk(features, masks)
    torch.testing.assert_close(doubled["text"], 2 * plain["text"])


def test_each_modality_is_also_judged_alone() -> None:
    trunk = tiny_trunk("redifu-difference")
    answer = trunk.answer(*windows("audio+text"))
    labels = torch.tensor([0, 1, 2, 3])
    own = [torch.nn.functional.cross_entropy(answer.training[m], labels) for m in ("audio", "text")]
    losses = trunk.extra_losses(answer, labels)
    torch.testing.assert_close(losses["modalities"], (own[0] ** 2 + own[1] ** 2) / 10)
    assert answer.logits.shape == (4, CLASSES)
    assert trunk.extra_losses(trunk.eval().answer(*windows("audio+text")), labels) == {}
