"""The teachers of the text stem: each corpus has its own idea of the labels, no text answers itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs scipy")

from edgeemo.errors import TrainingError
from edgeemo.training.live.text_teachers import (
    TeacherConfig,
    answers_by_others,
    fit_linear,
    text_patterns,
)

CONFIG = TeacherConfig(folds=2, iterations=20, ridge=1e-4, buckets=1 << 12)


def _texts() -> tuple[list[list[str]], np.ndarray, np.ndarray]:
    """Returns 60 texts: "good" and "bad" mean the same to both corpora, "fine" the opposite."""
    texts, labels, corpus = [], [], []
    for number in range(60):
        source = number % 2
        word, label = (("good", 0), ("bad", 1), ("fine", source))[number // 2 % 3]
        texts.append(["it", "is", word, f"day{'abcdefghij'[number % 10]}"])
        labels.append(label)
        corpus.append(source)
    return texts, np.eye(2, dtype=np.float32)[labels], np.array(corpus)


def test_a_corpus_may_mean_something_else_by_a_word() -> None:
    texts, targets, corpus = _texts()
    teacher = fit_linear(text_patterns(texts, CONFIG), targets, corpus, CONFIG)
    answers = teacher.answer(text_patterns([["it", "is", word] for word in ("good", "bad", "fine")], CONFIG))
    assert answers.shape == (3, 2, 2)
    np.testing.assert_allclose(answers.sum(axis=2), 1, rtol=1e-5)
    assert answers.argmax(axis=2).tolist() == [[0, 0], [1, 1], [0, 1]]


def test_misspelt_words_still_mean_something() -> None:
    texts, targets, corpus = _texts()
    teacher = fit_linear(text_patterns(texts, CONFIG), targets, corpus, CONFIG)
    (answer,) = teacher.answer(text_patterns([["goood"]], CONFIG))
    assert (answer[:, 0] > 0.6).all()


def test_no_text_is_answered_by_a_model_that_was_trained_on_it(tmp_path: Path) -> None:
    texts, targets, corpus = _texts()
    wrong = targets.copy()
    wrong[4] = 1 - wrong[4]  # a label that only this one text could teach
    answers = []
    for number, labels in enumerate((targets, wrong)):
        mine, _ = answers_by_others(
            text_patterns(texts, CONFIG),
            labels,
            corpus,
            text_patterns(texts[:3], CONFIG),
            tmp_path / str(number),
            config=CONFIG,
            seed=0,
        )
        answers.append(mine)
    np.testing.assert_array_equal(answers[0][4], answers[1][4])
    assert not np.array_equal(answers[0], answers[1])


def test_finished_folds_are_kept_and_belong_to_their_texts(tmp_path: Path) -> None:
    texts, targets, corpus = _texts()
    patterns = text_patterns(texts, CONFIG)
    done: list[int] = []

    def ask(labels: np.ndarray, config: TeacherConfig = CONFIG) -> np.ndarray:
        return answers_by_others(
            patterns, labels, corpus, patterns[:2], tmp_path, config=config, seed=0,
            progress=lambda at, _: done.append(at),
        )[0]  # fmt: skip

    first = ask(targets)
    before = (tmp_path / "fold0.npz").stat().st_mtime_ns
    (tmp_path / "fold1.npz").unlink()
    np.testing.assert_array_equal(ask(targets), first)
    assert (tmp_path / "fold0.npz").stat().st_mtime_ns == before
    assert done == [1, 2, 1, 2]
    with pytest.raises(TrainingError, match="delete it"):
        ask(1 - targets)


def test_one_fold_could_only_answer_texts_that_it_has_seen(tmp_path: Path) -> None:
    texts, targets, corpus = _texts()
    patterns = text_patterns(texts, CONFIG)
    with pytest.raises(TrainingError, match="2 or more"):
        answers_by_others(
            patterns, targets, corpus, patterns, tmp_path, config=TeacherConfig(folds=1), seed=0
        )
