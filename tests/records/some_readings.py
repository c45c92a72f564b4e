"""Readings as sessions give them, real in every field, for tests of what keeps and shows them."""

from __future__ import annotations

from edgeemo.records import RecordHeader
from edgeemo.session import Reading, State, Status
from edgeemo.session.faces import FaceReading

LABELS = ("neutral", "happy", "angry")
HEADER = RecordHeader("tiny", LABELS, ("audio", "video"), hop_s=0.5, started_at_ms=1_700_000_000_000)
LOST = Status(State.LOST, 'no data for 0.6 s <& "quoted">\x07 ü', 0.25)
LIVE = Status(State.LIVE, "", 0.0)

FACE = FaceReading(
    7, (0.25, 0.125, 0.5, 0.5), True, "happy", 0.9, {"neutral": 0.05, "happy": 0.9, "angry": 0.05}, 0.1
)
AWAY = FaceReading(9, (0.75, 0.125, 0.25, 0.25), False, turned_away=True, why="it is turned away")


def shares(label: str, p: float = 0.8) -> dict[str, float]:
    rest = round((1 - p) / (len(LABELS) - 1), 6)
    return {name: p if name == label else rest for name in LABELS}


def some_reading(number: int) -> Reading:
    """Every third has no signal; of the others every second has two modalities that contradict each other."""
    time_s = 0.5 * (number + 1)
    if number % 3 == 2:
        return Reading(time_s=time_s, label="no signal", states={"audio": LOST, "video": LOST})
    both = number % 2 == 0
    return Reading(
        time_s=time_s,
        label="happy",
        states={"audio": LIVE if both else LOST, "video": LIVE},
        confidence=0.8,
        probabilities=shares("happy"),
        emotion="happy",
        mood="neutral" if number > 3 else None,
        mood_probabilities=shares("neutral", 0.5) if number > 3 else {},
        valence=0.648,
        arousal=-0.2,
        evidence={"video": {"neutral": -1.0, "happy": 2.5, "angry": -1.5}} if both else {},
        modality_probabilities={"audio": shares("angry"), "video": shares("happy")} if both else {},
        contradiction=0.81 if both else None,
        subset="audio+video" if both else "video",
        age_s=0.033333,
        engine="audio+video.int8" if both else "video.int8",
        backend="cpu",
        faces=(FACE, AWAY) if both else (),
    )


def some_readings(count: int) -> list[Reading]:
    return [some_reading(number) for number in range(count)]
