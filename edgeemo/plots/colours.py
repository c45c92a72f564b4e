"""Colours of labels, states and engines, on light and on dark paper."""

from __future__ import annotations

from dataclasses import dataclass

from edgeemo.session import State

LABELS = {
    "neutral": "#9aa5b1",
    "happy": "#f2b134",
    "sad": "#3f7fd1",
    "angry": "#d9483b",
    "fear": "#8b5fbf",
    "disgust": "#5a9e4b",
    "surprise": "#23b5c4",
}
_OTHERS = ("#c97b4a", "#6b7fd7", "#b04a8f", "#3fa796", "#a3a847", "#7a6a5d")
STATES = {
    State.LIVE: "#3fa66b",
    State.QUIET: "#9fd3c0",
    State.POOR: "#e8b84a",
    State.MUTED: "#a58bc9",
    State.ABSENT: "#b9c0c8",
    State.LOST: "#a3174f",
}
ENGINES = ("#4c6b8a", "#7d97b0", "#5b8a8a", "#8a7d5b", "#8a5b7d", "#6d8a5b", "#5b5f8a")


@dataclass(frozen=True)
class Paper:
    """What a picture is drawn on.

    Attributes:
        ground: of the picture.
        ink: of words and lines.
        faint: of what is beside the point.
        grid: of lines in the back.
    """

    ground: str
    ink: str
    faint: str
    grid: str


LIGHT = Paper("#ffffff", "#20262d", "#6a7480", "#e3e7eb")
DARK = Paper("#14181d", "#e6eaee", "#97a1ac", "#2c333b")


def label_colours(labels: tuple[str, ...]) -> list[str]:
    """Returns a colour for each label; those of the seven emotions are always the same."""
    others = iter(_OTHERS * (len(labels) // len(_OTHERS) + 1))
    return [LABELS.get(label) or next(others) for label in labels]
