"""One reading for each face in view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import SubsetSpec, probabilities_from_logits
from edgeemo.session.streams.video import SeenFace
from edgeemo.windows import Float32

Recognize = Callable[[Float32, Float32], NDArray[Any] | None]


@dataclass(frozen=True)
class FaceReading:
    """What can truthfully be said about one face, from its picture alone.

    Attributes:
        track_id: its number: the same while the face stays in view, also over gaps of up to a second,
            and never given to another face of the session. It says nothing about who it is.
        box: left, top, width and height as fractions of the frame; it may reach beyond 0 to 1.
        main: whether the reading as a whole is of this face.
        label: the most probable label, None where the face cannot be read.
        confidence: its probability; 0 without a label.
        probabilities: label -> probability; empty without a label.
        age_s: age of the newest picture that was used; None where there is none.
        turned_away: whether it does not look at the camera.
        why: why it has no label, in a sentence; empty where it has one.
    """

    track_id: int
    box: tuple[float, float, float, float]
    main: bool
    label: str | None = None
    confidence: float = 0.0
    probabilities: Mapping[str, float] = field(default_factory=dict)
    age_s: float | None = None
    turned_away: bool = False
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the reading as plain data for ``json.dumps``; numbers rounded to 6 digits."""
        return {
            "track_id": self.track_id,
            "box": [round(float(value), 6) for value in self.box],
            "main": self.main,
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "probabilities": {label: round(p, 6) for label, p in self.probabilities.items()},
            "age_s": None if self.age_s is None else round(self.age_s, 6),
            "turned_away": self.turned_away,
            "why": self.why,
        }


def read_faces(
    faces: Iterable[SeenFace], recognize: Recognize, subset: SubsetSpec | None, labels: tuple[str, ...]
) -> tuple[FaceReading, ...]:
    """Returns a reading of every face, with one run of the engine for each that can be read.

    Args:
        faces: of `VideoStream.faces`.
        recognize: features (1, T, D) and mask (1, T) of one face -> logits (C,) of the engine of the video
            alone, None where there is none at the moment.
        subset: its temperature and prior; None where the model has no such engine.
        labels: in the order of the logits.
    """
    return tuple(_read(face, recognize, subset, labels) for face in faces)


def face_from_json(data: Mapping[str, Any]) -> FaceReading:
    """Returns the reading that `FaceReading.to_json` wrote."""
    left, top, width, height = (float(value) for value in data["box"])
    return FaceReading(**{**data, "box": (left, top, width, height)})


def _read(
    face: SeenFace, recognize: Recognize, subset: SubsetSpec | None, labels: tuple[str, ...]
) -> FaceReading:
    seen = FaceReading(
        face.track, face.box, face.main, age_s=face.age_s, turned_away=face.turned_away, why=face.why
    )
    if face.why:
        return seen
    logits = None if subset is None else recognize(face.features, face.mask)
    if subset is None or logits is None:
        return replace(seen, why="no engine for the video alone is open")
    p = probabilities_from_logits(logits, subset)
    return replace(
        seen,
        label=labels[int(np.argmax(p))],
        confidence=float(p.max()),
        probabilities={label: float(value) for label, value in zip(labels, p, strict=True)},
    )
