"""The face that is followed through a stream of frames, by a Haar cascade.

Finding the face is the dear part: a Haar cascade (P. Viola, M. Jones, CVPR 2001) over the whole
frame. So it runs at a cadence, and in between the face is found again near where it was.
"""

from __future__ import annotations

import math
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.faces.policy import check_policy, preferred_face, takes_over
from edgeemo.features.face import FaceBox, FaceSpec, check_frame, grey_picture, load_cv2, resized_picture

_CASCADE = "haarcascade_frontalface_default.xml"
_CASCADE_SIDE = 24  # pixels; the cascade sees no smaller face
_WHOLE_STEP = 1.25  # ratio of neighbouring scales; the whole frame is searched coarsely
_LOCAL_STEP = 1.1
_LOCAL_SIDE = 36  # pixels that the last box is scaled to before the local search
_LOCAL_REACH = 1.6  # side of the local search region, in boxes
_FLAT = 20.0  # standard deviation of a picture, grey levels, below which its contrast is drawn out
_DRAWN_OUT = 40.0  # ... to this
_MOST_GAIN = 8.0  # ... but not more than this, which would show faces in noise


class FaceFinder:
    """Follows one face through a stream of frames.

    The whole frame is searched every `refresh_s` of capture time, every `search_s` while there is no
    face, and at once where the face is not found again near its last box. A face is only reported
    where it was found in this very frame. The answers depend on the frames and their times alone.

    Args:
        spec: framing and cadence.
        policy: which face is followed where there are several, of `policy.FACE_POLICIES`.

    Attributes:
        searches: how often the whole frame was searched, since this object was made.

    Raises:
        InputError: there is no such policy.
        MissingDependencyError: OpenCV is not installed.
    """

    def __init__(self, spec: FaceSpec | None = None, *, policy: str = "largest") -> None:
        self.spec = spec or FaceSpec()
        self._cv2 = load_cv2()
        self._cascade = _read_cascade(self._cv2)
        self._policy = check_policy(policy)
        self.searches = 0
        self.reset()

    def __repr__(self) -> str:
        return f"FaceFinder(at {self.spec.detect_width} pixels, {self._last or 'no face'})"

    def reset(self) -> None:
        """Forgets the face: the next frame is the first of a stream."""
        self._last: FaceBox | None = None
        self._searched_s = -math.inf
        self._seen_s = -math.inf

    def find(self, frame: NDArray[np.uint8], time_s: float) -> FaceBox | None:
        """Returns the face in `frame`, or None where there is none or no search was due.

        Args:
            frame: (H, W) grey, (H, W, 3) BGR or (H, W, 4) BGRA, of any size.
            time_s: capture time, never less than that of the frame before.

        Raises:
            InputError: another shape or dtype, an empty frame, or a time that is not finite or goes
                back (call `reset` where a new stream begins). Nothing is forgotten.
        """
        check_frame(frame)
        if not math.isfinite(time_s) or time_s < self._seen_s:
            raise InputError(
                f"a frame at {time_s:g} s cannot follow one at {self._seen_s:g} s; "
                "call reset() before a new stream"
            )
        self._seen_s = time_s
        grey = grey_picture(self._cv2, frame)
        face = self._last and self._search_near(grey, self._last)
        wait = self.spec.refresh_s if face else 0.0 if self._last else self.spec.search_s
        if time_s - self._searched_s >= wait:
            face = self._search_all(grey, face)
            self._searched_s = time_s
        self._last = face
        return face

    def _search_all(self, grey: NDArray[np.uint8], followed: FaceBox | None) -> FaceBox | None:
        """The face followed where it still stands out, else the one that the policy wants."""
        self.searches += 1
        longer = max(grey.shape)
        scale = min(1.0, self.spec.detect_width / longer)
        smallest = self.spec.min_face * longer * scale
        boxes = self._detect(resized_picture(self._cv2, grey, scale), smallest, None, _WHOLE_STEP)
        found = [FaceBox(x / scale, y / scale, side / scale) for x, y, side in boxes]
        if not found:
            return followed
        best = found[preferred_face(found, self._policy, grey.shape)]
        return followed if followed and not takes_over(best, followed, self._policy, grey.shape) else best

    def _search_near(self, grey: NDArray[np.uint8], box: FaceBox) -> FaceBox | None:
        """The face that moved the least from `box`, searched at about the same size."""
        height, width = grey.shape
        reach = (_LOCAL_REACH - 1) / 2 * box.size
        left, top = max(0, round(box.left - reach)), max(0, round(box.top - reach))
        right = min(width, round(box.left + box.size + reach))
        bottom = min(height, round(box.top + box.size + reach))
        scale = _LOCAL_SIDE / box.size
        region = resized_picture(self._cv2, grey[top:bottom, left:right], scale)
        boxes = self._detect(region, 0.75 * _LOCAL_SIDE, 1.35 * _LOCAL_SIDE, _LOCAL_STEP)
        found = [FaceBox(left + x / scale, top + y / scale, side / scale) for x, y, side in boxes]
        return min(found, key=lambda other: _distance(other, box), default=None)

    def _detect(
        self, grey: NDArray[np.uint8], smallest: float, largest: float | None, step: float
    ) -> list[tuple[int, int, int]]:
        """Faces as (x, y, side) in pixels of `grey`, in a fixed order."""
        low = max(_CASCADE_SIDE, round(smallest))
        high = round(largest) if largest else 0  # 0 = no limit
        hits = self._cascade.detectMultiScale(
            self._drawn_out(grey),
            scaleFactor=step,
            minNeighbors=self.spec.neighbours,
            minSize=(low, low),
            maxSize=(high, high),
        )
        return sorted((int(x), int(y), int(side)) for x, y, side, _ in hits)

    def _drawn_out(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture, with more contrast where it is dark or hazy.

        OpenCV's cascade skips every place whose levels deviate by less than 10, so that it is blind in
        light in which the face network still reads faces well.
        """
        means, deviations = self._cv2.meanStdDev(grey)
        deviation = float(deviations[0, 0])
        if deviation >= _FLAT:
            return grey
        gain = min(_MOST_GAIN, _DRAWN_OUT / max(deviation, 1e-3))
        stretched: NDArray[np.uint8] = self._cv2.addWeighted(
            grey, gain, grey, 0.0, 128.0 - gain * float(means[0, 0])
        )
        return stretched


def _distance(one: FaceBox, other: FaceBox) -> float:
    """Largest displacement of an edge, in pixels."""
    right, bottom = one.left + one.size, one.top + one.size
    return max(
        abs(one.left - other.left),
        abs(one.top - other.top),
        abs(right - other.left - other.size),
        abs(bottom - other.top - other.size),
    )


def _read_cascade(cv2: Any) -> Any:
    with as_file(files("edgeemo") / "assets" / _CASCADE) as path:
        cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise InputError(f"the face cascade {path} cannot be read; install edgeemo again")
    return cascade
