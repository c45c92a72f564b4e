"""The text stem: padding has no influence, words see their neighbours, the size stays in budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch")

import torch

from edgeemo.features.text import TextSpec, text_window
from edgeemo.training.augment.text import TextNoise, crop_words, damage_words
from edgeemo.training.stems.text import TextHead, TextStem

SPEC = TextSpec()


@pytest.fixture(scope="module")
def stem() -> TextStem:
    torch.manual_seed(0)
    fresh = TextStem(SPEC)
    fresh.eval()
    return fresh


def _window(text: str) -> torch.Tensor:
    return torch.from_numpy(text_window(text, SPEC)[0])[None]  # (1, 32, K)


def test_padding_has_no_influence(stem: TextStem) -> None:
    ids = _window("i can't believe it happened again today")
    with torch.no_grad():
        full, cut = stem(ids), stem(ids[:, :7])
        assert torch.allclose(full[:, :7], cut, atol=1e-6)
        assert not full[:, 7:].any()
        stem.table.weight[0] = 5.0  # even a padding row that is not zero
        spoilt = stem(ids)
        stem.table.weight[0] = 0.0
    assert torch.equal(full, spoilt)


def test_an_empty_window_is_finite_and_zero(stem: TextStem) -> None:
    with torch.no_grad():
        assert not stem(_window("")).any()


def test_a_word_is_seen_by_its_neighbours_and_no_further(stem: TextStem) -> None:
    ids = _window(" ".join(["word"] * 20))
    other = ids.clone()
    other[0, 10] = _window("terrible")[0, 0]
    with torch.no_grad():
        changed = (stem(ids) - stem(other)).abs().amax(dim=2)[0] > 1e-6
    assert torch.nonzero(changed).flatten().tolist() == list(range(7, 14))


def test_the_batch_does_not_matter(stem: TextStem) -> None:
    first, second = _window("one"), _window("another sentence, longer!")
    with torch.no_grad():
        both = stem(torch.cat((first, second)))
        assert torch.allclose(both[0], stem(first)[0], atol=1e-6)
        assert torch.allclose(both[1], stem(second)[0], atol=1e-6)


def test_the_size_is_in_budget(stem: TextStem) -> None:
    assert stem.table.weight.shape == (SPEC.rows, 64)
    assert SPEC.rows <= 16_384
    assert sum(p.numel() for p in stem.parameters()) - stem.table.weight.numel() <= 300_000


def test_everything_receives_gradient() -> None:
    torch.manual_seed(0)
    trained = TextStem(SPEC).train()
    head = TextHead(64, 7, 28, 3)
    ids = _window("so happy about this!")
    answer = head(trained(ids), (ids[:, :, 0] != 0).float())
    (answer.main[:, 1].sum() + answer.fine.sum()).backward()
    assert answer.main.shape == (1, 7)
    assert answer.fine.shape == (1, 28)
    assert answer.views.shape == (1, 3, 7)
    assert answer.source.shape == (1, 3)
    still = [name for name, p in trained.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert not trained.table.weight.grad[0].any()


# torch's own exporter calls what torch has deprecated.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore::DeprecationWarning")
def test_the_graph_gives_what_the_network_gives(stem: TextStem, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}")
    import onnxruntime

    path = tmp_path / "stem.text.onnx"
    two = torch.cat((_window("hello there"), _window("what a day")))
    torch.onnx.export(
        stem,
        (two,),
        str(path),
        dynamo=True,
        opset_version=20,
        input_names=["input.text"],
        output_names=["features.text"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for text in ("", "so very sad", "word " * 40):
        ids = _window(text)
        (features,) = session.run(None, {"input.text": ids.numpy()})
        with torch.no_grad():
            assert np.allclose(features, stem(ids).numpy(), atol=1e-5)


def test_damage_can_be_repeated_and_never_leaves_nothing() -> None:
    words = ["well", "i", "don't", "know", "their", "names", "!!", "[name]"]
    noise = TextNoise(drop_word=0.5)
    first = [damage_words(words, noise, np.random.default_rng(5)) for _ in range(2)]
    assert first[0] == first[1]
    rng = np.random.default_rng(0)
    results = [damage_words(words, noise, rng) for _ in range(200)]
    assert all(results)
    assert any("dont" in result for result in results)
    assert any("there" in result for result in results)
    assert words[2] == "don't"


@pytest.mark.parametrize("word", ["!!", ":)", "[name]"])
def test_a_text_of_marks_alone_is_left_alone(word: str) -> None:
    rng = np.random.default_rng(0)
    assert all(damage_words([word], TextNoise(drop_marks=1.0), rng) == [word] for _ in range(20))


def test_a_crop_is_a_run_of_words() -> None:
    words = [str(number) for number in range(50)]
    crop = crop_words(words, 32, np.random.default_rng(1))
    start = int(crop[0])
    assert crop == words[start : start + 32]
    assert crop_words(words[:3], 32, np.random.default_rng(1)) == words[:3]
