"""Words: the newest ones that are still fresh, through the stem as one window."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from edgeemo.bundle.manifest import ModalitySpec
from edgeemo.features.text import TextSpec, last_words, word_ids
from edgeemo.runtimes.base import Runner
from edgeemo.session.settings import Settings
from edgeemo.session.states import State
from edgeemo.session.streams.base import USABLE, Stream, Usability, check_time
from edgeemo.windows import Float32

_KEPT_WINDOWS = 8  # windows of words kept, for readings that lag behind the pushes


class TextStream(Stream):
    """What was said in the last `text_ttl_s` seconds as a window of features.

    Args:
        spec: the modality as the manifest has it.
        stem: the stem's runner; its owner closes it.
        settings: how long words count.
    """

    modality = "text"

    def __init__(self, spec: ModalitySpec, stem: Runner, settings: Settings) -> None:
        self._front_end = TextSpec.from_json(spec.front_end)
        self._spec, self._stem, self._settings = spec, stem, settings
        self._input, self._output = f"input.{spec.name}", f"features.{spec.name}"
        self.reset()

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed."""
        self.newest_s, self.patience_s = None, 0.0
        self._words: deque[tuple[float, str]] = deque(maxlen=_KEPT_WINDOWS * self._front_end.max_words)
        self._forget_before_s = 0.0
        self._current: list[str] = []
        self._current_s: float | None = None
        self._has_news = False  # whether there are words that were not looked at yet
        self._advanced_s, self._oldest_s = 0.0, math.inf
        self._features: Float32 = np.zeros(
            (1, self._spec.window.length, self._spec.feature_width), np.float32
        )

    def push(self, text: str, *, time_s: float) -> None:
        """Takes words that were said at `time_s`; of an enormous text only the last words count.

        Raises:
            InputError: not a str, or the time goes back; the stream is unchanged.
        """
        check_time(self.modality, time_s, self.newest_s)
        words = last_words(text, self._front_end.max_words)
        self._words.extend([(time_s, word) for word in words])
        self._has_news = True
        self.newest_s = time_s

    def advance(self, at_s: float) -> None:
        """Runs the stem where words have come or grown too old since the last time."""
        oldest_s = max(at_s - self._settings.text_ttl_s, self._forget_before_s)
        if not self._has_news and self._advanced_s <= at_s and oldest_s <= self._oldest_s:
            return  # no word has come, and the oldest that counts still does
        fresh: list[tuple[float, str]] = []  # newest first
        for time_s, word in reversed(self._words):
            if time_s < oldest_s or len(fresh) == self._front_end.max_words:
                break
            if time_s <= at_s:
                fresh.append((time_s, word))
        words = [word for _, word in reversed(fresh)]
        self._current_s, self._oldest_s = (fresh[0][0], fresh[-1][0]) if fresh else (None, math.inf)
        self._advanced_s, self._has_news = at_s, bool(self._words) and self._words[-1][0] > at_s
        if words == self._current:
            return
        self._current = words
        if words:
            ids = np.zeros((1, self._front_end.max_words, self._front_end.ids_per_word), np.int64)
            ids[0, : len(words)] = word_ids(words, self._front_end)
            self._features = self._stem.run({self._input: ids})[self._output]

    def usability(self, at_s: float) -> Usability:
        """Quiet where no word is younger than `text_ttl_s`; says how old the newest is."""
        if self._current:
            return USABLE
        why = f"no words in the last {self._settings.text_ttl_s:g} s"
        said_s = next((time_s for time_s, _ in reversed(self._words) if time_s <= at_s), None)
        return Usability(
            State.QUIET, why if said_s is None else f"{why}: the newest are {at_s - said_s:.1f} s old"
        )

    def fill(self, at_s: float) -> tuple[float, float]:
        """Returns the words in the window and that one is needed."""
        return float(len(self._current)), 1.0

    def window(self, at_s: float) -> tuple[Float32, Float32]:
        """Returns features (1, T, D) and mask (1, T), the oldest word first."""
        mask = np.zeros((1, self._spec.window.length), np.float32)
        mask[0, : len(self._current)] = 1.0
        return self._features, mask

    def evidence_s(self, at_s: float) -> float | None:
        """Returns when the newest word that counts was said."""
        return self._current_s

    def forget(self) -> None:
        """Drops the words said so far."""
        if self.newest_s is not None:
            self._forget_before_s = np.nextafter(self.newest_s, np.inf)
        self._words.clear()
        self._current, self._current_s, self._has_news = [], None, False
