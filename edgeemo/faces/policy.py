"""Whose face counts where there are several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeemo.errors import InputError
from edgeemo.features.face import FaceBox

FACE_POLICIES = ("largest", "nearest_to_centre")
_SWITCH_AREA = 1.5  # another face takes over where it is this much larger than the one followed
_SWITCH_NEARER = 0.5  # ... or this many of its own sides nearer to the middle


def check_policy(policy: str) -> str:
    """Returns `policy`.

    Raises:
        InputError: there is no such policy; the message lists those there are.
    """
    if policy not in FACE_POLICIES:
        raise InputError(f"there is no face policy {policy!r}; choose one of: {', '.join(FACE_POLICIES)}")
    return policy


def preferred_face(boxes: Sequence[FaceBox], policy: str, shape: tuple[int, ...]) -> int:
    """Returns the index of the face that the policy wants, the leftmost among equals.

    Args:
        boxes: at least one.
        policy: of `FACE_POLICIES`.
        shape: (H, W, ...) of the frame, pixels.
    """
    worth = _worth(policy, shape)
    order = range(len(boxes))
    return max(order, key=lambda i: (worth(boxes[i]), -boxes[i].left, -boxes[i].top))


def takes_over(other: FaceBox, followed: FaceBox, policy: str, shape: tuple[int, ...]) -> bool:
    """Whether `other` stands out so clearly that the face followed so far gives way to it.

    Two faces that are about as large (or as near to the middle) must not take turns.
    """
    if policy == "largest":
        return other.size**2 >= _SWITCH_AREA * followed.size**2
    worth = _worth(policy, shape)
    return worth(other) - worth(followed) >= _SWITCH_NEARER * other.size


def _worth(policy: str, shape: tuple[int, ...]) -> Callable[[FaceBox], float]:
    if check_policy(policy) == "largest":
        return lambda box: box.size
    height, width = shape[:2]
    return lambda box: -math.hypot(box.left + box.size / 2 - width / 2, box.top + box.size / 2 - height / 2)
