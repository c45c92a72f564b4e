"""The voice stem: blocks equal the whole stream, folding changes nothing, training learns and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_speech import write_corpus

torch = pytest.importorskip("torch", reason="needs torch")

from edgeemo.errors import TrainingError  # noqa: E402 - behind the skip, as everything below
from edgeemo.features.audio import LogMelSpec  # noqa: E402
from edgeemo.training.augment.voice import augment_voice, tilt_frames, trim_silence, warp_frames  # noqa: E402
from edgeemo.training.live import fit_voice as fit_voice_module  # noqa: E402
from edgeemo.training.live.fit_voice import (  # noqa: E402
    VoiceClassifier,
    VoiceData,
    _taught,
    _with_babble,
    fit_voice,
    load_voice_spec,
    load_voice_stem,
    measure,
    training_batches,
)
from edgeemo.training.live.voice_cache import VoiceFrames, band_statistics  # noqa: E402
from edgeemo.training.stems.voice import STRIDE, ClipHead, VoiceStem  # noqa: E402
from edgeemo.training.stems.voice_teacher import VoiceTeacher  # noqa: E402


def trained_like() -> VoiceStem:
    """A stem with BatchNorm statistics that are not those of a fresh one."""
    torch.manual_seed(0)
    stem = VoiceStem(norm=True)
    stem.train()
    for _ in range(3):
        stem(2.0 * torch.randn(4, stem.left_context + 40, 64) + 0.5)
    stem.eval()
    return stem


def test_blocks_give_the_features_of_the_whole_stream() -> None:
    stem = trained_like().folded()
    context = stem.left_context
    frames = torch.cat([torch.zeros(2, context, 64), torch.randn(2, 400, 64)], dim=1)
    with torch.no_grad():
        whole = stem(frames)
        for block in (STRIDE, 40, 80):
            parts = [stem(frames[:, at : at + context + block]) for at in range(0, 400, block)]
            assert torch.cat(parts, dim=1).shape == (2, 400 // STRIDE, 64)
            assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


def test_the_stated_context_is_what_the_features_depend_on() -> None:
    stem = trained_like().folded()
    frames = torch.randn(1, stem.left_context + STRIDE, 64, requires_grad=True)
    stem(frames).square().sum().backward()
    touched = frames.grad.abs().sum(dim=(0, 2)) > 0
    assert touched.all()
    assert stem(frames).shape == (1, 1, 64)


def test_folding_keeps_the_function_and_drops_the_norms() -> None:
    stem = trained_like()
    folded = stem.folded()
    frames = torch.randn(2, stem.left_context + 40, 64)
    with torch.no_grad():
        before, after = stem(frames), folded(frames)
    assert (before - after).abs().max() < 1e-5 * before.abs().max()
    assert not [name for name in folded.state_dict() if "norm" in name]
    assert not folded.training


def test_the_stem_is_small_and_looks_back_one_to_one_and_a_half_seconds() -> None:
    stem = VoiceStem()
    assert sum(parameter.numel() for parameter in stem.parameters()) <= 300_000
    assert 80 <= stem.left_context <= 120  # frames, 80 a second


def test_the_head_does_not_see_masked_positions() -> None:
    head = ClipHead(64, 7).eval()
    features, mask = torch.randn(2, 10, 64), torch.ones(2, 10)
    mask[:, :4] = 0
    changed = features.clone()
    changed[:, :4] += 5.0
    torch.testing.assert_close(head(features, mask), head(changed, mask))


def tiny_voices(clips: int = 14) -> VoiceData:
    """Made-up frames in which the label lights a group of bands."""
    rng = np.random.default_rng(0)
    labels = np.arange(clips) % 7
    parts, offsets, total = [], np.zeros((6, clips, 2), np.int64), 0
    for variant in range(6):
        for clip, label in enumerate(labels):
            frames = rng.normal(-45.0, 6.0, (int(rng.integers(90, 420)), 64))
            frames[:, 8 * label : 8 * label + 8] += 15.0
            parts.append(np.clip(frames, -60, 0).astype(np.float16))
            offsets[variant, clip] = total, total + len(frames)
            total += len(frames)
    voices = VoiceFrames(np.concatenate(parts), offsets, labels)
    names = ("speech_ravdess", "speech_nemo_pl", "speech_emodb")
    mean, std = band_statistics([voices])
    return VoiceData(
        LogMelSpec(mean=mean, std=std), dict.fromkeys(names, voices), dict.fromkeys(names, voices)
    )


def test_windows_are_right_aligned_and_masked_where_nothing_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeemo.training.live.fit_voice._STEPS", 8)
    voices = tiny_voices()
    for frames, mask, targets in training_batches(voices, 105, np.random.default_rng(0)):
        length = frames.shape[1] - 105
        assert length == mask.shape[1] * STRIDE
        assert (mask[:, -1] == 1).all()
        assert (mask.diff(dim=1) >= 0).all()  # zeros, then ones
        empty = (frames[:, 105:].reshape(len(frames), -1, STRIDE * 64) == 0).all(dim=2)
        first = mask.argmax(dim=1)  # a stripe of the augmentation may empty it, rarely
        assert empty[torch.arange(len(first)), first].float().mean() < 0.3
        assert (frames[:, 105:].reshape(len(frames), -1, STRIDE * 64)[mask == 0] == 0).all()
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(len(targets)))


def test_uar_counts_every_label_the_same() -> None:
    voices = tiny_voices()

    class Constant(VoiceClassifier):
        """Says label 2, whatever it hears."""

        def forward(self, frames: Any, mask: Any) -> Any:
            logits = torch.zeros(len(frames), 7)
            logits[:, 2] = 1.0
            return logits

    metrics = measure(Constant(VoiceStem(), ClipHead(64, 7)), voices)
    assert metrics["speech_emodb_uar"] == pytest.approx(1 / 7)
    assert metrics["uar_mean"] == pytest.approx(1 / 7)


def test_augmented_clips_are_sound_of_another_length() -> None:
    rng = np.random.default_rng(0)
    samples = (0.2 * np.sin(np.arange(16000) / 20)).astype(np.float32)
    before = samples.copy()
    lengths = set()
    for _ in range(20):
        other = augment_voice(samples, rng)
        assert other.dtype == np.float32
        assert np.isfinite(other).all()
        assert 0 < np.abs(other).max() <= 1.0
        lengths.add(other.size)
    assert len(lengths) > 15
    np.testing.assert_array_equal(samples, before)


def test_the_same_seed_gives_the_same_augmentation() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    first, second = (augment_voice(samples, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_trimming_keeps_the_voice() -> None:
    samples = np.zeros(48000, np.float32)
    samples[20000:30000] = 0.1
    assert 10000 <= trim_silence(samples).size <= 10000 + 2 * 1760
    assert trim_silence(np.zeros(100, np.float32)).size == 100


def test_frame_augmentation_stays_in_the_range_of_the_front_end() -> None:
    rng = np.random.default_rng(0)
    frames = rng.uniform(-60, 0, (100, 64)).astype(np.float32)
    for _ in range(10):
        other = tilt_frames(warp_frames(frames, rng), rng)
        assert other.shape[1] == 64
        assert other.min() >= -60.0
        assert other.max() <= 0.0


def test_an_unfinished_run_has_no_stem(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="train the voice stem first"):
        load_voice_stem(tmp_path)
    with pytest.raises(TrainingError, match="train the voice stem first"):
        load_voice_spec(tmp_path)


def test_training_leaves_a_stem_a_front_end_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, labels in (
        ("speech_ravdess", ("neutral", "sad", "disgust")),
        ("speech_nemo_pl", ("happy", "surprise")),
        ("speech_emodb", ("angry", "-")),
    ):
        rows = [
            (f"{split}.{label}.flac", split, label, split) for label in labels for split in ("train", "val")
        ]
        write_corpus(tmp_path / "data" / name, rows, seconds=0.6)
    monkeypatch.setattr("edgeemo.training.live.fit_voice._STEPS", 2)
    monkeypatch.setattr("edgeemo.training.live.fit_voice._BATCH", 8)
    seen: list[int] = []
    out = tmp_path / "voice"
    metrics = fit_voice(
        tmp_path / "data",
        out,
        epochs=2,
        teachers={"plain": 1, "centred": 1},
        progress=lambda done, *_: seen.append(done),
    )
    assert seen == [1, 2, 3, 4]  # two teachers of one epoch, then the stem
    assert metrics == json.loads((out / "metrics.json").read_text())
    assert {"uar_mean", "speech_ravdess_uar", "speech_emodb_accuracy"} <= set(metrics)
    assert fit_voice(tmp_path / "nothing", out, epochs=2) == metrics  # finished runs are not repeated
    stem, spec = load_voice_stem(out), load_voice_spec(out)
    assert len(spec.mean) == 64
    assert stem(torch.zeros(1, stem.left_context + 40, 64)).shape == (1, 5, 64)


def test_a_teacher_hears_neither_level_nor_microphone() -> None:
    torch.manual_seed(0)
    teacher = VoiceTeacher().eval()
    context = teacher.stem.left_context
    frames = torch.randn(2, context + 80, 64)
    frames[0, : context + 24] = 0  # nothing before the clip
    mask = torch.ones(2, 10)
    mask[0, :3] = 0
    coloured = frames + torch.randn(64) * (frames != 0).any(dim=2, keepdim=True)
    plain, same = teacher._without_mean(frames, mask), teacher._without_mean(coloured, mask)
    torch.testing.assert_close(same, plain, atol=1e-5, rtol=1e-4)
    assert (plain[0, : context + 24] == 0).all()  # where there was nothing, there is nothing
    assert teacher(frames, mask).shape == (2, 7)


def test_the_stem_learns_mostly_from_the_mean_of_its_teachers() -> None:
    def sure(label: int) -> Any:
        answer = torch.full((2, 7), -40.0)
        answer[:, label] = 40.0
        return lambda frames, mask: answer

    targets = torch.zeros(2, 7)
    targets[:, 0] = 1
    _, _, taught = _taught([sure(1), sure(2)], (torch.zeros(2, 8, 64), torch.ones(2, 1), targets))
    expected = torch.tensor([0.3, 0.35, 0.35, 0, 0, 0, 0]).expand(2, 7)
    torch.testing.assert_close(taught, expected)


def test_babble_adds_the_powers_of_other_voices(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = LogMelSpec(mean=(-20.0,) * 64, std=(10.0,) * 64)
    torch.manual_seed(0)
    frames = torch.randn(16, 96, 64).clamp(-3, 1.9)
    frames[0, :40] = 0  # nothing before the clip
    batch = (frames, torch.ones(16, 4), torch.eye(7)[torch.arange(16) % 7])
    monkeypatch.setattr(fit_voice_module, "_BABBLE", 0.0)
    assert torch.equal(_with_babble(batch, spec)[0], frames)
    monkeypatch.setattr(fit_voice_module, "_BABBLE", 1.0)
    heard, mask, targets = _with_babble(batch, spec)
    assert (heard >= frames - 1e-4).all()  # power is added, never taken
    assert ((heard - frames).mean(dim=(1, 2)) > 0.01).all()
    assert (heard[0, :40] == 0).all()
    assert heard.max() <= 2.0  # 0 dB
    assert mask is batch[1]
    assert targets is batch[2]
