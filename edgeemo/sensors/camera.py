"""The camera, through OpenCV: a device, a stable path, a network address or a video file."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError, SensorError
from edgeemo.modality import VIDEO
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import Device, Gone
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.supervision import Patience
from edgeemo.sensors.video_nodes import VideoNode, list_video_nodes

INSTALL_CAMERA = "pip install 'edgeemo[camera]'"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
NETWORK_PATIENCE = Patience(deadline_s=2.0, reopen_s=4.0, open_s=15.0)
"""Networks hold frames back for longer than a cable does."""


class Camera(LiveSensor):
    """Frames from a camera, as uint8 BGR chunks stamped when they arrived.

    Args:
        source: number, path such as ``/dev/v4l/by-id/...`` (which survives renumbering), part of a
            camera's name (Linux), URL (RTSP, HTTP) or video file, which is shown at its own pace once;
            None for the first camera there is.
        size: (width, height) in pixels asked of the device; it may choose another.
        max_fps: frames beyond this many a second are skipped before they are decoded.
        buffer_frames: frames kept while nobody polls; older ones are dropped and counted.
        patience: deadlines and back-off; None waits longer for URLs than for devices.

    Attributes:
        is_url: whether it is reached over a network.
    """

    def __init__(
        self,
        source: int | str | os.PathLike[str] | None = None,
        *,
        size: tuple[int, int] | None = None,
        max_fps: float | None = 15.0,
        buffer_frames: int = 16,
        patience: Patience | None = None,
    ) -> None:
        if max_fps is not None and not max_fps > 0:
            raise InputError(f"max_fps must be above 0 frames a second, got {max_fps}")
        place = source if source is None or isinstance(source, int) else os.fspath(source)
        if isinstance(place, str) and place.isdigit():
            place = int(place)
        self.is_url = isinstance(place, str) and _URL.match(place) is not None
        super().__init__(
            VIDEO,
            "first camera" if place is None else f"camera {_without_password(place)}",
            capacity=buffer_frames,
            policy="drop-oldest",
            patience=patience or (NETWORK_PATIENCE if self.is_url else Patience()),
        )
        self._source = place
        self._size = size
        self._max_fps = max_fps

    def check_name(self) -> None:
        """Raises for a camera asked for by name that does not exist, or whose library is missing."""
        if self._source is None:
            return
        load_cv2()
        place = self._find()
        if isinstance(place, Gone):
            raise SensorError(place.why)

    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens the camera, with time limits where its backend knows them."""
        cv2 = load_cv2()
        place = self._find()
        if isinstance(place, Gone):
            return place
        if isinstance(place, str) and not self.is_url and not place.startswith("/dev/"):
            return _Capture(
                cv2.VideoCapture(place, cv2.CAP_FFMPEG), self, clock, max_fps=self._max_fps, file=True
            )
        denied = _denied(place)
        if denied:
            return Gone("absent", denied)
        if self.is_url:
            limits = [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * self.patience.open_s)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * self.patience.reopen_s)),
            ]
            capture = cv2.VideoCapture(place, cv2.CAP_FFMPEG, limits)
        else:
            capture = cv2.VideoCapture(place, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
            if capture.isOpened():
                capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
                if self._size:
                    capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
                    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        return _Capture(capture, self, clock, max_fps=self._max_fps, file=False)

    def _find(self) -> int | str | Gone:
        """What OpenCV is to open: a number, a path or a URL."""
        source = self._source
        if isinstance(source, str) and (self.is_url or os.path.exists(source)):
            real = os.path.realpath(source)
            return real if real.startswith("/dev/video") else source
        if sys.platform != "linux":  # the system tells nobody which cameras there are: opening one tells
            if isinstance(source, str):
                return Gone("absent", f"there is no {self.name}: no such file or address")
            return source or 0
        nodes = list_video_nodes()
        node = _match(nodes, source)
        if node is None:
            wanted = "" if source is None else f"there is no {self.name}; "
            return Gone("absent", wanted + _listed(nodes))
        return node.number


class _Capture:
    """An open `cv2.VideoCapture`."""

    def __init__(
        self, capture: Any, camera: Camera, clock: Clock, *, max_fps: float | None, file: bool
    ) -> None:
        if not capture.isOpened():
            capture.release()
            raise SensorError(f"{camera.name} cannot be opened: {_why_closed(camera, file=file)}")
        self._capture, self._camera, self._clock = capture, camera, clock
        self._max_fps, self._file = max_fps, file
        self._opened_s = clock()
        self._slot = -math.inf

    def read(self) -> Chunk | Gone | None:
        if not self._capture.grab():
            if self._file:
                return Gone("lost", f"{self._camera.name} has ended", retry=False)
            return Gone("lost", f"{self._camera.name} gives no frames")
        if self._file:
            self._wait_for_its_time()
        time_s = self._clock()
        if self._max_fps:
            slot = math.floor(time_s * self._max_fps)
            if slot == self._slot:
                return None
            self._slot = slot
        ok, frame = self._capture.retrieve()
        if not ok or frame is None or frame.size == 0:
            self._camera.count_losses(drops=1)
            return None
        return Chunk(VIDEO, time_s, bgr_from_frame(frame))

    def close(self) -> None:
        self._capture.release()

    def _wait_for_its_time(self) -> None:
        position_s = self._capture.get(0) / 1000.0  # CAP_PROP_POS_MSEC
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
        raise MissingDependencyError("The camera", "OpenCV", INSTALL_CAMERA) from None
    module: ModuleType = cv2
    return module


def _match(nodes: list[VideoNode], wanted: int | str | None) -> VideoNode | None:
    if wanted is None:
        return next(iter(nodes), None)
    if isinstance(wanted, int):
        return next((node for node in nodes if node.number == wanted), None)
    return next((node for node in nodes if wanted.casefold() in node.name.casefold()), None)


def _listed(nodes: list[VideoNode]) -> str:
    if not nodes:
        return "no camera is connected (no /dev/video*)"
    return "there are: " + ", ".join(f"{node.number} ({node.name})" for node in nodes)


def _denied(place: int | str) -> str:
    path = Path(f"/dev/video{place}" if isinstance(place, int) else place)
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return (
            f"this user may not read {path}; allow it with: sudo usermod -aG video $USER (then log in again)"
        )
    return ""


def _why_closed(camera: Camera, *, file: bool) -> str:
    if file:
        return "it is not a video that OpenCV reads"
    if camera.is_url:
        return "it does not answer, or sends no video"
    return "it is in use by another program, gone, or gives no video"


def _without_password(place: int | str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", str(place))
