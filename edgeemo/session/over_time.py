"""What one hop alone cannot say: emotion and mood over time, agreement, and what has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeemo.bundle import SubsetSpec
from edgeemo.session.agreement import contradiction_of, shares_from_evidence
from edgeemo.session.mood import Mood
from edgeemo.session.reading import Reading
from edgeemo.session.settings import Settings
from edgeemo.session.smoothing import MomentaryEmotion
from edgeemo.session.transitions import Tell, Transitions


class OverTime:
    """Completes the readings of one session, in the order of their times.

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

    def reset(self) -> None:
        """Starts again as if there had been no reading; tells nothing."""
        self._emotion.reset()
        self._mood.reset()
        self._transitions.reset()

    def update(self, reading: Reading, *, hop_s: float, spec: SubsetSpec | None) -> Reading:
        """Returns the reading with emotion, mood, each modality's own say and their contradiction.

        Args:
            reading: of this hop alone: label, probabilities, evidence, subset and states.
            hop_s: seconds that a hop covers.
            spec: of the subset that answered; None without a signal.
        """
        labels = self._labels
        p = [reading.probabilities[label] for label in labels] if spec else None
        self._emotion.update(p)
        self._mood.update(p, at_s=reading.time_s, hop_s=hop_s)
        mood = None if self._mood.label is None else labels[self._mood.label]
        if spec is not None:
            emotion, mood_shares = self._emotion.label, self._mood.probabilities
            own = shares_from_evidence(reading.evidence, temperature=spec.temperature)
            reading = replace(
                reading,
                emotion=None if emotion is None else labels[emotion],
                mood=mood,
                mood_probabilities={} if mood_shares is None else dict(zip(labels, mood_shares, strict=True)),
                modality_probabilities=own,
                contradiction=contradiction_of(own),
            )
        self._transitions.update(reading, mood=mood)
        return reading
