"""The result of one hop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeemo.session.faces import FaceReading
from edgeemo.session.over_time.agreement import CLEAR_CONTRADICTION
from edgeemo.session.states import Status

NO_SIGNAL = "no signal"


@dataclass(frozen=True)
class Reading:
    """What the session can truthfully say at one moment.

    Attributes:
        time_s: capture time of the hop, on the session's clock.
        label: the most probable label of this hop, or ``"no signal"``.
        confidence: its probability; 0 without a signal.
        probabilities: label -> probability; empty without a signal.
        emotion: the momentary emotion with hysteresis, so that it does not flicker; None without a signal.
        mood: the sustained mood over the last tens of seconds; None without a signal and where there was
            too little evidence.
        mood_probabilities: label -> probability of the mood; empty where there is none.
        valence: -1 (unpleasant) to 1 (pleasant); None without a signal or for labels without coordinates.
        arousal: -1 (calm) to 1 (excited); None as valence.
        evidence: modality -> label -> its share of the logits, for each modality that was used; empty
            where the network does not say.
        modality_probabilities: modality -> label -> what that modality says on its own, each summing to 1;
            empty where there is no evidence.
        contradiction: how probable it is that the modalities express different emotions, such as a smile
            with an angry voice: 0.5 tells nothing, and what is clear says `contradicts`; None for fewer
            than two modalities with evidence.
        subset: the modalities that were used, such as ``"audio+video"``; None without a signal.
        age_s: age of the oldest of the newest data of each modality used; None without a signal.
        engine: name and variant of the engine that ran, such as ``"audio+video.int8"``; None without.
        backend: the backend that really computed; None without a signal.
        states: the state of every modality, with a sentence and since when.
        faces: every face in view by itself, the one that the reading is of first; empty without a
            `face_model` in the settings.
    """

    time_s: float
    label: str
    states: Mapping[str, Status]
    confidence: float = 0.0
    probabilities: Mapping[str, float] = field(default_factory=dict)
    emotion: str | None = None
    mood: str | None = None
    mood_probabilities: Mapping[str, float] = field(default_factory=dict)
    valence: float | None = None
    arousal: float | None = None
    evidence: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    modality_probabilities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    contradiction: float | None = None
    subset: str | None = None
    age_s: float | None = None
    engine: str | None = None
    backend: str | None = None
    faces: tuple[FaceReading, ...] = ()

    @property
    def has_signal(self) -> bool:
        """Whether there was anything to recognise an emotion from."""
        return self.subset is not None

    @property
    def contradicts(self) -> bool:
        """Whether the modalities clearly contradict each other."""
        return self.contradiction is not None and self.contradiction >= CLEAR_CONTRADICTION

    def to_json(self) -> dict[str, Any]:
        """Returns the reading as plain data for ``json.dumps``; numbers rounded to 6 digits."""
        return {
            "time_s": round(self.time_s, 6),
            "label": self.label,
            "confidence": _rounded(self.confidence),
            "probabilities": _rounded(self.probabilities),
            "emotion": self.emotion,
            "mood": self.mood,
            "mood_probabilities": _rounded(self.mood_probabilities),
            "valence": _rounded(self.valence),
            "arousal": _rounded(self.arousal),
            "evidence": _rounded(self.evidence),
            "modality_probabilities": _rounded(self.modality_probabilities),
            "contradiction": _rounded(self.contradiction),
            "subset": self.subset,
            "age_s": _rounded(self.age_s),
            "engine": self.engine,
            "backend": self.backend,
            "faces": [face.to_json() for face in self.faces],
            "states": {
                modality: {"state": str(status.state), "why": status.why, "since_s": _rounded(status.since_s)}
                for modality, status in self.states.items()
            },
        }


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return None if value is None else round(float(value), 6)
