"""Frames from OpenCV's `VideoCapture`. This is the only file of the sensors that loads ``cv2``."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError, SensorError
from edgeemo.modality import VIDEO
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import Gone

INSTALL_CAMERA = "pip install 'edgeemo[camera]'"
_CAP_PROP_POS_MSEC, _CAP_PROP_FPS = 0, 5  # cv2's constants; numbers need no import
_MOST_FPS = 1000.0


class Capture:
    """An open `cv2.VideoCapture`.

    Args:
        capture: the capture.
        name: the camera in words.
        clock: stamps frames when they arrive.
        count_losses: takes ``drops``.
        max_fps: frames beyond this many a second are skipped before they are decoded.
        why_closed: what to say where it did not open.
        is_file: whether it ends, and plays at its own pace.
        keeps_rate: whether the rate that it reports is to be believed.

    Attributes:
        declared_rate: frames a second to expect of it, None where nobody knows.

    Raises:
        SensorError: it did not open.
    """

    def __init__(
        self,
        capture: Any,
        *,
        name: str,
        clock: Clock,
        count_losses: Callable[..., None],
        max_fps: float | None,
        why_closed: str,
        is_file: bool = False,
        keeps_rate: bool = False,
    ) -> None:
        if not capture.isOpened():
            capture.release()
            raise SensorError(f"{name} cannot be opened: {why_closed}")
        self._capture, self._name, self._clock = capture, name, clock
        self._count_losses = count_losses
        self._max_fps, self._is_file = max_fps, is_file
        self._opened_s = clock()
        self._slot = -math.inf
        fps = float(capture.get(_CAP_PROP_FPS)) if keeps_rate else 0.0
        known = math.isfinite(fps) and 0 < fps < _MOST_FPS
        self.declared_rate = min(fps, max_fps or math.inf) if known else None

    def read(self) -> Chunk | Gone | None:
        """Waits for the next frame, as long as the driver does."""
        if not self._capture.grab():
            if self._is_file:
                return Gone("lost", f"{self._name} has ended", retry=False)
            return Gone("lost", f"{self._name} gives no frames")
        if self._is_file:
            self._wait_for_its_time()
        time_s = self._clock()
        if self._max_fps:
            slot = math.floor(time_s * self._max_fps)
            if slot == self._slot:
                return None
            self._slot = slot
        ok, frame = self._capture.retrieve()
        if not ok or frame is None or frame.size == 0:
            self._count_losses(drops=1)
            return None
        return Chunk(VIDEO, time_s, bgr_from_frame(frame))

    def close(self) -> None:
        """Releases the camera."""
        self._capture.release()

    def _wait_for_its_time(self) -> None:
        position_s = self._capture.get(_CAP_PROP_POS_MSEC) / 1000.0
        time.sleep(min(1.0, max(0.0, self._opened_s + position_s - self._clock())))


def bgr_from_frame(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns (H, W, 3) uint8 BGR of a frame that may be grey (H, W) or have one or four channels.

    Raises:
        InputError: the frame is of another shape or type.
    """
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3):
        raise InputError(f"a frame must be uint8 of 2 or 3 dimensions, got {frame.dtype} of {frame.shape}")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.shape[2] == 1:
        frame = np.repeat(frame, 3, axis=2)
    if frame.shape[2] not in (3, 4):
        raise InputError(f"a frame must have 1, 3 or 4 channels, got shape {frame.shape}")
    return np.ascontiguousarray(frame[:, :, :3])


def load_cv2() -> ModuleType:
    """Returns the cv2 module.

    Raises:
        MissingDependencyError: OpenCV is not installed, or a library under it is missing.
    """
    try:
        import cv2
    except (ImportError, OSError):
        raise MissingDependencyError("the camera", "OpenCV", INSTALL_CAMERA) from None
    module: ModuleType = cv2
    return module


def has_gstreamer(cv2: ModuleType) -> bool:
    """Whether this OpenCV was built with GStreamer; the wheels on PyPI are not."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
