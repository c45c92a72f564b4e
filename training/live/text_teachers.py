"""Linear models over a million word and letter patterns, which teach the text stem; they never ship.

On texts as short as these, logistic regression over n-grams is as good as a small network trained on
the same texts, and errs elsewhere. Each text is answered by the model that was not trained on it, so
an answer says what other texts teach about this one rather than what its own label is.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import TrainingError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class TeacherConfig:
    """Size and training of the linear teachers.

    Attributes:
        folds: models, each trained without the texts that it answers.
        iterations: of L-BFGS.
        ridge: weight of the squared weights, beside the mean cross entropy.
        apart: how much freer the weights of each corpus are than those that all share.
        buckets: columns that patterns are hashed into, a power of two.
        longest_run: words in the longest pattern of words.
        letters: lengths of the patterns of letters.
    """

    folds: int = 3
    iterations: int = 40
    ridge: float = 5e-6
    apart: float = 2.0
    buckets: int = 1 << 20
    longest_run: int = 3
    letters: tuple[int, ...] = (2, 3, 4, 5)


@dataclass(frozen=True)
class LinearTeacher:
    """One model: every corpus is judged by the shared weights plus its own.

    Attributes:
        columns: (m,) buckets that are read.
        scale: (m,) weight of each by its rarity.
        weights: (corpora, m, classes).
        bias: (corpora, classes), the prior of each corpus included.
    """

    columns: NDArray[np.int64]
    scale: Array
    weights: Array
    bias: Array

    def answer(self, patterns: Any) -> Array:
        """Returns probabilities (n, corpora, classes): what each corpus would call each text."""
        known = _weighted(patterns, self.columns, self.scale)
        logits = [known @ weights + bias for weights, bias in zip(self.weights, self.bias, strict=True)]
        return _softmax(np.stack(logits, axis=1))


def text_patterns(texts: Sequence[Sequence[str]], config: TeacherConfig) -> Any:
    """Returns a sparse matrix (n, buckets), 1 where a text holds a pattern of words or letters.

    Args:
        texts: words of each text, as `tokenize` returns them.
        config: which patterns, and how many buckets.
    """
    from scipy import sparse

    found: list[int] = []
    ends = [0]
    of_word: dict[str, tuple[int, ...]] = {}
    for words in texts:
        mine: set[int] = set()
        framed = ["<s>", *words, "</s>"]
        for size in range(1, config.longest_run + 1):
            for start in range(len(framed) - size + 1):
                mine.add(_bucket("w" + " ".join(framed[start : start + size]), config))
        for word in words:
            if word not in of_word:
                of_word[word] = _letter_buckets(word, config)
            mine.update(of_word[word])
        found += sorted(mine)
        ends.append(len(found))
    shape = (len(texts), config.buckets)
    return sparse.csr_matrix((np.ones(len(found), np.float32), np.array(found, np.int64), ends), shape=shape)


def fit_linear(
    patterns: Any, targets: Array, corpus: NDArray[np.int64], config: TeacherConfig
) -> LinearTeacher:
    """Trains one model with L-BFGS on TF-IDF weights.

    Shared weights and weights of each corpus are trained together (Daume, "Frustratingly Easy Domain
    Adaptation", ACL 2007). A small corpus counts for more than its size, by the root of the ratio.

    Args:
        patterns: of the training texts (`text_patterns`).
        targets: (n, classes) shares.
        corpus: (n,) number of the corpus of each text, from 0.
        config: regularisation and length.
    """
    from scipy.optimize import minimize

    often = np.asarray(patterns.sum(axis=0)).ravel()
    columns = np.flatnonzero(often >= min(2, patterns.shape[0]))
    scale = (np.log(patterns.shape[0] / often[columns]) + 1).astype(np.float32)
    known = _weighted(patterns, columns, scale)
    corpora, classes, width = int(corpus.max()) + 1, targets.shape[1], len(columns)
    rows = [np.flatnonzero(corpus == number) for number in range(corpora)]
    parts = [known[mine] for mine in rows]
    turned = [part.T.tocsr() for part in parts]
    counts = np.array([len(mine) for mine in rows], np.float32)
    share = np.sqrt(counts.max() / np.maximum(counts, 1))
    share = (share / (share * counts).sum()).astype(np.float32)  # weight of one text of each corpus
    freedom = np.float32(np.sqrt(config.apart))

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = flat.reshape(corpora + 1, width + 1, classes).astype(np.float32)
        slope = np.zeros_like(values)
        slope[:, :-1] = config.ridge * values[:, :-1]
        total = 0.5 * config.ridge * float(np.square(values[:, :-1]).sum())
        for number in range(corpora):
            own, mine = values[number + 1], targets[rows[number]]
            shares = _softmax(parts[number] @ (values[0, :-1] + freedom * own[:-1]) + own[-1])
            total -= float(share[number] * (mine * np.log(np.maximum(shares, 1e-12))).sum())
            error = (shares * mine.sum(axis=1, keepdims=True) - mine) * share[number]
            back = turned[number] @ error
            slope[0, :-1] += back
            slope[number + 1, :-1] += freedom * back
            slope[number + 1, -1] += error.sum(axis=0)
        return total, slope.ravel().astype(np.float64)

    start = np.zeros((corpora + 1) * (width + 1) * classes)
    options = {"maxiter": config.iterations, "maxcor": 5}
    solution = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    values = solution.reshape(corpora + 1, width + 1, classes).astype(np.float32)
    return LinearTeacher(columns, scale, values[:1, :-1] + freedom * values[1:, :-1], values[1:, -1])


def answers_by_others(
    patterns: Any,
    targets: Array,
    corpus: NDArray[np.int64],
    unseen: Any,
    out: Path,
    *,
    config: TeacherConfig,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Array, Array]:
    """Returns what the teachers say to each training text and, on average, to texts that none has seen.

    Every fold that is done stays in ``out``, so a killed run goes on behind it.

    Args:
        patterns: of the n training texts.
        targets: (n, classes) shares.
        corpus: (n,) number of the corpus.
        unseen: patterns of m texts to select on.
        out: folder for the answers.
        config: size and training.
        seed: of the folds.
        progress: called after each fold with (folds done, folds).

    Returns:
        (n, corpora, classes) by the model that has not seen the text, and (m, corpora, classes).

    Raises:
        TrainingError: there are fewer than two folds, or ``out`` holds answers of another run.
    """
    if config.folds < 2:
        raise TrainingError(
            f"folds is {config.folds}, but a text is answered by models that have not seen it: 2 or more"
        )
    out.mkdir(parents=True, exist_ok=True)
    key = {
        **asdict(config),
        "letters": list(config.letters),
        "seed": seed,
        "texts": _digest(patterns, targets, corpus),
    }
    note = out / "config.json"
    if note.exists() and json.loads(note.read_text()) != key:
        raise TrainingError(f"{out} holds teachers of other texts or settings; delete it to train them again")
    note.write_text(json.dumps(key, indent=1) + "\n")
    fold = np.random.default_rng([seed, 23]).permutation(len(targets)) % config.folds
    mine = np.zeros((len(targets), int(corpus.max()) + 1, targets.shape[1]), np.float32)
    others = []
    for number in range(config.folds):
        path = out / f"fold{number}.npz"
        if not path.exists():
            seen = fold != number
            teacher = fit_linear(patterns[seen], targets[seen], corpus[seen], config)
            temporary = out / "fold.tmp.npz"
            np.savez(temporary, mine=teacher.answer(patterns[~seen]), unseen=teacher.answer(unseen))
            os.replace(temporary, path)
        with np.load(path, allow_pickle=False) as file:
            mine[fold == number] = file["mine"]
            others.append(file["unseen"])
        if progress is not None:
            progress(number + 1, config.folds)
    return mine, np.mean(others, axis=0, dtype=np.float32)


def _letter_buckets(word: str, config: TeacherConfig) -> tuple[int, ...]:
    framed = f"<{word}>"
    return tuple(
        _bucket("c" + framed[start : start + size], config)
        for size in config.letters
        for start in range(len(framed) - size + 1)
        if size < len(framed)
    )


def _bucket(pattern: str, config: TeacherConfig) -> int:
    return zlib.crc32(pattern.encode("utf-8", "surrogatepass")) & (config.buckets - 1)


def _weighted(patterns: Any, columns: NDArray[np.int64], scale: Array) -> Any:
    """Returns the columns that are known, weighted by rarity, each row of unit length."""
    from scipy import sparse

    known = (patterns[:, columns] @ sparse.diags(scale)).tocsr()
    length = np.sqrt(np.asarray(known.multiply(known).sum(axis=1)).ravel())
    return (sparse.diags((1 / np.maximum(length, 1e-9)).astype(np.float32)) @ known).tocsr()


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return shares


def _digest(patterns: Any, targets: Array, corpus: NDArray[np.int64]) -> str:
    digest = hashlib.sha256()
    for array in (patterns.indices, patterns.indptr, targets, corpus):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
