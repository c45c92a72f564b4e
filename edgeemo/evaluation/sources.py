"""Labelled items of any layout behind one face: their labels, and their windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import ModalitySpec
from edgeemo.datasets.faces import FaceImages, read_ferplus
from edgeemo.datasets.labels import LABELS
from edgeemo.datasets.speech import SpeechCorpus, read_speech
from edgeemo.datasets.text import READERS, TextRows
from edgeemo.evaluation.layout import FACES, SPEECH, Layout
from edgeemo.evaluation.windows import Rows, WindowBatch, face_windows, speech_windows, text_windows
from edgeemo.runtimes import Runner


class Source:
    """One split of a data set; a context manager.

    Attributes:
        words: the labels that the data set's reader counts in.
        label: (N,) index into ``words``, -1 for an item that does not count.
    """

    def __init__(
        self,
        data: SpeechCorpus | FaceImages | TextRows,
        words: Sequence[str],
        label: NDArray[np.int64],
    ) -> None:
        self.words = tuple(words)
        self.label = label
        self._data = data
        self._opened = ExitStack()
        if isinstance(data, SpeechCorpus):
            self._opened.enter_context(data)

    def windows(self, rows: Rows, spec: ModalitySpec, stem: Runner, hop_s: float) -> Iterator[WindowBatch]:
        """Yields the windows of some items, in order; `WindowBatch.item` counts in ``rows``.

        Args:
            rows: (n,) which items.
            spec: the modality that they serve.
            stem: its stem.
            hop_s: seconds between two windows of one clip.
        """
        data = self._data
        if isinstance(data, SpeechCorpus):
            return speech_windows(data, rows, spec, stem, hop_s=hop_s)
        if isinstance(data, FaceImages):
            return face_windows(data.images[rows], spec, stem)
        return text_windows([data.texts[row] for row in rows], spec, stem)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def open_source(layout: Layout, folder: Path, split: str) -> Source:
    """Returns one split of a data set.

    Raises:
        DatasetError: there is no such split, or a file is broken.
        MissingDependencyError: what decodes its sound or images is not installed.
    """
    if layout.kind == SPEECH:
        corpus = read_speech(folder, split)
        return Source(corpus, corpus.labels, corpus.label_index)
    if layout.kind == FACES:
        faces = read_ferplus(folder, split)
        return Source(faces, LABELS, faces.label)
    texts = READERS[layout.corpus](folder, split)
    return Source(texts, LABELS, texts.labels)
