"""Camera frames -> standardised face crops, the front-end of the video modality.

Finding the face is the dear part: a Haar cascade (P. Viola, M. Jones, CVPR 2001) over the whole
frame. So it runs at a cadence, and in between the face is found again near where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.features.spec import FrontEndSpec

_CASCADE = "haarcascade_frontalface_default.xml"
_CASCADE_SIDE = 24  # pixels; the cascade sees no smaller face
_WHOLE_STEP = 1.25  # ratio of neighbouring scales; the whole frame is searched coarsely
_LOCAL_STEP = 1.1
_LOCAL_SIDE = 36  # pixels that the last box is scaled to before the local search
_LOCAL_REACH = 1.6  # side of the local search region, in boxes
_SWITCH_AREA = 1.5  # another face takes over where it is this much larger than the one followed


@dataclass(frozen=True)
class FaceSpec(FrontEndSpec):
    """Everything that the numbers of the video front-end depend on.

    The framing defaults make live crops look like FER+ images: on 500 of them, enlarged and padded,
    the cascade's box has a median width of 0.975 image widths and sits 0.01 above the middle.

    Attributes:
        size: pixels on a side of the crop.
        period_s: one crop is taken in each slot of this length.
        detect_width: the longer side that a frame is shrunk to before the whole is searched, pixels.
        refresh_s: capture time between searches of the whole frame while a face is followed.
        search_s: capture time between searches of the whole frame while there is none.
        min_face: smallest face that is looked for, as a part of the frame's longer side.
        neighbours: overlapping hits that make a face; more means fewer false ones.
        crop_scale: side of the crop, in boxes.
        crop_offset: middle of the crop under the middle of the box, in boxes.
        contrast_floor: crops are divided by their standard deviation, but by no less than this, grey levels.
    """

    KIND: ClassVar[str] = "face_crop"

    size: int = 48
    period_s: float = 0.25
    detect_width: int = 240
    refresh_s: float = 1.0
    search_s: float = 0.4
    min_face: float = 0.1
    neighbours: int = 4
    crop_scale: float = 1.03
    crop_offset: float = 0.01
    contrast_floor: float = 8.0

    def __post_init__(self) -> None:
        for name in ("size", "detect_width", "neighbours"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{self.KIND} needs a whole {name} of at least 1, got {value!r}")
        for name in ("period_s", "refresh_s", "search_s", "min_face", "crop_scale", "contrast_floor"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise InputError(f"{self.KIND} needs a positive {name}, got {value!r}")
        if not (isinstance(self.crop_offset, int | float) and abs(self.crop_offset) < 1):
            raise InputError(f"{self.KIND} needs a crop_offset between -1 and 1, got {self.crop_offset!r}")


@dataclass(frozen=True)
class FaceBox:
    """Where a face is: a square in pixels of the frame; it may reach beyond the frame.

    Attributes:
        left: x of its left edge.
        top: y of its upper edge.
        size: its width and height.
    """

    left: float
    top: float
    size: float


class FaceFinder:
    """Follows the largest face through a stream of frames.

    The whole frame is searched every `refresh_s` of capture time, every `search_s` while there is no
    face, and at once where the face is not found again near its last box. A face is only reported
    where it was found in this very frame. The answers depend on the frames and their times alone.
    """

    def __init__(self, spec: FaceSpec | None = None) -> None:
        """Loads the cascade.

        Raises:
            MissingDependencyError: OpenCV is not installed.
        """
        self.spec = spec or FaceSpec()
        self._cv2 = _load_cv2()
        self._cascade = _read_cascade(self._cv2)
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
        grey = _grey(self._cv2, frame)
        face = self._last and self._search_near(grey, self._last)
        wait = self.spec.refresh_s if face else 0.0 if self._last else self.spec.search_s
        if time_s - self._searched_s >= wait:
            face = self._search_all(grey, face)
            self._searched_s = time_s
        self._last = face
        return face

    def _search_all(self, grey: NDArray[np.uint8], followed: FaceBox | None) -> FaceBox | None:
        """The face followed where it still stands out, else the largest in the frame."""
        longer = max(grey.shape)
        scale = min(1.0, self.spec.detect_width / longer)
        smallest = self.spec.min_face * longer * scale
        boxes = self._detect(_resized(self._cv2, grey, scale), smallest, None, _WHOLE_STEP)
        found = [FaceBox(x / scale, y / scale, side / scale) for x, y, side in boxes]
        if not found:
            return followed
        largest = max(found, key=lambda box: (box.size, -box.left, -box.top))
        if followed and largest.size**2 < _SWITCH_AREA * followed.size**2:
            return followed
        return largest

    def _search_near(self, grey: NDArray[np.uint8], box: FaceBox) -> FaceBox | None:
        """The face that moved the least from `box`, searched at about the same size."""
        height, width = grey.shape
        reach = (_LOCAL_REACH - 1) / 2 * box.size
        left, top = max(0, round(box.left - reach)), max(0, round(box.top - reach))
        right = min(width, round(box.left + box.size + reach))
        bottom = min(height, round(box.top + box.size + reach))
        scale = _LOCAL_SIDE / box.size
        region = _resized(self._cv2, grey[top:bottom, left:right], scale)
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
            grey,
            scaleFactor=step,
            minNeighbors=self.spec.neighbours,
            minSize=(low, low),
            maxSize=(high, high),
        )
        return sorted((int(x), int(y), int(side)) for x, y, side, _ in hits)


def check_frame(frame: NDArray[np.uint8]) -> None:
    """Refuses what is no camera frame: the check that `FaceFinder.find` and `crop_face` begin with.

    It reads no pixel, so it is cheap enough for frames that are then skipped.

    Args:
        frame: (H, W) or (H, W, 1) grey, (H, W, 3) BGR or (H, W, 4) BGRA, uint8 levels 0..255.

    Raises:
        InputError: another type, dtype or shape, or a frame without pixels.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        kind = frame.dtype if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"expected a frame of dtype uint8 with levels 0..255, got {kind}")
    if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] not in (1, 3, 4)):
        raise InputError(f"expected a frame (H, W), (H, W, 3) BGR or (H, W, 4) BGRA, got shape {frame.shape}")
    if frame.size == 0:
        raise InputError(f"expected a frame with pixels, got shape {frame.shape}")


def crop_face(frame: NDArray[np.uint8], box: FaceBox, spec: FaceSpec | None = None) -> NDArray[np.uint8]:
    """Returns the face framed as FER+ frames it, (size, size) uint8 grey.

    What lies beyond the frame repeats the frame's edge.

    Raises:
        InputError: another shape or dtype than `FaceFinder.find` takes, or a box that is not in the frame.
        MissingDependencyError: OpenCV is not installed.
    """
    spec = spec or FaceSpec()
    check_frame(frame)
    height, width = frame.shape[:2]
    side = max(1, round(box.size * spec.crop_scale)) if math.isfinite(box.size) else 0
    left = box.left + (box.size - side) / 2
    top = box.top + (box.size - side) / 2 + spec.crop_offset * box.size
    if not (side and -side < left < width and -side < top < height):
        raise InputError(f"{box} does not lie in a frame of {width}x{height} pixels")
    cv2 = _load_cv2()
    x, y = round(left), round(top)
    inside = frame[max(0, y) : max(1, y + side), max(0, x) : max(1, x + side)]
    beyond = (max(0, -y), max(0, y + side - height), max(0, -x), max(0, x + side - width))
    region = _grey(cv2, inside)
    if any(beyond):
        region = cv2.copyMakeBorder(region, *beyond, cv2.BORDER_REPLICATE)
    method = cv2.INTER_AREA if side > spec.size else cv2.INTER_LINEAR
    crop: NDArray[np.uint8] = cv2.resize(region, (spec.size, spec.size), interpolation=method)
    return crop


def normalize_face(crop: NDArray[np.uint8], spec: FaceSpec | None = None) -> NDArray[np.float32]:
    """Returns the crop with mean 0 and standard deviation 1, so that light and contrast do not count.

    Args:
        crop: (..., H, W) grey levels 0..255; each crop is standardised by itself.
        spec: for its `contrast_floor`; flat crops are not blown up to noise.

    Returns:
        (..., H, W) float32.

    Raises:
        InputError: no uint8 array of at least two dimensions, or an empty one.
    """
    if crop.dtype != np.uint8 or crop.ndim < 2 or crop.size == 0:
        raise InputError(f"expected uint8 grey crops (..., H, W), got {crop.dtype} of shape {crop.shape}")
    floor = np.float32((spec or FaceSpec()).contrast_floor)
    levels = crop.astype(np.float32)
    mean = levels.mean(axis=(-2, -1), keepdims=True)
    std = levels.std(axis=(-2, -1), keepdims=True)
    standard: NDArray[np.float32] = (levels - mean) / np.maximum(std, floor)
    return standard


def _grey(cv2: Any, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    frame = np.ascontiguousarray(frame)
    if frame.ndim == 2:
        return frame
    if frame.shape[2] == 1:
        return frame[:, :, 0]
    code = cv2.COLOR_BGR2GRAY if frame.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    grey: NDArray[np.uint8] = cv2.cvtColor(frame, code)
    return grey


def _resized(cv2: Any, grey: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    if size == (grey.shape[1], grey.shape[0]):
        return np.ascontiguousarray(grey)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small: NDArray[np.uint8] = cv2.resize(grey, size, interpolation=method)
    return small


def _distance(one: FaceBox, other: FaceBox) -> float:
    """Largest displacement of an edge, in pixels."""
    right, bottom = one.left + one.size, one.top + one.size
    return max(
        abs(one.left - other.left),
        abs(one.top - other.top),
        abs(right - other.left - other.size),
        abs(bottom - other.top - other.size),
    )


def _load_cv2() -> Any:
    try:
        import cv2
    except (ImportError, OSError):
        raise MissingDependencyError(
            "finding faces in camera frames", "OpenCV", "pip install 'edgeemo[camera]'"
        ) from None
    if not hasattr(cv2, "CascadeClassifier"):
        raise MissingDependencyError(
            f"finding faces (OpenCV {cv2.__version__} has no Haar cascades)",
            "OpenCV 4.8 or newer, below 5",
            "pip install 'edgeemo[camera]'",
        )
    return cv2


def _read_cascade(cv2: Any) -> Any:
    with as_file(files("edgeemo") / "assets" / _CASCADE) as path:
        cascade = cv2.CascadeClassifier(str(path))
    if cascade.empty():
        raise InputError(f"the face cascade {path} cannot be read; install edgeemo again")
    return cascade
