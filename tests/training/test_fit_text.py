"""Training of the text stem: it resumes to the same weights and learns from labels and teachers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("scipy", reason="needs scipy")

from safetensors.torch import load_file

from edgeemo.errors import TrainingError
from edgeemo.training.live import fit_text as module
from edgeemo.training.live.fit_text import SPEC, fit_text, load_text_stem, training_batches
from edgeemo.training.live.text_figures import corpus_scores
from edgeemo.training.live.text_samples import CORPORA, read_samples
from edgeemo.training.live.text_teachers import TeacherConfig
from edgeemo.training.stems.text import TextStem

SMALL = TeacherConfig(folds=2, iterations=2, buckets=1 << 10)
NAMES = ("neutral", "joy", "sadness", "anger", "fear", "disgust", "surprise")


class Killed(Exception):  # noqa: N818 - it is no error
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three corpora in their layouts, 28 nonsense sentences in each split."""
    folder = tmp_path_factory.mktemp("texts")
    texts = [(name, f"{name} or something like it, number {n}!") for n in range(4) for name in NAMES]
    for corpus, head, row in (
        ("goemotions", "id\tlabels28\tlabels7\ttext", "1\t{0}\t{0}\t{1}"),
        ("meld_text", "dialogue\temotion\ttext", "1\t{0}\t{1}"),
    ):
        (folder / corpus).mkdir()
        for split in ("train", "dev"):
            lines = [head, *(row.format(name, text) for name, text in texts)]
            (folder / corpus / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "isear_text").mkdir()
    rows = [f"1\t{split}\t{name}\t{text}" for split in ("train", "val") for name, text in texts]
    (folder / "isear_text" / "isear.tsv").write_text(
        "\n".join(["subject\tsplit\temotion\ttext", *rows]) + "\n"
    )
    return folder


def test_a_killed_run_resumes_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    steps: list[int] = []

    def die(done: int, total: int, metrics: Mapping[str, float]) -> None:
        steps.append(done)
        if done == SMALL.folds + 1:
            raise Killed

    def train(out: str, progress: Any = None) -> dict[str, float]:
        return fit_text(data, tmp_path / out, epochs=2, teachers=SMALL, progress=progress)

    whole = train("whole")
    with pytest.raises(Killed):
        train("cut", die)
    assert steps == [1, 2, 3]  # two teachers, one epoch
    with pytest.raises(TrainingError, match="train the text stem first"):
        load_text_stem(tmp_path / "cut")
    assert train("cut") == whole
    first, again = (load_file(tmp_path / out / "stem.safetensors") for out in ("whole", "cut"))
    assert all((first[name] == again[name]).all() for name in first)
    assert {f"{name}_accuracy" for name in CORPORA} <= set(whole)
    assert {f"{name}_own_weighted_f1" for name in CORPORA} <= set(whole)
    assert not load_text_stem(tmp_path / "whole").training
    taught = json.loads((tmp_path / "whole" / "teacher" / "metrics.json").read_text())
    assert {f"{name}_own_accuracy" for name in CORPORA} <= set(taught)


def test_a_finished_run_is_not_repeated(data: Path, tmp_path: Path) -> None:
    first = fit_text(data, tmp_path, epochs=1, teachers=None)
    assert not (tmp_path / "teacher").exists()
    calls: list[int] = []
    again = fit_text(data, tmp_path, epochs=1, teachers=None, progress=lambda *_: calls.append(1))
    assert again == first
    assert calls == []


def test_a_target_is_the_label_and_what_the_teachers_of_its_corpus_say(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OFTEN", (1.0, 2.0, 0.0))
    train = read_samples(data, "train", SPEC, NAMES, copies=1, rng=np.random.default_rng(0))
    count = len(train.labels)
    answers = np.zeros((count, len(CORPORA), 7), np.float32)
    for corpus in range(len(CORPORA)):
        answers[:, corpus, corpus] = 1  # every corpus calls everything the same
    batches = list(training_batches(train, answers, np.random.default_rng(1)))
    shown = np.bincount(train.corpus, minlength=3)
    assert sum(len(batch["ids"]) for batch in batches) == shown[0] + 2 * shown[1]
    targets = np.concatenate([batch["targets"].numpy() for batch in batches])
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    labels_of_others = targets[:, 2:].sum(axis=1)
    assert labels_of_others.max() == pytest.approx(1 - module._TAUGHT)
    assert targets[:, :2].max(axis=1).min() >= module._TAUGHT - 1e-6
    plain = np.concatenate(
        [batch["targets"].numpy() for batch in training_batches(train, None, np.random.default_rng(1))]
    )
    assert set(np.unique(plain)) == {0.0, 1.0}


def test_the_trunks_rows_are_kept_from_the_stem(data: Path) -> None:
    train = read_samples(data, "train", SPEC, NAMES)
    assert len(train.labels) == 3 * (28 - 4)
    assert train.ids.shape == (1, len(train.labels), SPEC.max_words, SPEC.ids_per_word)
    with pytest.raises(TrainingError, match="random generator"):
        read_samples(data, "train", SPEC, NAMES, copies=1)


def test_figures_count_texts_with_one_label_by_corpus(data: Path) -> None:
    dev = read_samples(data, "dev", SPEC, NAMES)
    right = corpus_scores(dev, dev.labels)
    assert {right[f"{name}_{figure}"] for name in CORPORA for figure in ("accuracy", "weighted_f1")} == {1.0}
    joy = corpus_scores(dev, np.ones(len(dev.labels), np.int64), "own_")
    assert joy["meld_text_own_accuracy"] == pytest.approx(1 / 7)
    assert joy["meld_text_own_weighted_f1"] == pytest.approx(1 / 7 * 0.25)


def test_the_table_that_ships_is_in_budget() -> None:
    stem = TextStem(SPEC)
    table = stem.table.weight.numel()
    assert table + 4 * SPEC.rows <= 1_600_000  # bytes in int8, with a scale for each row
    assert sum(p.numel() for p in stem.parameters()) - table <= 300_000
    assert SPEC.rows <= np.iinfo(np.int16).max  # ids of the training texts are kept as int16
