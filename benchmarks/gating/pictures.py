"""What leaving out faces that cannot be trusted changes: accuracy with and without the gates of pictures.

Each face of the half of FER+ val that no threshold was fitted to is spoiled more and more and shown to
the session's own video stream for `LOOKS` frames, with sensor noise; then the reading of that moment is
made from face, voice and words ("label-matched": of different people), gated and not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.gating.picture_tables import Figures
from edgeemo.bundle import Bundle
from edgeemo.datasets.faces import read_ferplus
from edgeemo.faces.source import FoundFace, HaarFaces
from edgeemo.features.face import FaceBox, FaceSpec
from edgeemo.session.settings import Settings, settings_from_thresholds
from edgeemo.session.states import State
from edgeemo.session.streams.video import VideoStream
from edgeemo.training.augment.picture import DEFECTS, FRAME, Defect, in_a_picture
from edgeemo.training.live.matched import Companions, drawn_labels
from edgeemo.training.live.picture_gates import Progress, found_faces, moved_box

FACES = 240
LIVE_FACES = 120  # where the live detector looks for them
LOOKS = 4  # frames of a quarter of a second each
_FRESH_NOISE = ("noisy", "dark")  # other defects stay as they are from frame to frame
_OPEN: dict[str, Any] = {
    "face_min_detail": 0.0,
    "face_max_noise": 1e9,
    "face_min_contrast": 0.0,
    "face_max_burnt": 2.0,
    "face_min_side_px": 0.0,
    "face_max_outside": 2.0,
    "face_max_roll_deg": 360.0,
    "face_max_yaw_deg": 360.0,
}
"""Thresholds that no face crosses."""
_WITH, _WITHOUT = "audio+video+text", "audio+text"


Found = list[list[FoundFace]]  # of each frame


class _Given:
    """Gives faces that are known before, frame by frame, so that two streams can see the same."""

    detector = "known"
    many = False

    def __init__(self, found: Found) -> None:
        self._found = found
        self.searches = 0

    def find(self, frame: NDArray[np.uint8], time_s: float) -> list[FoundFace]:
        """Returns the faces of the next frame."""
        self.searches += 1
        return self._found[self.searches - 1]

    def forget(self) -> None:
        """Knows nothing to forget."""

    def reset(self) -> None:
        """Starts again with the first frame."""
        self.searches = 0


@dataclass
class _Row:
    """Counts of one defect at one strength."""

    seen: list[bool] = field(default_factory=list)  # there was a face to read, not gated
    kept: list[bool] = field(default_factory=list)  # ... gated
    right: dict[str, list[bool]] = field(default_factory=dict)

    def add(self, name: str, right: bool) -> None:
        self.right.setdefault(name, []).append(right)

    def figures(self) -> dict[str, float]:
        """Shares; video alone is right over the readings that there are."""
        shares = {name: float(np.mean(values)) for name, values in self.right.items() if values}
        return {
            "n": len(self.seen),
            "coverage": float(np.mean(self.seen)),
            "gated_coverage": float(np.mean(self.kept)),
            **shares,
            "oracle": max(shares["not gated"], shares["without"]),
        }


def measure(
    bundle: Bundle,
    data: Path,
    *,
    variant: str = "int8",
    faces: int = FACES,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Returns the figures of every defect, with a detector that misses no face and the live one.

    Args:
        bundle: what to measure.
        data: holds the data sets; only ``val`` and ``dev`` are read.
        variant: of engines and stems.
        faces: how many faces.
        settings: the gates; None for the bundle's own.
        progress: called with (what, conditions done, conditions).
    """
    spec = FaceSpec.from_json(bundle.manifest.modality("video").front_end)
    images, boxes = found_faces(read_ferplus(data / "ferplus", "val"), spec, first=1)
    held = np.array([label for _, label in images])
    rows, labels = drawn_labels(held, bundle.manifest.subsets[_WITH].prior, faces, seed=2)
    companions = Companions(bundle, data, labels, variant=variant, seed=2)
    gated = settings or settings_from_thresholds(bundle.manifest.thresholds)
    subjects = [(images[row][0], boxes[row]) for row in rows]
    try:
        followed = _curves(companions, subjects, gated, None, progress)
        haar = HaarFaces(spec, policy="largest")
        live = _curves(companions, subjects[:LIVE_FACES], gated, haar, progress)
    finally:
        companions.close()
    thresholds = {name: getattr(gated, name) for name in _OPEN}
    return {"followed": followed, "live": live, "thresholds": thresholds}


def _curves(
    companions: Companions,
    subjects: list[tuple[NDArray[np.uint8], FaceBox]],
    gated: Settings,
    detector: HaarFaces | None,
    progress: Progress | None,
) -> Figures:
    found: Figures = {}
    plan: list[tuple[Defect | None, float]] = [(None, 0.0)]
    for kind in DEFECTS:
        if detector is None:
            plan += [(kind, strength) for strength in kind.strengths]
        elif kind.name not in ("tilted", "turned"):  # without landmarks nobody can tell
            plan += [(kind, strength) for strength in kind.strengths[::2]]
    alone = [
        (companions.right(item, _WITHOUT), companions.right(item, "text")) for item in range(len(subjects))
    ]
    for number, (defect, strength) in enumerate(plan):
        row = _Row()
        for item, (image, box) in enumerate(subjects):
            frames, place = _frames(image, defect, strength, (number, item))
            faces = _known(box, place, defect, strength) if detector is None else _looked(detector, frames)
            _add(row, companions, item, alone[item], [_Shown(frames, faces, gate) for gate in (None, gated)])
        name = defect.name if defect else "none"
        found.setdefault(name, {})[f"{strength:g}"] = row.figures()
        if progress is not None:
            progress(f"{name} {strength:g}", number + 1, len(plan))
    return found


@dataclass(frozen=True)
class _Shown:
    """What a stream sees, and the settings that it has: None for one without gates."""

    frames: list[NDArray[np.uint8]]
    faces: Found
    settings: Settings | None


def _add(row: _Row, companions: Companions, item: int, alone: tuple[bool, bool], shown: list[_Shown]) -> None:
    """Reads what a stream without gates and one with let through."""
    row.add("without", alone[0])
    row.add("words alone", alone[1])
    answers: dict[bytes, tuple[bool, ...]] = {}
    stem = _Remembering(companions.stem)
    for name, kept, show in zip(("not gated", "gated"), (row.seen, row.kept), shown, strict=True):
        window = _window(companions, stem, show)
        kept.append(window is not None)
        if window is None:
            row.add(name, alone[0])
            row.add(f"video+text, {name}", alone[1])
            continue
        key = window[0].tobytes() + window[1].tobytes()
        if key not in answers:
            subsets = (_WITH, "video+text", "video")
            answers[key] = tuple(companions.right(item, subset, window) for subset in subsets)
        row.add(name, answers[key][0])
        row.add(f"video+text, {name}", answers[key][1])
        row.add(f"video, {name}", answers[key][2])


class _Remembering:
    """A stem that computes the same crop once."""

    def __init__(self, stem: Any) -> None:
        self._stem, self._known = stem, {}  # type: ignore[var-annotated]  # bytes of the crop -> outputs

    def run(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Returns the stem's outputs."""
        key = b"".join(array.tobytes() for array in feed.values())
        if key not in self._known:
            self._known[key] = self._stem.run(feed)
        outputs: dict[str, NDArray[Any]] = self._known[key]
        return outputs


def _window(
    companions: Companions, stem: Any, show: _Shown
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Returns what the session's stream has for the engine after the frames, None where it has nothing."""
    video = companions.manifest.modality("video")
    settings = replace(Settings(), **_OPEN) if show.settings is None else show.settings
    stream = VideoStream(video, stem, settings, source=_Given(show.faces))
    at_s = 0.0
    for look, frame in enumerate(show.frames):
        at_s = look * video.window.period_s
        stream.push(frame, time_s=at_s)
    stream.advance(at_s)
    filled, needed = stream.fill(at_s)
    if stream.usability(at_s).state is not State.LIVE or filled < needed:
        return None
    return stream.window(at_s)


def _looked(detector: HaarFaces, frames: list[NDArray[np.uint8]]) -> Found:
    """What the live detector finds."""
    detector.reset()
    return [detector.find(frame, look * 0.25) for look, frame in enumerate(frames)]


def _frames(
    image: NDArray[np.uint8], defect: Defect | None, strength: float, seed: tuple[int, int]
) -> tuple[list[NDArray[np.uint8]], tuple[float, float, float]]:
    """What a camera sees of the spoiled face, and where the crop is in it."""
    fresh = defect is not None and defect.name in _FRESH_NOISE
    made = []
    for look in range(LOOKS if fresh else 1):
        rng = np.random.default_rng([41, *seed, look])
        made.append(in_a_picture(image) if defect is None else defect.make(image, strength, rng))
    frames = []
    for look in range(LOOKS):
        picture = made[look if fresh else 0][0].astype(np.int16)
        # No camera gives the same picture twice; one that does is called frozen.
        grain = np.random.default_rng([43, look]).integers(-1, 2, FRAME)[: len(picture), : picture.shape[1]]
        frames.append(np.clip(picture + grain, 0, 255).astype(np.uint8))
    return frames, made[0][1]


def _known(box: FaceBox, place: tuple[float, float, float], defect: Defect | None, strength: float) -> Found:
    """Where the face is in every frame, with landmarks turned as the defect says."""
    box = moved_box(box, place)
    roll = strength if defect is not None and defect.name == "tilted" else 0.0
    yaw = strength if defect is not None and defect.name == "turned" else 0.0
    apart = 0.387
    points = np.array(
        [[-apart / 2, -0.11], [apart / 2, -0.11], [0.0, 0.1], [-0.15, 0.31], [0.15, 0.31]], np.float64
    )
    points[2, 0] += 0.5 * apart * np.tan(np.radians(min(yaw, 89.0)))
    turn = cv2.getRotationMatrix2D((0.0, 0.0), -roll, 1.0)[:, :2]
    middle = np.array([box.left + box.size / 2, box.top + box.size / 2])
    return [[FoundFace(1, box, (points @ turn.T * box.size + middle).astype(np.float32))]] * LOOKS
