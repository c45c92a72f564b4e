"""The events of a real session are exactly the changes between its readings."""

from __future__ import annotations

from itertools import pairwise

from edgeemo.sensors.drop import parse_drop
from edgeemo.session import EngineOptions, Event, EventKind, Reading, Session
from edgeemo.shipped import RECORDING

DROPS = [parse_drop(text) for text in ("video@2-4", "audio@3-5", "text@0-14", "video@9-12", "audio@9-11")]


def followed() -> tuple[list[Reading], list[Event]]:
    with Session(media=RECORDING, drops=DROPS, engines=EngineOptions(variant="int8")) as session:
        return list(session), list(session.events())


def test_events_tell_each_change_between_readings_once() -> None:
    readings, events = followed()
    expected: list[tuple[str, float, object, object]] = []
    first = readings[0]
    if first.subset:
        expected.append(("subset_changed", first.time_s, None, first.subset))
        expected.append(("emotion_changed", first.time_s, None, first.emotion))
    for before, after in pairwise(readings):
        for modality, now in after.states.items():
            if now.state is not before.states[modality].state:
                old = str(before.states[modality].state)
                expected.append(("state_changed", after.time_s, old, str(now.state)))
        if before.subset != after.subset:
            expected.append(("subset_changed", after.time_s, before.subset, after.subset))
        if before.emotion != after.emotion:
            expected.append(("emotion_changed", after.time_s, before.emotion, after.emotion))
    mood = EventKind.MOOD_CHANGED
    told = [
        (str(event.kind), event.time_s, event.detail["from"], event.detail["to"])
        for event in events
        if event.kind is not mood
    ]
    assert told == expected
    assert {"state_changed", "subset_changed", "emotion_changed"} <= {kind for kind, *_ in told}
    assert any(reading.subset is None for reading in readings), "the drops leave a moment without a signal"
    kept = {reading.time_s: reading.mood for reading in readings if reading.has_signal}
    mood_told = [event.detail["to"] for event in events if event.kind is mood]
    shown = [None, *kept.values()]
    assert mood_told == [after for before, after in pairwise(shown) if before != after]


def test_readings_say_what_each_modality_says_and_whether_they_agree() -> None:
    readings, _ = followed()
    together = [reading for reading in readings if len(reading.evidence) > 1]
    assert together
    for reading in readings:
        assert set(reading.modality_probabilities) == set(reading.evidence)
        assert all(abs(sum(p.values()) - 1) < 1e-9 for p in reading.modality_probabilities.values())
        assert (reading.contradiction is not None) == (len(reading.evidence) > 1)
        if not reading.has_signal:
            assert reading.confidence == 0
    assert len({reading.contradiction for reading in together}) == len(together)
