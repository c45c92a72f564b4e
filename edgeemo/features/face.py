"""Where a face is in a camera frame -> a standardised crop: the front-end of the video modality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.features.spec import FrontEndSpec


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
    cv2 = load_cv2()
    x, y = round(left), round(top)
    inside = frame[max(0, y) : max(1, y + side), max(0, x) : max(1, x + side)]
    beyond = (max(0, -y), max(0, y + side - height), max(0, -x), max(0, x + side - width))
    region = grey_picture(cv2, inside)
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


def grey_picture(cv2: Any, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a checked frame in grey levels (H, W); a grey one is not copied."""
    frame = np.ascontiguousarray(frame)
    if frame.ndim == 2:
        return frame
    if frame.shape[2] == 1:
        return frame[:, :, 0]
    code = cv2.COLOR_BGR2GRAY if frame.shape[2] == 3 else cv2.COLOR_BGRA2GRAY
    grey: NDArray[np.uint8] = cv2.cvtColor(frame, code)
    return grey


def resized_picture(cv2: Any, grey: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Returns a picture (H, W, ...) with its sides multiplied by `scale`, at least one pixel each."""
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    if size == (grey.shape[1], grey.shape[0]):
        return np.ascontiguousarray(grey)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small: NDArray[np.uint8] = cv2.resize(grey, size, interpolation=method)
    return small


def load_cv2() -> Any:
    """Returns OpenCV.

    Raises:
        MissingDependencyError: it is not installed, or has no Haar cascades.
    """
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
