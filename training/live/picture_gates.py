"""Learns from spoiled pictures of FER+ val when a face does more harm than good.

For each kind of defect, faces of known label are spoiled more and more, read together with clean voices
and words of the same label, and compared with what is read without the face. A threshold is where
leaving the face out starts to pay; a defect that the network survives gets a threshold that nothing in
the measured range crosses. Every second face is left for `benchmarks.gating`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle
from edgeemo.datasets.faces import FaceImages, read_ferplus
from edgeemo.errors import InputError
from edgeemo.faces.finder import FaceFinder
from edgeemo.features.face import FaceBox, FaceSpec, crop_face, normalize_face
from edgeemo.quality.face import face_quality
from edgeemo.training.augment.picture import DEFECTS, in_a_picture
from edgeemo.training.live.matched import Companions, drawn_labels

Progress = Callable[[str, int, int], None]

FACES = 400
PAIRS = (("audio+video+text", "audio+text"), ("audio+video", "audio"), ("video+text", "text"))
_KEPT_GAIN = 0.9  # the mildest gate that gains this part of what the best one does
_LEAST_SHARE = 0.1  # of what a face that looks at the camera adds, that a turned one must add
_DEVIATIONS = 2.0  # a gain less than this many standard deviations from none is none


@dataclass(frozen=True)
class Gate:
    """One threshold.

    Attributes:
        name: of the field of `edgeemo.session.Settings`.
        measure: of `FaceQuality`, or ``strength`` of the defect itself.
        below: whether it fires below the threshold or above.
        defects: what it is fitted on.
    """

    name: str
    measure: str
    below: bool
    defects: tuple[str, ...]


GATES = (
    Gate("face_min_detail", "detail", True, ("blurred", "moving")),
    Gate("face_max_noise", "noise", False, ("noisy", "dark")),
    Gate("face_min_contrast", "contrast", True, ("dark",)),
    Gate("face_max_burnt", "burnt", False, ("overexposed",)),
    Gate("face_min_side_px", "side_px", True, ("small",)),
    Gate("face_max_outside", "outside", False, ("cut off",)),
    Gate("face_max_roll_deg", "strength", False, ("tilted",)),
    Gate("face_max_yaw_deg", "strength", False, ("turned",)),
)


@dataclass(frozen=True)
class Trial:
    """One spoiled face.

    Attributes:
        defect: its name, ``"none"`` for the picture as it is.
        strength: of the defect.
        measures: measure -> value.
        gain: mean over `PAIRS` of right with the face less right without it, -1 to 1.
    """

    defect: str
    strength: float
    measures: dict[str, float]
    gain: float


def fit_picture_thresholds(
    bundle: Bundle, data: Path, *, faces: int = FACES, progress: Progress | None = None
) -> dict[str, float]:
    """Returns the thresholds of pictures and faces, by the names of `Settings`.

    Args:
        bundle: the model, in int8.
        data: holds the data sets; only ``val`` and ``dev`` are read.
        faces: how many faces are spoiled in every way.
        progress: called with (what, trials done, trials).
    """
    trials = list(picture_trials(bundle, data, faces=faces, progress=progress))
    clean = [trial for trial in trials if trial.defect == "none"]
    found = {}
    for gate in GATES:
        spoiled = [trial for trial in trials if trial.defect in gate.defects]
        if gate.measure == "strength":
            found[gate.name] = fitted_angle(spoiled, float(np.mean([trial.gain for trial in clean])))
            continue
        found[gate.name] = fitted_threshold(
            np.array([trial.measures[gate.measure] for trial in spoiled]),
            np.array([trial.gain for trial in spoiled]),
            np.array([trial.measures[gate.measure] for trial in clean]),
            below=gate.below,
        )
    return found


def fitted_threshold(
    measures: NDArray[np.float64],
    gains: NDArray[np.float64],
    clean: NDArray[np.float64],
    *,
    below: bool,
) -> float:
    """Returns the threshold beyond which leaving the face out pays, rounded to three digits.

    It is the mildest one that keeps `_KEPT_GAIN` of the most that any can gain, and never one that a
    clean face crosses. Where nothing can be gained it is the worst value that was measured: what lies
    beyond was never seen.

    Args:
        measures: (N,) of spoiled faces.
        gains: (N,) what each of them adds.
        clean: (M,) measures of unspoiled faces.
        below: whether faces below the threshold are left out, or those above.
    """
    sign = 1.0 if below else -1.0
    order = np.argsort(sign * measures, kind="stable")  # the worst first
    values, saved = sign * measures[order], np.cumsum(-gains[order])
    spread = np.sqrt(np.cumsum(gains[order] ** 2))
    # Between equal values no threshold can be: only the last of them counts.
    ends = np.append(values[1:] > values[:-1], False)
    paying = np.flatnonzero(ends & (saved > _DEVIATIONS * spread))
    if len(paying):
        enough = np.flatnonzero(ends & (saved >= _KEPT_GAIN * saved[paying].max()))[0]
        limit = (values[enough] + values[enough + 1]) / 2
    else:
        limit = values[0]
    limit = min(limit, float((sign * clean).min()))
    return float(f"{sign * limit:.3g}")


def fitted_angle(turned: Sequence[Trial], clean_gain: float) -> float:
    """Returns the angle beyond which a face adds less than `_LEAST_SHARE` of one that looks at the camera.

    A tilted crop and a turned cylinder show more than a turned head, whose nose and cheek hide the rest;
    so what adds next to nothing here is not used, although it does no harm here.

    Args:
        turned: trials by angle (their strength, degrees).
        clean_gain: what a face that looks at the camera adds.
    """
    angles = sorted({trial.strength for trial in turned})
    least = _LEAST_SHARE * clean_gain
    for angle, following in pairwise(angles):
        if np.mean([trial.gain for trial in turned if trial.strength == following]) < least:
            return (angle + following) / 2
    return angles[-1]


def picture_trials(
    bundle: Bundle, data: Path, *, faces: int = FACES, progress: Progress | None = None
) -> Iterator[Trial]:
    """Yields every spoiled face; see `fit_picture_thresholds`.

    The live detector finds each face in the plain picture, and it is cut there in the spoiled one: a
    better detector would find what this one does not.
    """
    spec = FaceSpec.from_json(bundle.manifest.modality("video").front_end)
    images, boxes = found_faces(read_ferplus(data / "ferplus", "val"), spec, first=0)
    held = np.array([label for _, label in images])
    prior = bundle.manifest.subsets["audio+video+text"].prior
    rows, labels = drawn_labels(held, prior, faces, seed=1)
    companions = Companions(bundle, data, labels, seed=1)
    try:
        without = [[companions.right(item, other) for _, other in PAIRS] for item in range(faces)]
        plan = [(None, 0.0), *((defect, s) for defect in DEFECTS for s in defect.strengths)]
        for number, (defect, strength) in enumerate(plan):
            for item, row in enumerate(rows):
                image, rng = images[row][0], np.random.default_rng([31, number, item])
                frame, place = in_a_picture(image) if defect is None else defect.make(image, strength, rng)
                box = moved_box(boxes[row], place)
                try:
                    crop = crop_face(frame, box, spec)
                except InputError:
                    continue  # the face is not in the picture at all
                window = still_window(companions, crop, spec)
                gains = [
                    companions.right(item, subset, window) - alone
                    for (subset, _), alone in zip(PAIRS, without[item], strict=True)
                ]
                quality = face_quality(crop, box, frame.shape, spec)
                measures = {**vars(quality), "strength": strength}
                yield Trial(defect.name if defect else "none", strength, measures, float(np.mean(gains)))
            if progress is not None:
                progress("spoiled faces", (number + 1) * faces, len(plan) * faces)
    finally:
        companions.close()


def found_faces(
    faces: FaceImages, spec: FaceSpec, *, first: int
) -> tuple[list[tuple[NDArray[np.uint8], int]], list[FaceBox]]:
    """Returns every second face with a label that the live detector finds in a picture, and where.

    Args:
        faces: of FER+.
        spec: of the detector.
        first: 0 for the half that thresholds are fitted to, 1 for the one they are measured on.
    """
    finder = FaceFinder(spec)
    found, boxes = [], []
    for row in np.flatnonzero(faces.label >= 0)[first::2]:
        finder.reset()
        box = finder.find(in_a_picture(faces.images[row])[0], 0.0)
        if box is not None:
            found.append((faces.images[row], int(faces.label[row])))
            boxes.append(box)
    return found, boxes


def moved_box(box: FaceBox, place: tuple[float, float, float]) -> FaceBox:
    """Returns where a box of the plain picture is in a spoiled one.

    Args:
        box: in the plain picture.
        place: left and top of the crop in the spoiled picture, and its scale.
    """
    left, top, _ = in_a_picture(np.zeros((48, 48), np.uint8))[1]
    new_left, new_top, scale = place
    return FaceBox(new_left + (box.left - left) * scale, new_top + (box.top - top) * scale, box.size * scale)


def still_window(
    companions: Companions, crop: NDArray[np.uint8], spec: FaceSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the window of a face that was in view, unmoved, for the whole of it."""
    video = companions.manifest.modality("video")
    crops = normalize_face(crop, spec)[None, None]
    features = companions.stem.run({f"input.{video.name}": crops})[f"features.{video.name}"]  # (1, 1, D)
    length = video.window.length
    return np.repeat(features, length, axis=1), np.ones((1, length), np.float32)
