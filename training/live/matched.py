"""Voices and sentences of the validation data to go with faces of the same label.

They are of different people ("label-matched"), so figures on them overstate what fusion gains; what a
gate changes in them is told by comparing two readings of the same triples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle, probabilities_from_logits
from edgeemo.datasets.speech import SPEECH_CORPORA, read_speech
from edgeemo.datasets.text import READERS
from edgeemo.errors import InputError
from edgeemo.evaluation.windows import speech_windows, text_windows
from edgeemo.modality import subset_members
from edgeemo.runtimes import open_engine, open_stem
from edgeemo.runtimes.base import Runner
from edgeemo.windows import Float32

_TEXTS = ("goemotions", "meld_text")
Windows = dict[str, tuple[Float32, Float32]]  # modality -> features (1, T, D) and mask (1, T)


class Companions:
    """Windows of voice and words for each of many labels, and the engines to read them with a face.

    Args:
        bundle: its stems make the windows.
        data: holds the data sets.
        labels: (N,) label of each face.
        variant: of stems and engines.
        seed: of the choice of clips and texts, both from ``val`` and ``dev``.
    """

    def __init__(
        self, bundle: Bundle, data: Path, labels: NDArray[np.int64], *, variant: str = "int8", seed: int = 0
    ) -> None:
        self.manifest, self.labels = bundle.manifest, labels
        self._opened = ExitStack()
        self.stem = self._opened.enter_context(open_stem(bundle, "video", variant=variant))
        self._engines = {
            name: self._opened.enter_context(open_engine(bundle, name, variant=variant))
            for name in bundle.manifest.engines
        }
        rng = np.random.default_rng([seed, 21])
        self._windows: list[Windows] = [{} for _ in labels]
        with open_stem(bundle, "audio", variant=variant) as stem:
            self._add_voices(data, stem, rng)
        with open_stem(bundle, "text", variant=variant) as stem:
            self._add_texts(data, stem, rng)

    def close(self) -> None:
        """Closes the engines."""
        self._opened.close()

    def read(
        self, item: int, subset: str, video: tuple[Float32, Float32] | None = None
    ) -> NDArray[np.float64]:
        """Returns the probabilities (7,) of an item, read by the engine of `subset`.

        Args:
            item: index into `labels`.
            subset: canonical name.
            video: features (1, T, D) and mask (1, T) of the face.
        """
        feed = {}
        for m in subset_members(subset):
            window = video if m == "video" else self._windows[item][m]
            if window is None:
                raise InputError(f"{subset} needs a face; give its window as video=...")
            feed[f"features.{m}"], feed[f"mask.{m}"] = window
        logits = self._engines[subset].run(feed)["logits"]
        shares = probabilities_from_logits(logits, self.manifest.subsets[subset])  # (1, C)
        return np.asarray(shares[0], np.float64)

    def right(self, item: int, subset: str, video: tuple[Float32, Float32] | None = None) -> bool:
        """Whether the most probable label is the true one."""
        return bool(self.read(item, subset, video).argmax() == self.labels[item])

    def _add_voices(self, data: Path, stem: Runner, rng: np.random.Generator) -> None:
        spec = self.manifest.modality("audio")
        corpora = [read_speech(data / name, "val") for name in SPEECH_CORPORA]
        held = [corpus.label_index for corpus in corpora]
        chosen: dict[tuple[int, int], list[int]] = {}
        for item, label in enumerate(self.labels):
            fitting = [number for number, labels in enumerate(held) if (labels == label).any()]
            number = int(rng.choice(fitting))
            row = int(rng.choice(np.flatnonzero(held[number] == label)))
            chosen.setdefault((number, row), []).append(item)
        for number, corpus in enumerate(corpora):
            rows = np.array(sorted(row for corpus_number, row in chosen if corpus_number == number), np.intp)
            for batch in speech_windows(corpus, rows, spec, stem, hop_s=self.manifest.hop_s):
                for place, index in enumerate(batch.item):  # the last window of a clip stays
                    window = batch.features[place : place + 1], batch.mask[place : place + 1]
                    for item in chosen[number, int(rows[index])]:
                        self._windows[item]["audio"] = window
            corpus.close()

    def _add_texts(self, data: Path, stem: Runner, rng: np.random.Generator) -> None:
        texts: list[str] = []
        labels: list[int] = []
        for name in _TEXTS:
            rows = READERS[name](data / name, "dev")
            for row in np.flatnonzero(rows.labels >= 0):
                texts.append(rows.texts[row])
                labels.append(int(rows.labels[row]))
        held = np.array(labels)
        chosen = [texts[rng.choice(np.flatnonzero(held == label))] for label in self.labels]
        spec = self.manifest.modality("text")
        for item in range(len(chosen)):
            length, width = spec.window.length, spec.feature_width
            empty = np.zeros((1, length, width), np.float32), np.zeros((1, length), np.float32)
            self._windows[item]["text"] = empty
        for batch in text_windows(chosen, spec, stem):
            for place, item in enumerate(batch.item):
                window = batch.features[place : place + 1], batch.mask[place : place + 1]
                self._windows[int(item)]["text"] = window


def drawn_labels(
    held: NDArray[np.int64], prior: Sequence[float], count: int, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns rows (count,) and their labels (count,), drawn from a prior.

    No row of a label comes again before all of them were drawn.

    Args:
        held: (N,) label of each row, -1 where there is none.
        prior: share of each label.
        count: rows to draw.
        seed: of the drawing.
    """
    rng = np.random.default_rng([seed, 22])
    shares = np.asarray(prior) / np.sum(prior)
    labels = rng.choice(len(shares), size=count, p=shares)
    queues: Mapping[int, NDArray[np.int64]] = {
        label: rng.permutation(np.flatnonzero(held == label)) for label in range(len(shares))
    }
    taken = dict.fromkeys(queues, 0)
    rows = np.empty(count, np.int64)
    for at, label in enumerate(labels):
        queue = queues[int(label)]
        rows[at] = queue[taken[int(label)] % len(queue)]
        taken[int(label)] += 1
    return rows, labels
