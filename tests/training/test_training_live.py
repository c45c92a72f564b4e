"""Training of the live model on tiny data: windows, priors, figures, kill and resume, the whole pipeline."""

from __future__ import annotations

import io
import json
import re
import wave
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
cv2 = pytest.importorskip("cv2", reason="needs opencv")
pytest.importorskip("av", reason="needs PyAV")

from safetensors.torch import save_file  # noqa: E402

from edgeemo.cli.commands import train  # noqa: E402
from edgeemo.cli.main import COMMANDS  # noqa: E402
from edgeemo.cli.parser import CommandParser  # noqa: E402
from edgeemo.datasets.faces import FERPLUS_COLUMNS  # noqa: E402
from edgeemo.errors import DatasetError  # noqa: E402
from edgeemo.training.checkpoints.save import Windows  # noqa: E402
from edgeemo.training.live import pipeline  # noqa: E402
from edgeemo.training.live.calibration import cross_fitted_error, fit_temperature  # noqa: E402
from edgeemo.training.live.features import FeatureBank, cached_bank, voice_sequences  # noqa: E402
from edgeemo.training.live.fit_trunk import TrunkConfig, draw_groups, fit_trunk, subset_probabilities  # noqa: E402
from edgeemo.training.live.fit_voice import read_voices  # noqa: E402
from edgeemo.training.live.measure import (  # noqa: E402
    Check,
    probabilities,
    scores,
    validation_checks,
)
from edgeemo.training.live.triples import FacePool, Pool, draw_batch, subset_priors  # noqa: E402
from edgeemo.training.stems.face import FaceStem  # noqa: E402
from edgeemo.training.stems.text import TextStem  # noqa: E402
from edgeemo.training.stems.voice import VoiceStem  # noqa: E402
from edgeemo.training.trunks import FAMILIES  # noqa: E402

SAMPLES = 21
TINY_OPTIONS: dict[str, dict[str, Any]] = {
    "mculora": {"width": 8, "blocks": 1, "heads": 2},
    "crosstemporal": {"channels": [8, 8], "heads": 2},
    "redifu": {"width": 8, "heads": 2},
}
TINY = TrunkConfig(options=TINY_OPTIONS, epochs=3, steps=2, batch=24)


def bank(length: int, seed: int, *, variants: int = 2, corpora: int = 1) -> FeatureBank:
    """Samples whose first feature is their label, the second their number, the third the position."""
    rng = np.random.default_rng(seed)
    labels = np.arange(SAMPLES) % 7
    rows, spans, at = [], [], 0
    for _ in range(variants):
        for sample in range(SAMPLES):
            count = int(rng.integers(1, 2 * length)) if length > 1 else 1
            sequence = rng.normal(size=(count, 6))
            sequence[:, 0], sequence[:, 1], sequence[:, 2] = labels[sample], sample, np.arange(count)
            rows.append(sequence)
            spans.append((at, at + count))
            at += count
    return FeatureBank(
        np.concatenate(rows).astype(np.float16),
        np.array(spans).reshape(variants, SAMPLES, 2),
        np.eye(7, dtype=np.float32)[labels],
        labels,
        np.ones(SAMPLES, np.float32),
        np.arange(SAMPLES) % corpora,
        np.ones(SAMPLES, np.bool_),
    )


def tiny_pools(variants: int = 2) -> dict[str, Pool]:
    return {
        "audio": Pool([bank(8, 1, variants=variants)], [1.0], [1.0], length=8, align="right", balanced=True),
        "video": FacePool(
            [bank(1, 2, variants=variants)], [1.0], [1.0], length=4, align="right", balanced=False
        ),
        "text": Pool(
            [bank(3, 3, variants=variants, corpora=2)],
            [1.0],
            [0.5, 0.5],
            length=6,
            align="left",
            balanced=False,
        ),
    }


def test_triples_bear_one_label_and_windows_are_aligned() -> None:
    pools = tiny_pools()
    prior = subset_priors(pools)["audio+video+text"]
    batch = draw_batch(pools, "audio+video+text", 200, np.random.default_rng(0), prior=prior, plain=True)
    label = batch.targets.argmax(axis=1)
    for m, features in batch.features.items():
        mask = batch.masks[m]
        assert (mask.sum(axis=1) >= 1).all()
        np.testing.assert_array_equal(features[..., 0], np.where(mask > 0, label[:, None], 0))
        newest_first = mask if m == "text" else mask[:, ::-1]
        assert (np.diff(newest_first, axis=1) <= 0).all(), m  # no holes, on the right side
    voices = batch.features["audio"]
    steps = np.diff(voices[..., 2], axis=1)[batch.masks["audio"][:, :-1] > 0]
    assert (steps == 1).all()  # positions in the order of time


def test_flawed_windows_keep_the_label_except_for_short_flashes() -> None:
    pools = tiny_pools()
    prior = subset_priors(pools)["audio+video"]
    batch = draw_batch(pools, "audio+video", 400, np.random.default_rng(1), prior=prior)
    label = batch.targets.argmax(axis=1)
    shown, mask = batch.features["video"][..., 0], batch.masks["video"]
    right = ((shown == label[:, None]) | (mask == 0)).mean(axis=1)
    assert 0.8 < (right == 1).mean() < 1.0
    assert (mask.sum(axis=1) >= 1).all()
    assert len({tuple(row) for row in mask.astype(int)}) > 4  # fills and gaps of many kinds
    np.testing.assert_allclose(batch.targets.sum(axis=1), 1, rtol=1e-5)


def test_priors_follow_the_data_and_the_members() -> None:
    pools = tiny_pools()
    pools["video"].prior = np.array([0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    priors = subset_priors(pools)
    np.testing.assert_allclose(priors["audio"], 1 / 7)
    both = np.sqrt(pools["video"].prior / 7)
    np.testing.assert_allclose(priors["audio+video"], both / both.sum())
    batch = draw_batch(pools, "audio+video", 4000, np.random.default_rng(0), prior=priors["audio+video"])
    drawn = np.bincount(batch.targets.argmax(axis=1), minlength=7) / 4000
    np.testing.assert_allclose(drawn, priors["audio+video"], atol=0.03)
    np.testing.assert_allclose(np.exp(batch.log_prior[0]), priors["audio+video"], rtol=1e-5)


def test_every_subset_is_drawn_for_a_batch() -> None:
    assert sum(subset_probabilities(("audio", "video", "text")).values()) == pytest.approx(1)
    chances = subset_probabilities(("audio", "video", "text"))
    config = TrunkConfig(batch=200, steps=1)
    groups = next(draw_groups(tiny_pools(), config, chances, np.random.default_rng(0)))
    assert len(groups) == 7
    assert sum(len(group.targets) for group in groups) == 200


def test_temperature_and_scores_of_known_answers() -> None:
    rng = np.random.default_rng(0)
    prior = np.array([0.7, 0.2, 0.1])
    truth = rng.choice(3, size=4000, p=prior)
    logits = rng.normal(size=(4000, 3)) + 1.5 * np.eye(3)[truth]  # log likelihood ratio: 1.5 x logits
    targets = np.eye(3, dtype=np.float32)[truth]
    assert fit_temperature([logits.astype(np.float32)], [targets], prior) == pytest.approx(1 / 1.5, rel=0.08)
    check = Check(
        "x", "audio", Windows({}, {}), np.arange(4), np.eye(3, dtype=np.float32), np.array([0, 0, 1, -1])
    )
    sure = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 1.0, 0], [1.0, 0, 0]])
    found = scores(check, sure)
    assert found["n"] == 3
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["uar"] == pytest.approx(0.75)
    np.testing.assert_allclose(probabilities(np.zeros((1, 3), np.float32), prior, 2.0)[0], prior)


def test_a_bank_is_made_once_and_again_for_another_stem(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> FeatureBank:
        made.append(1)
        return bank(3, 0)

    first = cached_bank(tmp_path / "audio.train", {"stem": "a"}, make)
    again = cached_bank(tmp_path / "audio.train", {"stem": "a"}, make)
    np.testing.assert_array_equal(first.features, again.features)
    assert len(made) == 1
    cached_bank(tmp_path / "audio.train", {"stem": "b"}, make)
    cached_bank(tmp_path / "audio.val", {"stem": "b"}, make)
    assert len(made) == 3


def test_features_of_a_clip_are_those_of_a_stream_in_blocks() -> None:
    torch.manual_seed(0)
    stem = VoiceStem().eval()
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(count, 64)).astype(np.float32) for count in (80, 123, 5)]
    sequences = voice_sequences(stem, clips)
    assert [len(sequence) for sequence in sequences] == [10, 15, 1]
    stream = np.concatenate((np.zeros((stem.left_context, 64), np.float32), clips[0]))
    for block in range(2):
        items = torch.from_numpy(stream[block * 40 : block * 40 + stem.left_context + 40])[None]
        with torch.no_grad():
            expected = stem(items)[0].numpy()
        np.testing.assert_allclose(sequences[0][5 * block : 5 * block + 5], expected, atol=2e-3)


class Killed(Exception):  # noqa: N818 - it is no error
    """Stands for the end of the process."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, family: str) -> None:
    pools, val = tiny_pools(), tiny_pools(variants=1)
    banks = {m: pool.banks[0] for m, pool in val.items()}
    checks = validation_checks(banks, val, subset_priors(pools), triples=30, seed=0)
    assert {check.subset for check in checks} == set(subset_priors(pools))
    prompts = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))

    def die(done: int, total: int, metrics: Mapping[str, float]) -> None:
        if done == 2:
            raise Killed

    def fit(out: str, progress: Any = None) -> tuple[Any, Mapping[str, float]]:
        return fit_trunk(
            family, pools, checks, tmp_path / out, config=TINY, prompts=prompts, progress=progress
        )

    whole, metrics = fit("whole")
    with pytest.raises(Killed):
        fit("cut", die)
    resumed, again = fit("cut")
    assert metrics == again
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    ratios = json.loads((tmp_path / "whole" / "ratios.json").read_text())
    assert len(ratios) == 3
    assert ratios[0]["shares"] != ratios[2]["shares"]  # DPFT moved them


def test_calibration_error_is_taken_under_the_temperature_of_the_other_half() -> None:
    rng = np.random.default_rng(0)
    prior = np.full(3, 1 / 3)
    truth = rng.integers(3, size=4000)
    logits = (4 * (rng.normal(size=(4000, 3)) + 1.5 * np.eye(3)[truth])).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[truth]
    check = Check("x", "audio", Windows({}, {}), np.arange(4000), targets, truth)
    assert cross_fitted_error([check], [logits], prior) < 0.03
    logits[2000:] /= 16  # each half calls for another temperature, and gets the wrong one
    assert cross_fitted_error([check], [logits], prior) > 0.1


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seven data sets in their layouts, made of noise and nonsense."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    words = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
    for name, archive in (
        ("speech_ravdess", "audio_flac.zip"),
        ("speech_nemo_pl", "audio_opus.zip"),
        ("speech_emodb", "audio_flac.zip"),
    ):
        (data / name).mkdir()
        lines = ["file\tspeaker\tsex\temotion_raw\tlabel7\tsplit\tseconds\tpeak\textra"]
        with zipfile.ZipFile(data / name / archive, "w") as clips:
            for number, word in enumerate(words * 2):
                split = "train" if number < 7 else "val"
                clips.writestr(f"{number}.wav", _sound(rng))
                lines.append(f"{number}.wav\t{split}\tf\t{word}\t{word}\t{split}\t0.6\t0.5\t")
        (data / name / "meta.tsv").write_text("\n".join(lines) + "\n")
    _write_faces(data / "ferplus", rng)
    names = ("neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise")
    texts = [(name, f"{name} or something like it, number {n}") for n in range(3) for name in names]
    for split in ("train", "dev"):
        for folder, head, row in (
            ("goemotions", "id\tlabels28\tlabels7\ttext", "1\t{0}\t{0}\t{1}"),
            ("meld_text", "dialogue\temotion\ttext", "1\t{0}\t{1}"),
        ):
            (data / folder).mkdir(exist_ok=True)
            lines = [head, *(row.format(name, text) for name, text in texts)]
            (data / folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    (data / "isear_text").mkdir()
    rows = [f"1\t{split}\t{name}\t{text}" for split in ("train", "val") for name, text in texts]
    (data / "isear_text" / "isear.tsv").write_text("\n".join(["subject\tsplit\temotion\ttext", *rows]) + "\n")
    return data


def _sound(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((3000 * rng.standard_normal(9600)).astype("<i2").tobytes())
    return buffer.getvalue()


def _write_faces(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    blobs, votes = [], []
    for number in range(42):
        image = cv2.resize(rng.integers(0, 256, (6, 6)).astype(np.uint8), (48, 48))
        blobs.append(cv2.imencode(".jpg", image)[1].ravel())
        row = np.zeros(10, np.int64)
        row[FERPLUS_COLUMNS[number % 7]], row[7] = 9, 1
        votes.append(row)
    np.savez(
        folder / "ferplus_jpeg.npz",
        jpeg=np.concatenate(blobs),
        offsets=np.concatenate(([0], np.cumsum([len(blob) for blob in blobs]))),
        votes=np.stack(votes),
        split=np.repeat([0, 1], 21),
    )


def _put_stems(data: Path, out: Path) -> None:
    """Finished stems, as if their trainings had run before: random weights."""
    torch.manual_seed(0)
    from edgeemo.training.live.fit_text import SPEC

    for name, stem in (("voice", VoiceStem()), ("face", FaceStem()), ("text", TextStem(SPEC))):
        (out / name).mkdir(parents=True)
        save_file({k: v.contiguous() for k, v in stem.state_dict().items()}, out / name / "stem.safetensors")
        (out / name / "metrics.json").write_text('{"accuracy": 0.5}')
    spec = read_voices(data, out / "voice" / "cache").spec
    (out / "voice" / "front_end.json").write_text(json.dumps(spec.to_json()))


def test_the_pipeline_goes_on_where_it_was_killed_and_writes_a_whole_checkpoint(
    tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    _put_stems(tiny_data, out)
    config = pipeline.LiveConfig(
        variants={"audio": (2, 0), "video": (1, 2), "text": (1, 2)},
        triples=20,
        trunk=replace(TINY, epochs=2),
    )
    seen: list[str] = []

    def die_in_the_trunk(step: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        seen.append(step)
        if step == "mculora trunk":
            raise Killed

    with pytest.raises(Killed):
        pipeline.train_live(tiny_data, out, config=config, report=die_in_the_trunk)
    assert {"voice features", "face features", "text features"} <= set(seen)
    steps: list[tuple[str, int]] = []
    checkpoint = pipeline.train_live(
        tiny_data, out, config=config, report=lambda step, done, total, figures: steps.append((step, done))
    )
    names = [step for step, _ in steps]
    assert not [name for name in names if name.endswith("features")]  # taken from the cache
    assert [done for step, done in steps if step == "mculora trunk"] == [2]  # the first epoch was kept
    assert [done for step, done in steps if step == "redifu trunk"] == [1, 2]
    _check_checkpoint(checkpoint)


def _check_checkpoint(checkpoint: Path) -> None:
    description: dict[str, Any] = json.loads((checkpoint / "checkpoint.json").read_text())
    assert [entry["name"] for entry in description["modalities"]] == ["audio", "video", "text"]
    windows = {entry["name"]: entry["window"] for entry in description["modalities"]}
    assert windows["audio"] == {"length": 40, "period_s": 0.1, "window_s": 4.0}
    assert windows["video"] == {"length": 16, "period_s": 0.25, "window_s": 4.0}
    assert windows["text"] == {"length": 32, "period_s": 0.0, "window_s": 10.0}
    assert len(description["subsets"]) == 7
    for entry in description["subsets"].values():
        assert sum(entry["prior"]) == pytest.approx(1, abs=1e-5)
        assert entry["temperature"] > 0
    assert description["licence"]["non_commercial"] is True
    assert {"speech_ravdess", "ferplus", "goemotions"} <= {
        name for subset in description["metrics"]["subsets"].values() for name in subset
    }
    card = (checkpoint / "MODEL_CARD.md").read_text()
    for words in ("label-matched", "CC BY-NC-SA 4.0", "Limits", "audio+video+text"):
        assert words in card


def test_the_command_names_what_is_missing_and_knows_its_families(tmp_path: Path) -> None:
    parser = CommandParser()
    train.add_parser(parser.add_commands(COMMANDS))
    args = parser.parse_args(["train", "live", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    with pytest.raises(DatasetError, match=re.escape(f"{tmp_path / 'speech_ravdess'} is no speech corpus")):
        train.run(args)
    with pytest.raises(SystemExit) as usage:
        parser.parse_args(["train", "another", "--data", "x", "--out", "y"])
    assert usage.value.code == 2
