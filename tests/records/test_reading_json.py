"""A reading goes to JSON and back, and what is no reading is refused with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some_readings import some_reading, some_readings

from edgeemo.errors import InputError
from edgeemo.session import Reading, State, Status
from edgeemo.session.faces import FaceReading
from edgeemo.session.reading_json import reading_from_json

numbers = st.floats(-1e6, 1e6)
words = st.text(max_size=8)
tables = st.dictionaries(words, numbers, max_size=3)
anything = st.builds(
    Reading,
    time_s=st.floats(0, 1e6),
    label=words,
    states=st.dictionaries(words, st.builds(Status, st.sampled_from(State), words, numbers), max_size=3),
    confidence=st.floats(0, 1),
    probabilities=tables,
    emotion=st.none() | words,
    mood=st.none() | words,
    mood_probabilities=tables,
    valence=st.none() | numbers,
    arousal=st.none() | numbers,
    evidence=st.dictionaries(words, tables, max_size=3),
    modality_probabilities=st.dictionaries(words, tables, max_size=3),
    contradiction=st.none() | st.floats(0, 1),
    subset=st.none() | words,
    age_s=st.none() | numbers,
    engine=st.none() | words,
    backend=st.none() | words,
    faces=st.lists(
        st.builds(
            FaceReading,
            track_id=st.integers(0, 99),
            box=st.tuples(*[st.floats(-1, 2)] * 4),
            main=st.booleans(),
            label=st.none() | words,
            probabilities=tables,
            age_s=st.none() | numbers,
            why=words,
        ),
        max_size=2,
    ).map(tuple),
)


@given(anything)
def test_there_and_back_gives_the_same(reading: Reading) -> None:
    data = json.loads(json.dumps(reading.to_json()))
    assert reading_from_json(data).to_json() == data


def test_numbers_of_six_digits_come_back_as_they_were() -> None:
    for reading in some_readings(9):
        assert reading_from_json(reading.to_json()) == reading


def test_records_of_other_versions_are_read() -> None:
    data = some_reading(0).to_json()
    without = {key: value for key, value in data.items() if key in {"time_s", "label", "states"}}
    assert reading_from_json(without | {"of_a_later_version": 1}).label == "happy"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_s": "soon"}, r"time_s of this reading is 'soon', expected a finite number"),
        ({"time_s": float("nan")}, "time_s .* finite"),
        ({"confidence": True}, "confidence .* finite number"),
        ({"label": 3}, "label .* a string"),
        ({"probabilities": [0.5, 0.5]}, "probabilities .* an object"),
        ({"evidence": {"audio": {"happy": None}}}, r"evidence\.audio\.happy"),
        ({"states": {"audio": {"state": "asleep"}}}, r"states\.audio\.state .* one of absent, lost, muted"),
        ({"faces": {}}, "faces .* a list"),
        ({"faces": [{"track_id": 1}]}, r"faces\.0 .* a face \(KeyError\('box'\)\)"),
        ({"faces": [3]}, r"faces\.0 .* an object"),
        ({"states": {"audio": {"state": []}}}, r"states\.audio\.state of this reading is \[\]"),
        ({"states": {"audio": "live"}}, r"states\.audio .* an object"),
    ],
)
def test_what_is_no_reading_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        reading_from_json(some_reading(0).to_json() | change)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InputError, match="no 'states'; it has: time_s, label"):
        reading_from_json({"time_s": 1.0, "label": "happy"})
    with pytest.raises(InputError, match="JSON object, got list"):
        reading_from_json([])  # type: ignore[arg-type]  # on purpose
