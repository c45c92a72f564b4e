"""The camera: a device, a stable path, a network address, a GStreamer pipeline or a video file."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from edgeemo.errors import InputError, MissingDependencyError, SensorError
from edgeemo.modality import VIDEO
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections import Device, Gone, Recipe, can_isolate
from edgeemo.sensors.listing.video_nodes import VideoNode, list_video_nodes
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.opencv import INSTALL_CAMERA, Capture, has_gstreamer, load_cv2
from edgeemo.sensors.queue import Policy
from edgeemo.sensors.supervision import Patience

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PIPELINE = re.compile(r"\s!\s")
NETWORK_PATIENCE = Patience(deadline_s=2.0, reopen_s=4.0, open_s=15.0)
"""Networks hold frames back for longer than a cable does."""
NO_GSTREAMER = (
    "this OpenCV has no GStreamer, which a pipeline needs; on a Jetson take the system's: "
    "sudo apt-get install python3-opencv, in a virtual environment made with --system-site-packages, "
    "and pip uninstall opencv-python-headless there"
)
_NO_CAMERA = "it is in use by another program, gone, or gives no video"
_NO_STREAM = "it does not answer, or sends no video"
_NO_VIDEO = "it is not a video that OpenCV reads"
_NO_PIPELINE = "GStreamer does not run it; try it with gst-launch-1.0"


class Camera(LiveSensor):
    """Frames from a camera, as uint8 BGR chunks stamped when they arrived.

    Devices, addresses and pipelines are read in a child process, because some drivers block for ever when
    a camera is unplugged: the child is killed then, and another one tries again. A stream that changes the
    size of its frames goes on in the size that it began with, because OpenCV scales them.

    Args:
        source: number (found again by its stable path where Linux knows one), path such as
            ``/dev/v4l/by-id/...``, part of a camera's name (Linux), URL (RTSP, HTTP), GStreamer pipeline
            (``nvarguscamerasrc ! ... ! appsink``, with an OpenCV that has GStreamer) or video file, which
            is shown at its own pace once; None for the first camera there is.
        size: (width, height) in pixels asked of the device; it may choose another.
        max_fps: frames beyond this many a second are skipped before they are decoded.
        buffer_frames: frames kept while nobody polls.
        policy: what becomes of frames beyond that: ``drop-oldest`` (counted), ``latest`` or ``block``.
        patience: deadlines and back-off; None waits longer for URLs than for devices.
        isolate: True reads it in a child process, False in a thread; None in a child, but for files and
            where this Python cannot start one.
        required: whether `start` refuses a camera asked for that does not exist; False waits for it to be
            plugged in.

    Attributes:
        is_url: whether it is reached over a network.
        is_pipeline: whether it is a GStreamer pipeline.
        is_file: whether it is a video file.

    Raises:
        InputError: `max_fps` is not above 0, or the policy is unknown.
    """

    def __init__(
        self,
        source: int | str | os.PathLike[str] | None = None,
        *,
        size: tuple[int, int] | None = None,
        max_fps: float | None = 15.0,
        buffer_frames: int = 16,
        policy: Policy = "drop-oldest",
        patience: Patience | None = None,
        isolate: bool | None = None,
        required: bool = True,
    ) -> None:
        if max_fps is not None and not max_fps > 0:
            raise InputError(f"max_fps must be above 0 frames a second, got {max_fps}")
        place = source if source is None or isinstance(source, int) else os.fspath(source)
        if isinstance(place, str) and place.isdigit():
            place = int(place)
        self.is_pipeline = isinstance(place, str) and _PIPELINE.search(place) is not None
        self.is_url = isinstance(place, str) and not self.is_pipeline and _URL.match(place) is not None
        self.is_file = isinstance(place, str) and os.path.isfile(place)
        isolate = can_isolate() and not self.is_file if isolate is None else isolate
        super().__init__(
            VIDEO,
            "first camera" if place is None else f"camera {_without_password(place)}",
            capacity=buffer_frames,
            policy=policy,
            patience=patience or (NETWORK_PATIENCE if self.is_url else Patience()),
            connection="process" if isolate else "thread",
        )
        self._source = place
        self._size = size
        self._max_fps = max_fps
        self._required = required
        self._known_as: str | None = None

    @property
    def by_name(self) -> bool:
        """Whether only opening it can tell that it cannot be: pipelines without GStreamer."""
        return self.is_pipeline and self._required

    def check_name(self) -> None:
        """Raises for a camera asked for by name that does not exist, or whose library is missing."""
        if self._source is None or not self._required:
            return
        if importlib.util.find_spec("cv2") is None:
            raise MissingDependencyError("the camera", "OpenCV", INSTALL_CAMERA)
        place = self._find()
        if isinstance(place, Gone):
            raise SensorError(place.why)

    def glance(self) -> Gone | None:
        """Looks whether Linux lists the camera at all."""
        place = self._find()
        return place if isinstance(place, Gone) else None

    def recipe(self) -> Recipe:
        """How a child process makes it."""
        place = self._find()
        source = self._source if isinstance(place, Gone) else place
        options = {"source": source, "size": self._size, "max_fps": self._max_fps}
        return Recipe("edgeemo.sensors.camera:Camera", options)

    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens the camera, with time limits where its backend knows them."""
        cv2 = load_cv2()
        place = self._find()
        if isinstance(place, Gone):
            return place
        why, is_file, keeps_rate = _NO_CAMERA, False, True
        if self.is_pipeline:
            if not has_gstreamer(cv2):
                return Gone("absent", f"{self.name} cannot be opened: {NO_GSTREAMER}", retry=False)
            capture, why = cv2.VideoCapture(place, cv2.CAP_GSTREAMER), _NO_PIPELINE
        elif self.is_url:
            limits = [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1000 * self.patience.open_s)),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * self.patience.reopen_s)),
                *(cv2.CAP_PROP_N_THREADS, 1),
            ]
            capture, why = cv2.VideoCapture(place, cv2.CAP_FFMPEG, limits), _NO_STREAM
            keeps_rate = not str(place).startswith("http")  # FFmpeg makes one up for motion JPEG
        elif isinstance(place, str) and not place.startswith("/dev/"):
            capture, why, is_file = cv2.VideoCapture(place, cv2.CAP_FFMPEG), _NO_VIDEO, True
        else:
            denied = _denied(place)
            if denied:
                return Gone("absent", denied)
            capture = self._open_node(cv2, place)
        return Capture(
            capture,
            name=self.name,
            clock=clock,
            count_losses=self.count_losses,
            max_fps=self._max_fps,
            why_closed=why,
            is_file=is_file,
            keeps_rate=keeps_rate and not is_file,
        )

    def _open_node(self, cv2: Any, place: int | str) -> Any:
        capture = cv2.VideoCapture(place, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        if capture.isOpened():
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            if self._size:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[0])
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[1])
        return capture

    def _find(self) -> int | str | Gone:
        """What OpenCV is to open: a number, a path or a URL."""
        source = self._source
        if isinstance(source, str) and (self.is_url or self.is_pipeline or os.path.exists(source)):
            real = os.path.realpath(source)
            return real if real.startswith("/dev/video") else source
        if sys.platform != "linux":  # the system tells nobody which cameras there are: opening one tells
            if isinstance(source, str):
                return Gone("absent", f"there is no {self.name}: no such file or address")
            return source or 0
        nodes = list_video_nodes()
        if isinstance(source, int) and self._known_as:  # numbers change when cameras come and go
            node = next((node for node in nodes if node.stable_path == self._known_as), None)
        else:
            node = _match(nodes, source)
        if node is None:
            wanted = "" if source is None else f"there is no {self.name}; "
            return Gone("absent", wanted + _listed(nodes))
        self._known_as = node.stable_path
        return node.number


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


def _without_password(place: int | str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", str(place))
