"""What leaving out faces that cannot be trusted changes: accuracy with and without the gates of pictures.

Each face of the half of FER+ val that no threshold was fitted to is spoiled more and more and shown to
the session's own video stream for `LOOKS` frames, with sensor noise; then the reading of that moment is
made from face, voice and words ("label-matched": of different people), gated and not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Table
from edgeemo.bundle import Bundle
from edgeemo.datasets.faces import read_ferplus
from edgeemo.faces.source import FaceSource, FoundFace, HaarFaces
from edgeemo.features.face import FaceBox, FaceSpec
from edgeemo.session.settings import Settings, settings_from_thresholds
from edgeemo.session.states import State
from edgeemo.session.streams.video import VideoStream
from edgeemo.training.augment.picture import DEFECTS, Defect, in_a_picture
from edgeemo.training.live.matched import Companions, drawn_labels
from edgeemo.training.live.picture_gates import found_faces, moved_box

FACES = 300
LOOKS = 6  # frames of a quarter of a second each
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
_Figures = dict[str, dict[str, dict[str, float]]]  # defect -> strength -> name -> share


class Followed:
    """Gives the face where it is known to be, as a detector would that misses none."""

    detector = "known"
    many = False

    def __init__(self, box: FaceBox, landmarks: NDArray[np.float32]) -> None:
        self._found = FoundFace(1, box, landmarks)
        self.searches = 0

    def find(self, frame: NDArray[np.uint8], time_s: float) -> list[FoundFace]:
        """Returns the face."""
        self.searches += 1
        return [self._found]

    def forget(self) -> None:
        """Knows nothing to forget."""

    def reset(self) -> None:
        """Starts again."""


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
    bundle: Bundle, data: Path, *, variant: str = "int8", faces: int = FACES
) -> tuple[dict[str, Any], list[Table]]:
    """Returns figures and tables of every defect, with a detector that misses no face and the live one.

    Args:
        bundle: what to measure, with its thresholds.
        data: holds the data sets; only ``val`` and ``dev`` are read.
        variant: of engines and stems.
        faces: how many faces.
    """
    spec = FaceSpec.from_json(bundle.manifest.modality("video").front_end)
    images, boxes = found_faces(read_ferplus(data / "ferplus", "val"), spec, first=1)
    held = np.array([label for _, label in images])
    rows, labels = drawn_labels(held, bundle.manifest.subsets[_WITH].prior, faces, seed=2)
    companions = Companions(bundle, data, labels, variant=variant, seed=2)
    gated = settings_from_thresholds(bundle.manifest.thresholds)
    subjects = [(images[row][0], boxes[row]) for row in rows]
    try:
        followed = _curves(companions, subjects, gated, None)
        live = _curves(companions, subjects, gated, HaarFaces(spec, policy="largest"))
    finally:
        companions.close()
    thresholds = {name: getattr(gated, name) for name in _OPEN}
    figures = {"followed": followed, "live": live, "thresholds": thresholds}
    return figures, [*_tables(followed, faces), _live_table(live)]


def _curves(
    companions: Companions,
    subjects: list[tuple[NDArray[np.uint8], FaceBox]],
    gated: Settings,
    detector: HaarFaces | None,
) -> _Figures:
    found: _Figures = {}
    plan: list[tuple[Defect | None, float]] = [(None, 0.0)]
    plan += [(defect, strength) for defect in DEFECTS for strength in defect.strengths]
    for number, (defect, strength) in enumerate(plan):
        if detector and defect and defect.name in ("tilted", "turned"):
            continue  # the live detector gives no landmarks: nobody can tell
        row = _Row()
        for item, (image, box) in enumerate(subjects):
            frames = [_frame(image, defect, strength, (number, item, look)) for look in range(LOOKS)]
            source: FaceSource = detector or Followed(*_known(box, frames[0][1], defect, strength))
            _add(row, companions, item, [frame for frame, _ in frames], source, gated=gated)
        found.setdefault(defect.name if defect else "none", {})[f"{strength:g}"] = row.figures()
    return found


def _add(
    row: _Row,
    companions: Companions,
    item: int,
    frames: list[NDArray[np.uint8]],
    source: FaceSource,
    *,
    gated: Settings,
) -> None:
    """Shows the frames to a stream without gates and to one with, and reads what each lets through."""
    alone, words = companions.right(item, _WITHOUT), companions.right(item, "text")
    row.add("without", alone)
    row.add("words alone", words)
    answers: dict[bytes, tuple[bool, ...]] = {}
    ungated = replace(gated, **_OPEN)
    for name, settings, kept in (("not gated", ungated, row.seen), ("gated", gated, row.kept)):
        window = _window(companions, frames, source, settings)
        kept.append(window is not None)
        if window is None:
            row.add(name, alone)
            row.add(f"video+text, {name}", words)
            continue
        key = window[0].tobytes() + window[1].tobytes()
        if key not in answers:
            subsets = (_WITH, "video+text", "video")
            answers[key] = tuple(companions.right(item, subset, window) for subset in subsets)
        row.add(name, answers[key][0])
        row.add(f"video+text, {name}", answers[key][1])
        row.add(f"video, {name}", answers[key][2])


def _window(
    companions: Companions, frames: list[NDArray[np.uint8]], source: FaceSource, settings: Settings
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Returns what the session's stream has for the engine after the frames, None where it has nothing."""
    video = companions.manifest.modality("video")
    source.reset()
    stream = VideoStream(video, companions.stem, settings, source=source)
    at_s = 0.0
    for look, frame in enumerate(frames):
        at_s = look * video.window.period_s
        stream.push(frame, time_s=at_s)
    stream.advance(at_s)
    filled, needed = stream.fill(at_s)
    if stream.usability(at_s).state is not State.LIVE or filled < needed:
        return None
    return stream.window(at_s)


def _frame(
    image: NDArray[np.uint8], defect: Defect | None, strength: float, seed: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], tuple[float, float, float]]:
    """One frame of a camera that sees the spoiled face, and where the crop is in it."""
    number, item, look = seed
    fresh = look if defect is not None and defect.name in _FRESH_NOISE else 0
    rng = np.random.default_rng([41, number, item, fresh])
    picture, place = in_a_picture(image) if defect is None else defect.make(image, strength, rng)
    # No camera gives the same picture twice; one that does is called frozen.
    noise = np.random.default_rng([43, item, look]).normal(0, 0.5, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8), place


def _known(
    box: FaceBox, place: tuple[float, float, float], defect: Defect | None, strength: float
) -> tuple[FaceBox, NDArray[np.float32]]:
    """Where the face is, and landmarks turned as the defect says."""
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
    return box, (points @ turn.T * box.size + middle).astype(np.float32)


_COLUMNS = (
    "strength",
    "face read, not gated",
    "gated",
    "without the face",
    "with it, not gated",
    "gated",
    "oracle",
    "video+text: text, not gated, gated",
    "video alone: not gated, gated",
)


def _tables(figures: _Figures, faces: int) -> Iterator[Table]:
    """One table for each defect, the face followed wherever it is."""
    clean = _cells("none", figures["none"]["0"])
    for defect in DEFECTS:
        yield Table(
            f"Pictures: {defect.name}",
            f"Strength: {defect.unit}. {faces} faces of FER+ val that no threshold was fitted to, with "
            "voices and words of the same label (label-matched); accuracy of audio+video+text. The face is "
            "followed wherever it is. The oracle knows for each strength whether the face helps; video "
            "alone is right over the readings that there are.",
            _COLUMNS,
            [clean, *(_cells(strength, row) for strength, row in figures[defect.name].items())],
        )


def _live_table(figures: _Figures) -> Table:
    """All defects, the face found by the detector that ships."""
    return Table(
        "Pictures: found by the live detector",
        "As above; the face is only read where the Haar cascade finds it.",
        ("defect", *_COLUMNS),
        [(name, *_cells(strength, row)) for name, rows in figures.items() for strength, row in rows.items()],
    )


def _cells(strength: str, row: dict[str, float]) -> tuple[str, ...]:
    def share(name: str) -> str:
        return f"{row[name]:.1%}" if name in row else "-"

    return (
        strength,
        share("coverage"),
        share("gated_coverage"),
        share("without"),
        share("not gated"),
        share("gated"),
        share("oracle"),
        f"{share('words alone')}, {share('video+text, not gated')}, {share('video+text, gated')}",
        f"{share('video, not gated')}, {share('video, gated')}",
    )
