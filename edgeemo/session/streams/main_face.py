"""Which of several faces the session's own reading is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeemo.faces.policy import check_policy, preferred_face, takes_over
from edgeemo.features.face import FaceBox


@dataclass(frozen=True)
class Candidate:
    """A face in a frame.

    Attributes:
        track: its number.
        box: where it is, pixels.
        usable: whether it can be read.
    """

    track: int
    box: FaceBox
    usable: bool


class MainFace:
    """Keeps to one face, so that the reading does not hop between people.

    The face stays until another one clearly suits the policy better, or until it was away or unusable
    (turned to the side, blurred) for `patience_s` while another one could be read.

    Args:
        policy: of `policy.FACE_POLICIES`.
        patience_s: see above.

    Raises:
        InputError: there is no such policy.
    """

    def __init__(self, policy: str, *, patience_s: float) -> None:
        self._policy, self._patience_s = check_policy(policy), patience_s
        self.reset()

    def reset(self) -> None:
        """Forgets the face."""
        self._track: int | None = None
        self._usable_s = 0.0

    def choose(self, faces: Sequence[Candidate], shape: tuple[int, ...], time_s: float) -> int | None:
        """Returns the track of the main face, which may be away at the moment; None before the first.

        Args:
            faces: all faces of a frame.
            shape: (H, W, ...) of the frame, pixels.
            time_s: its capture time.
        """
        if not faces:
            return self._track
        usable = [face for face in faces if face.usable]
        best = self._preferred(usable or faces, shape)
        current = next((face for face in faces if face.track == self._track), None)
        if current is not None and current.usable:
            changes = takes_over(best.box, current.box, self._policy, shape)
        else:
            waited = time_s - self._usable_s >= self._patience_s
            changes = self._track is None or (waited and (best.usable or current is None))
        if changes:
            self._track, current = best.track, best
        if current is not None and (current.usable or changes):
            self._usable_s = time_s
        return self._track

    def _preferred(self, faces: Sequence[Candidate], shape: tuple[int, ...]) -> Candidate:
        return faces[preferred_face([face.box for face in faces], self._policy, shape)]
