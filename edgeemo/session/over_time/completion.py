"""What one hop alone cannot say: emotion and mood over time, agreement, and what has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgeemo.bundle import SubsetSpec
from edgeemo.session.over_time.agreement import contradiction_of, shares_from_evidence
from edgeemo.session.over_time.emotion import MomentaryEmotion
from edgeemo.session.over_time.mood import Mood
from edgeemo.session.over_time.transitions import Tell, Transitions
from edgeemo.session.reading import Reading
from edgeemo.session.settings import Settings


class Sustained(NamedTuple):
    """What a reading says beyond its own hop; the fields are those of `Reading`."""

    emotion: str | None
    mood: str | None
    mood_probabilities: Mapping[str, float]
    modality_probabilities: Mapping[str, Mapping[str, float]]
    contradiction: float | None


SILENT = Sustained(None, None, {}, {}, None)
"""Without a signal nothing is shown; the mood is kept all the same."""


class OverTime:
    """Follows the readings of one session, in the order of their times: `hear`, then `tell`, for each hop.

    Args:
        labels: what the probabilities count in, in order.
        settings: margins and the time constant of the mood.
        tell: takes the events of changes, as `EventLog.add`.
    """

    def __init__(self, *, labels: Sequence[str], settings: Settings, tell: Tell) -> None:
        self._labels = tuple(labels)
        self._emotion = MomentaryEmotion(margin=settings.emotion_margin)
        self._mood = Mood(labels=len(self._labels), tau_s=settings.mood_tau_s, margin=settings.mood_margin)
        self._transitions = Transitions(tell)
        self._kept_mood: str | None = None

    def reset(self) -> None:
        """Starts again as if there had been no reading; tells nothing."""
        self._emotion.reset()
        self._mood.reset()
        self._transitions.reset()
        self._kept_mood = None

    def hear(
        self,
        p: Sequence[float] | None,
        evidence: Mapping[str, Mapping[str, float]],
        *,
        at_s: float,
        hop_s: float,
        spec: SubsetSpec | None,
    ) -> Sustained:
        """Returns emotion, mood, each modality's own say and their contradiction.

        Args:
            p: probabilities of this hop in the order of the labels; None without a signal.
            evidence: modality -> label -> its share of the logits of this hop.
            at_s: capture time of the hop.
            hop_s: seconds that a hop covers.
            spec: of the subset that answered; None without a signal.
        """
        labels = self._labels
        self._emotion.update(p)
        self._mood.update(p, at_s=at_s, hop_s=hop_s)
        mood = None if self._mood.label is None else labels[self._mood.label]
        self._kept_mood = mood
        if spec is None:
            return SILENT
        emotion, shares = self._emotion.label, self._mood.probabilities
        own = shares_from_evidence(evidence, temperature=spec.temperature)
        return Sustained(
            None if emotion is None else labels[emotion],
            mood,
            {} if shares is None else dict(zip(labels, shares, strict=True)),
            own,
            contradiction_of(own),
        )

    def tell(self, reading: Reading) -> None:
        """Tells what is other in the complete reading of the hop than in the one before."""
        self._transitions.update(reading, mood=self._kept_mood)
