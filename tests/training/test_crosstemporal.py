"""The cross-temporal trunk: what knows of the future, what a frame shows, prompts in training alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from tiny_trunks import CLASSES, LENGTHS, WIDTHS, tiny_trunk, windows  # noqa: E402

from edgeemo.errors import TrainingError  # noqa: E402
from edgeemo.export.graph import bind_weights, bytes_from_model, fold_graph  # noqa: E402
from edgeemo.export.variants.dynamic import quantize_products  # noqa: E402
from edgeemo.runtimes import OrtRunner  # noqa: E402
from edgeemo.training.checkpoints.trace import graph_from_trunk, weights_from_module  # noqa: E402
from edgeemo.training.trunks import build_trunk  # noqa: E402
from edgeemo.training.trunks.crosstemporal import TEMPERATURE, TemporalBlock  # noqa: E402
from edgeemo.training.trunks.frames import FrameGrids, held_positions  # noqa: E402


def changes_by_frame(trunk: Any, subset: str, modality: str, position: int, **shape: Any) -> Any:
    """Largest change of each frame's logits, (T,), when one position of one modality changes."""
    features, masks = windows(subset, full=True, **shape)
    moved = {m: value.clone() for m, value in features.items()}
    moved[modality][:, position] += 2.0
    before, after = trunk.answer(features, masks), trunk.answer(moved, masks)
    if before.frame_logits is None:
        return (after.logits - before.logits).detach().abs().amax(dim=(0, 2))
    return (after.frame_logits - before.frame_logits).detach().abs().amax(dim=(0, 2))


def test_alone_a_modality_says_nothing_of_a_frame_before_it_happened() -> None:
    change = changes_by_frame(tiny_trunk("crosstemporal").eval(), "audio", "audio", 3)
    assert change.shape == (LENGTHS["audio"],)
    assert float(change[:3].max()) == 0.0
    assert float(change[3:].min()) > 1e-4  # kernel 3, dilations 1 and 2: six positions of memory


def test_with_a_partner_every_frame_has_seen_the_whole_window_of_the_partner() -> None:
    change = changes_by_frame(tiny_trunk("crosstemporal").eval(), "audio+video", "video", 2)
    assert float(change.min()) > 1e-5


def test_convolutions_may_look_ahead_where_the_sequence_is_complete() -> None:
    lengths = dict.fromkeys(WIDTHS, 9)
    causal = tiny_trunk("crosstemporal", per_position=True, lengths=lengths).eval()
    both = tiny_trunk("crosstemporal", per_position=True, lengths=lengths, causal=False).eval()
    change = changes_by_frame(causal, "text", "text", 4, lengths=lengths)
    assert float(change[:4].max()) == 0.0
    change = changes_by_frame(both, "text", "text", 4, lengths=lengths)
    assert float(change[1:8].min()) > 1e-5  # one side: (1 + 2) * (3 - 1) / 2 = 3 positions
    assert float(change[0]) == 0.0


def test_a_block_is_the_dilated_causal_convolution() -> None:
    torch.manual_seed(0)
    block = TemporalBlock(3, 4, kernel=3, dilation=2, causal=True, dropout=0.0)
    h = torch.randn(2, 7, 3)
    # (out, taps * in) -> (out, in, taps): the Linear's taps lie side by side, oldest first.
    weight = block.conv.weight.reshape(4, 3, 3).transpose(1, 2)
    padded = torch.nn.functional.pad(h.transpose(1, 2), (4, 0))
    conv = torch.nn.functional.conv1d(padded, weight, block.conv.bias, dilation=2).transpose(1, 2)
    expected = block.skip(h) + torch.nn.functional.gelu(block.norm(conv))
    torch.testing.assert_close(block(h, torch.ones(2, 7, 1)), expected, atol=1e-6, rtol=1e-5)


def test_an_absent_partner_is_skipped_and_not_fed_with_zeros() -> None:
    trunk = tiny_trunk("crosstemporal").eval()
    features, masks = windows("audio", full=True)
    alone, _ = trunk(features, masks)
    zeros = {"video": torch.zeros(4, LENGTHS["video"], WIDTHS["video"])}
    fed, _ = trunk({**features, **zeros}, {**masks, "video": torch.ones(4, LENGTHS["video"])})
    assert float((alone - fed).detach().abs().max()) > 1e-3


def test_frames_hold_what_had_ended_when_they_ended() -> None:
    # 6 frames and 3 positions in the same window: position 0 ends with frame 1.
    expected = [[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert held_positions(6, 3).tolist() == expected
    assert held_positions(4, 4).tolist() == torch.eye(4).tolist()


def test_a_frame_without_data_shows_the_mean_and_events_always_do() -> None:
    grids = FrameGrids({"audio": 4, "video": 2, "text": 9}, events=("text",))
    assert grids.grid_of(("audio", "video", "text")) == "audio"
    assert grids.grid_of(("video", "text")) == "video"
    assert grids.grid_of(("text",)) == "text"
    sequences = {"audio": torch.arange(4.0).reshape(1, 4, 1), "video": torch.tensor([[[10.0], [20.0]]])}
    sequences["text"] = torch.ones(1, 9, 1)
    pooled = {"audio": torch.tensor([[7.0]]), "video": torch.tensor([[5.0]]), "text": torch.tensor([[3.0]])}
    masks = {"audio": torch.tensor([[1.0, 0, 1, 1]]), "video": torch.ones(1, 2), "text": torch.ones(1, 9)}
    rows = grids(sequences, pooled, masks)
    assert rows["audio"].flatten().tolist() == [7.0, 0.0, 7.0, 2.0, 3.0]  # the window's mean comes first
    assert rows["video"].flatten().tolist() == [5.0, 5.0, 10.0, 10.0, 20.0]
    assert rows["text"].flatten().tolist() == [3.0]


def test_a_flash_moves_its_frames_more_than_the_window() -> None:
    trunk = tiny_trunk("crosstemporal").eval()
    features, masks = windows("audio", full=True)
    flash = {"audio": features["audio"].clone()}
    flash["audio"][:, 5] += 4.0
    before, after = trunk.answer(features, masks), trunk.answer(flash, masks)
    window = (after.logits - before.logits).detach().abs().mean()
    frame = (after.frame_logits - before.frame_logits).detach().abs().mean(dim=(0, 2))
    assert float(frame[5]) > 1.5 * float(window)
    assert float(frame[:5].max()) == 0.0


def test_the_contrastive_loss_is_that_of_the_formula_and_of_training_alone() -> None:
    prompts = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(2))
    trunk = tiny_trunk("crosstemporal", prompts=prompts, contrast=0.5, frame_loss=0.0)
    features, masks = windows("audio+text")
    labels = torch.tensor([0, 3, 6, -1])
    answer = trunk.answer(features, masks)
    projected = answer.training["contrast"]
    cosine = torch.nn.functional.cosine_similarity(projected[:, None], prompts[None], dim=-1)
    expected = 0.5 * torch.nn.functional.cross_entropy(cosine[:3] / TEMPERATURE, labels[:3])
    losses = trunk.extra_losses(answer, labels)
    assert list(losses) == ["contrast"]
    torch.testing.assert_close(losses["contrast"], expected)
    losses["contrast"].backward()
    assert trunk.contrast["audio"].weight.grad is not None
    assert trunk.contrast["video"].weight.grad is None
    assert "prompts" not in trunk.state_dict()
    assert trunk.eval().answer(features, masks).training == {}
    with pytest.raises(TrainingError, match="5 prompts were given for 7 labels"):
        build_trunk("crosstemporal", WIDTHS, LENGTHS, 7, prompts=torch.zeros(5, 3))


def test_frames_survive_eight_bits() -> None:
    # Above 8192 elements a weight of two nodes is no longer folded, and the quantizer transposes it for
    # both; the head therefore runs once for the window and its frames.
    torch.manual_seed(0)
    trunk = build_trunk("crosstemporal", {"audio": 5}, {"audio": 6}, CLASSES, channels=(96,)).eval()
    weights = weights_from_module(trunk, "trunk")
    engine = quantize_products(fold_graph(bind_weights(graph_from_trunk(trunk, ("audio",)), weights)))
    features, masks = windows("audio")
    with torch.no_grad():
        expected = trunk.answer(features, masks)
    feed = {"features.audio": features["audio"].numpy(), "mask.audio": masks["audio"].numpy()}
    found = OrtRunner(bytes_from_model(engine), engine="audio", variant="int8").run(feed)
    for name, value in (("logits", expected.logits), ("frame_logits", expected.frame_logits)):
        # Three products in a row, each off by about 1 % of its largest term (127 levels a sign).
        np.testing.assert_allclose(found[name], value.numpy(), atol=0.05 * float(value.abs().max()), rtol=0)


def test_frames_learn_the_label_of_the_window() -> None:
    trunk = tiny_trunk("crosstemporal", frame_loss=0.3)
    features, masks = windows("audio+video")
    labels = torch.tensor([1, 2, -1, 4])
    answer = trunk.answer(features, masks)
    logits = answer.frame_logits[[0, 1, 3]].reshape(-1, CLASSES)
    expected = 0.3 * torch.nn.functional.cross_entropy(logits, labels[[0, 1, 3]].repeat_interleave(6))
    torch.testing.assert_close(trunk.extra_losses(answer, labels)["frames"], expected)
    shares = torch.nn.functional.one_hot(labels.clamp(min=0), CLASSES).float() * (labels >= 0)[:, None]
    torch.testing.assert_close(trunk.extra_losses(answer, shares)["frames"], expected)
