"""Numbers for faces that stay the same from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeemo.features.face import FaceBox

_OVERLAP = 0.25  # intersection over union with where the face is expected
_REACH = 0.6  # or middles this near to each other, in sides, and sizes within _GROWTH
_GROWTH = 1.5
_STEADY = 0.5  # how much of a new velocity counts


@dataclass
class _Track:
    number: int
    box: FaceBox
    seen_s: float
    across: float = 0.0  # pixels a second
    down: float = 0.0

    def expected(self, time_s: float) -> FaceBox:
        gone_s = time_s - self.seen_s
        return FaceBox(self.box.left + self.across * gone_s, self.box.top + self.down * gone_s, self.box.size)

    def move(self, box: FaceBox, time_s: float) -> None:
        gone_s = time_s - self.seen_s
        if gone_s > 0:
            across, down = _shift(self.box, box)
            self.across += _STEADY * (across / gone_s - self.across)
            self.down += _STEADY * (down / gone_s - self.down)
        self.box, self.seen_s = box, time_s


class FaceTracker:
    """Gives each face a number, the same as long as it overlaps with where it was about to be.

    A face that is away for less than `gap_s` keeps its number; no number is ever given to a second
    face, not even after a reset. Pure geometry: it neither knows nor stores what a face looks like.

    Args:
        gap_s: how long a face may be away.
    """

    def __init__(self, *, gap_s: float = 1.0) -> None:
        self._gap_s = gap_s
        self._tracks: list[_Track] = []
        self._given = 0

    def __repr__(self) -> str:
        return f"FaceTracker({len(self._tracks)} faces, {self._given} so far)"

    def reset(self) -> None:
        """Forgets where the faces are; the next ones get new numbers."""
        self._tracks.clear()

    def update(self, boxes: Sequence[FaceBox], time_s: float) -> list[int]:
        """Returns the number of each face, in the order of `boxes`.

        Args:
            boxes: all faces of one frame.
            time_s: its capture time, not before that of the frame before.
        """
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= self._gap_s]
        pairs = []
        for at, box in enumerate(boxes):
            for track in self._tracks:
                likeness = _likeness(track.expected(time_s), box)
                if likeness > 0:
                    pairs.append((-likeness, track.number, at, track))
        numbers: dict[int, int] = {}
        taken: set[int] = set()
        for _, number, at, track in sorted(pairs, key=lambda pair: pair[:3]):
            if at not in numbers and number not in taken:
                numbers[at] = number
                taken.add(number)
                track.move(boxes[at], time_s)
        for at, box in enumerate(boxes):
            if at not in numbers:
                self._given += 1
                numbers[at] = self._given
                self._tracks.append(_Track(self._given, box, time_s))
        return [numbers[at] for at in range(len(boxes))]


def _likeness(expected: FaceBox, box: FaceBox) -> float:
    """How well two boxes fit, 0 where they cannot be the same face."""
    overlap = _overlap(expected, box)
    if overlap >= _OVERLAP:
        return 1.0 + overlap
    larger, smaller = max(expected.size, box.size), min(expected.size, box.size)
    across, down = _shift(expected, box)
    apart = max(abs(across), abs(down)) / larger
    return 1.0 - apart if apart <= _REACH and larger <= _GROWTH * smaller else 0.0


def _overlap(one: FaceBox, other: FaceBox) -> float:
    """Intersection over union."""
    width = min(one.left + one.size, other.left + other.size) - max(one.left, other.left)
    height = min(one.top + one.size, other.top + other.size) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (one.size**2 + other.size**2 - width * height)


def _shift(one: FaceBox, other: FaceBox) -> tuple[float, float]:
    """How far the middle moved, pixels to the right and down."""
    return (
        other.left + other.size / 2 - one.left - one.size / 2,
        other.top + other.size / 2 - one.top - one.size / 2,
    )
