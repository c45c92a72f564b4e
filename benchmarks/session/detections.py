"""Counts and times what OpenCV's face cascade does in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

_WHOLE_SIDE = 120  # pixels; the search around a followed face is in a smaller picture


@dataclass
class Searches:
    """Searches of one kind.

    Attributes:
        count: how many.
        cpu_s: processor time of the calling thread inside them.
    """

    count: int = 0
    cpu_s: float = 0.0


class Detections:
    """Sees every search of the cascades that are loaded while it is entered.

    Attributes:
        whole: searches of whole frames.
        near: searches around the face that is followed.
    """

    def __init__(self) -> None:
        import cv2

        self._cv2: Any = cv2
        self._classifier: Any = cv2.CascadeClassifier
        self.whole, self.near = Searches(), Searches()

    def __enter__(self) -> Detections:
        self._cv2.CascadeClassifier = self._load
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cv2.CascadeClassifier = self._classifier

    def reset(self) -> None:
        """Begins to count anew."""
        self.whole, self.near = Searches(), Searches()

    @property
    def cpu_s(self) -> float:
        """Processor time of all searches."""
        return self.whole.cpu_s + self.near.cpu_s

    def _load(self, *args: Any) -> _Cascade:
        return _Cascade(self._classifier(*args), self)


class _Cascade:
    """A cascade that is watched."""

    def __init__(self, cascade: Any, watch: Detections) -> None:
        self._cascade, self._watch = cascade, watch

    def detectMultiScale(self, image: np.ndarray, *args: Any, **options: Any) -> Any:  # noqa: N802 - OpenCV's
        searches = self._watch.whole if max(image.shape) > _WHOLE_SIDE else self._watch.near
        begun = time.thread_time()
        try:
            return self._cascade.detectMultiScale(image, *args, **options)
        finally:
            searches.count += 1
            searches.cpu_s += time.thread_time() - begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cascade, name)
