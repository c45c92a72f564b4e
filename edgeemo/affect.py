"""Valence and arousal from the probabilities of the seven emotions."""

from __future__ import annotations

from collections.abc import Mapping

COORDINATES: Mapping[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happy": (0.81, 0.51),
    "sad": (-0.63, -0.27),
    "angry": (-0.51, 0.59),
    "fear": (-0.64, 0.60),
    "disgust": (-0.60, 0.35),
    "surprise": (0.40, 0.67),
}
"""Mean pleasure and arousal ratings in [-1, 1] of the terms happy, sad, angry, fearful, disgusted and
surprised: J. A. Russell and A. Mehrabian, "Evidence for a three-factor theory of emotions", Journal of
Research in Personality 11 (1977), table 2. Neutral is the origin by definition."""


def valence_arousal(probabilities: Mapping[str, float]) -> tuple[float, float] | None:
    """Returns the expected (valence, arousal), each in [-1, 1].

    A label without published coordinates makes the pair meaningless, so None comes back where one has
    a probability.

    Args:
        probabilities: label -> probability, summing to 1.
    """
    valence = arousal = 0.0
    for label, p in probabilities.items():
        place = COORDINATES.get(label)
        if place is None:
            return None
        valence += p * place[0]
        arousal += p * place[1]
    return valence, arousal
