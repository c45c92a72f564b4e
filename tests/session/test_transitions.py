"""Changes are told once, as events that programs can read, and nothing is told where nothing changed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from edgeemo.bundle import SubsetSpec
from edgeemo.session import Event, EventKind, Reading, Settings, State, Status
from edgeemo.session.events import EventLog
from edgeemo.session.over_time.completion import OverTime

LABELS = ("neutral", "happy", "angry")
FLAT = SubsetSpec(temperature=1.0, prior=(1 / 3, 1 / 3, 1 / 3))
LIVE = Status(State.LIVE, "", 0.0)


class Life:
    """Readings of half a second each, and what is told about them."""

    def __init__(self) -> None:
        self.log = EventLog()
        self.over_time = OverTime(labels=LABELS, settings=Settings(), tell=self.log.add)
        self.at_s = 0.0
        self._seen = 0

    def reading(self, **changes: Any) -> Reading:
        self.at_s += 0.5
        plain: dict[str, Any] = {"time_s": self.at_s, "label": "no signal", "states": {"audio": LIVE}}
        return Reading(**plain | changes)

    def hear(self, label: str, *, p: float = 0.9, subset: str = "audio", **changes: Any) -> Reading:
        rest = (1 - p) / (len(LABELS) - 1)
        shares = {name: p if name == label else rest for name in LABELS}
        evidence = {
            name: {key: float(np.log(value)) for key, value in shares.items()} for name in subset.split("+")
        }
        return self.complete(
            FLAT, label=label, probabilities=shares, subset=subset, **{"evidence": evidence, **changes}
        )

    def silence(self, **changes: Any) -> Reading:
        return self.complete(None, **changes)

    def complete(self, spec: SubsetSpec | None, **changes: Any) -> Reading:
        hop = self.reading(**changes)
        p = list(hop.probabilities.values()) if spec else None
        over_time = self.over_time.hear(p, hop.evidence, at_s=hop.time_s, hop_s=0.5, spec=spec)
        reading = replace(hop, **over_time._asdict())
        self.over_time.tell(reading)
        return reading

    def told(self) -> list[Event]:
        events = self.log.after(self._seen)
        self._seen = events[-1].number if events else self._seen
        return list(events)

    def changes(self) -> list[tuple[str, Any, Any]]:
        return [(str(event.kind), event.detail["from"], event.detail["to"]) for event in self.told()]


def test_the_first_reading_tells_what_serves_and_no_change_of_states() -> None:
    life = Life()
    life.hear("happy")
    assert life.changes() == [("subset_changed", None, "audio"), ("emotion_changed", None, "happy")]
    for _ in range(3):
        life.hear("happy")
    assert life.changes() == []
    life.hear("happy")
    assert life.changes() == [("mood_changed", None, "happy")]


def test_a_lost_sensor_is_told_with_its_reason() -> None:
    life = Life()
    life.hear("happy")
    life.told()
    life.silence(states={"audio": Status(State.LOST, "no sound for 0.6 s", 0.75)})
    state, subset, emotion = life.told()
    assert state.kind is EventKind.STATE_CHANGED
    assert state.message == "audio is lost, it was live: no sound for 0.6 s"
    assert state.detail == {
        "modality": "audio",
        "from": "live",
        "to": "lost",
        "why": "no sound for 0.6 s",
        "since_s": 0.75,
    }
    assert subset.kind is EventKind.SUBSET_CHANGED
    assert subset.detail == {"from": "audio", "to": None}
    assert emotion.detail == {"from": "happy", "to": None, "subset": None}
    assert {event.time_s for event in (state, subset, emotion)} == {life.at_s}
    json.dumps([event.to_json() for event in (state, subset, emotion)])
    life.silence(states={"audio": Status(State.LOST, "no sound for 1.1 s", 0.75)})
    assert life.told() == [], "the same state in other words is no change"


def test_a_mood_is_hidden_in_a_gap_and_comes_back_untold() -> None:
    life = Life()
    for _ in range(30):
        life.hear("happy")
    life.told()
    assert life.silence().mood is None
    assert life.hear("happy").mood == "happy"
    assert [kind for kind, _, _ in life.changes() if kind == "mood_changed"] == []
    for _ in range(100):
        life.silence()
    assert [(old, new) for kind, old, new in life.changes() if kind == "mood_changed"] == [("happy", None)]


def test_a_flapping_sensor_tells_no_more_than_is_true() -> None:
    life = Life()
    for _ in range(60):
        life.hear("happy")
    life.told()
    for _ in range(50):
        life.silence(states={"audio": Status(State.LOST, "gone", life.at_s)})
        life.hear("happy")
    events = life.told()
    by_kind = {kind: sum(event.kind is kind for event in events) for kind in EventKind}
    assert by_kind[EventKind.STATE_CHANGED] == by_kind[EventKind.SUBSET_CHANGED] == 100
    assert by_kind[EventKind.EMOTION_CHANGED] == 100
    assert by_kind[EventKind.MOOD_CHANGED] == 0
    for before, after in zip(events, events[3:], strict=False):
        assert before.detail["to"] == after.detail["from"]


def test_a_reset_forgets_and_tells_nothing() -> None:
    life = Life()
    for _ in range(10):
        life.hear("happy")
    life.told()
    life.over_time.reset()
    assert life.told() == []
    assert life.hear("angry").mood is None
    assert life.changes() == [("subset_changed", None, "audio"), ("emotion_changed", None, "angry")]


def test_each_modality_speaks_for_itself() -> None:
    life = Life()
    alone = life.hear("happy")
    assert alone.contradiction is None
    assert alone.modality_probabilities["audio"]["happy"] == max(
        alone.modality_probabilities["audio"].values()
    )
    smile = {"neutral": 0.0, "happy": 6.0, "angry": 0.0}
    shout = {"neutral": 0.0, "happy": 0.0, "angry": 6.0}
    odd = life.hear("happy", subset="audio+video", evidence={"audio": shout, "video": smile})
    assert odd.contradicts
    assert {m: max(p, key=lambda label: p[label]) for m, p in odd.modality_probabilities.items()} == {
        "audio": "angry",
        "video": "happy",
    }
    same = life.hear("happy", subset="audio+video", evidence={"audio": smile, "video": smile})
    assert not same.contradicts
    assert same.contradiction is not None
    assert same.contradiction < 0.3
    silent = life.hear("happy", subset="audio+video", evidence={})
    assert silent.contradiction is None
    assert silent.modality_probabilities == {}
    assert not silent.contradicts


def test_no_signal_has_no_confidence_and_no_opinion() -> None:
    life = Life()
    for _ in range(20):
        life.hear("happy")
    nothing = life.silence()
    assert nothing.confidence == 0
    assert not any((nothing.probabilities, nothing.modality_probabilities, nothing.mood_probabilities))
    assert nothing.emotion is nothing.mood is None
    assert nothing.contradiction is None
