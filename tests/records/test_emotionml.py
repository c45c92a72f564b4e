"""EmotionML documents keep the rules of the Recommendation, and say what the readings say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from some_readings import HEADER, shares, some_reading, some_readings

from edgeemo.errors import RecordError
from edgeemo.records import emotionml_from_reading, emotionml_from_readings, open_recorder
from edgeemo.session import Reading

NS = "{http://www.w3.org/2009/10/emotionml}"
NMTOKEN = re.compile(r"[\w.:-]+")
ALLOWED = {
    "emotionml": {"version", "category-set", "dimension-set", "appraisal-set", "action-tendency-set"},
    "info": {"id"},
    "vocabulary": {"type", "id"},
    "item": {"name"},
    "emotion": {"id", "start", "end", "duration", "time-ref-uri", "time-ref-anchor-point", "offset-to-start"}
    | {"expressed-through", "category-set", "dimension-set", "version"},
    "category": {"name", "value", "confidence"},
    "dimension": {"name", "value", "confidence"},
}
CHANNELS = {"gaze", "face", "head", "torso", "gesture", "leg", "voice", "text", "locomotion", "posture"}


def checked(document: str) -> ElementTree.Element:
    """Returns the root of a document that keeps the rules of REC-emotionml-20140522."""
    root = ElementTree.fromstring(document)  # noqa: S314  # our own
    assert root.tag == f"{NS}emotionml"
    assert root.get("version") == "1.0"
    children = [child.tag for child in root]
    assert f"{NS}info" not in children[1:], "info comes first"
    assert set(children) <= {f"{NS}info", f"{NS}emotion", f"{NS}vocabulary"}
    for element in root.iter():
        if element.tag.startswith(NS):
            assert set(element.attrib) <= ALLOWED[element.tag.removeprefix(NS)], element.tag
    ids = [element.get("id") for element in root.iter() if element.tag.startswith(NS) and element.get("id")]
    assert len(ids) == len(set(ids))
    sets = {vocabulary.get("id"): vocabulary for vocabulary in root.iter(f"{NS}vocabulary")}
    for vocabulary in sets.values():
        assert vocabulary.get("type") in {"category", "dimension"}
        names = [item.get("name", "") for item in vocabulary]
        assert names
        assert len(names) == len(set(names))
        assert all(NMTOKEN.fullmatch(name) for name in names)
    for info in root.iter(f"{NS}info"):
        assert all(not child.tag.startswith(NS) for child in info), "only other namespaces"
    for emotion in root.iter(f"{NS}emotion"):
        _check_emotion(emotion, root, sets, ids)
    return root


def _check_emotion(
    emotion: ElementTree.Element,
    root: ElementTree.Element,
    sets: dict[str | None, ElementTree.Element],
    ids: list[str | None],
) -> None:
    kinds = [child.tag.removeprefix(NS) for child in emotion]
    assert kinds.count("info") <= 1
    assert {"category", "dimension"} & set(kinds), "an emotion says at least one"
    for kind in ("category", "dimension"):
        found = emotion.findall(f"{NS}{kind}")
        if found:
            reference = emotion.get(f"{kind}-set") or root.get(f"{kind}-set")
            assert reference
            vocabulary = sets[reference.removeprefix("#")]
            assert vocabulary.get("type") == kind
            names = [element.get("name") for element in found]
            assert len(names) == len(set(names))
            assert set(names) <= {item.get("name") for item in vocabulary}
        for element in found:
            scales = {
                key: float(element.get(key, "0")) for key in ("value", "confidence") if key in element.attrib
            }
            assert all(0 <= number <= 1 for number in scales.values())
            assert kind == "category" or "value" in scales, "a dimension has a value"
    for key in ("start", "end", "duration"):
        if key in emotion.attrib:
            assert re.fullmatch(r"\d+", emotion.attrib[key]), "whole milliseconds"
    if "start" in emotion.attrib and "end" in emotion.attrib:
        assert int(emotion.attrib["start"]) <= int(emotion.attrib["end"])
    if "time-ref-uri" in emotion.attrib:
        assert emotion.attrib["time-ref-uri"].removeprefix("#") in ids
        assert re.fullmatch(r"-?\d+", emotion.attrib["offset-to-start"])
    assert set(emotion.get("expressed-through", "").split()) <= CHANNELS


def confidences(emotion: ElementTree.Element) -> dict[str | None, float]:
    return {c.get("name"): float(c.get("confidence", "nan")) for c in emotion.findall(f"{NS}category")}


def test_a_reading_with_its_modalities() -> None:
    root = checked(emotionml_from_reading(some_reading(0), HEADER))
    together, voice, face, one = root.findall(f"{NS}emotion")
    assert confidences(together) == pytest.approx(shares("happy"))
    assert together.get("expressed-through") == "voice face"
    assert (together.get("start"), together.get("end")) == ("1700000000000", "1700000000500")
    assert {d.get("name"): d.get("value") for d in together.findall(f"{NS}dimension")} == {
        "valence": "0.824000",
        "arousal": "0.400000",
    }
    assert voice.get("expressed-through") == "voice"
    assert confidences(voice) == pytest.approx(shares("angry"))
    assert face.get("expressed-through") == "face"
    assert confidences(face) == pytest.approx(shares("happy"))
    track = one.find(f"{NS}info/{{urn:edgeemo:reading:1}}face")
    assert track is not None
    assert (track.get("track-id"), track.get("box")) == ("7", "0.25 0.125 0.5 0.5")
    assert confidences(one)["happy"] == pytest.approx(0.9)
    info = together.find(f"{NS}info/{{urn:edgeemo:reading:1}}reading")
    assert info is not None
    assert (info.get("subset"), info.get("contradiction")) == ("audio+video", "0.81")
    assert info.get("state-video") == "live"


def test_a_session_leaves_gaps_where_there_was_no_signal() -> None:
    root = checked(emotionml_from_readings(some_readings(9), HEADER))
    starts = [int(e.get("start", "0")) - 1_700_000_000_000 for e in root.findall(f"{NS}emotion")]
    assert sorted(set(starts)) == [0, 500, 1500, 2000, 3000, 3500]


def test_no_signal_alone_is_a_document_without_emotion() -> None:
    assert checked(emotionml_from_reading(some_reading(2), HEADER)).findall(f"{NS}emotion") == []


def test_a_recording_has_a_time_of_its_own() -> None:
    root = checked(emotionml_from_readings(some_readings(3), replace(HEADER, started_at_ms=None)))
    second = root.findall(f"{NS}emotion")[4]
    assert (second.get("offset-to-start"), second.get("duration")) == ("500", "500")
    assert second.get("start") is None


def test_labels_and_words_that_xml_does_not_like() -> None:
    labels = ("very <happy>", "very &happy&", "")
    header = replace(HEADER, labels=labels, model_id='m"<\x00\ud800')
    reading = Reading(
        time_s=1.0,
        label=labels[0],
        states={},
        probabilities=dict.fromkeys(labels, 1 / 3),
        subset="video",
        engine="a\x0bb]]>",
    )
    root = checked(emotionml_from_reading(reading, header))
    assert len(confidences(root.findall(f"{NS}emotion")[0])) == 3


def test_a_reading_of_another_model_is_refused() -> None:
    with pytest.raises(RecordError, match="the labels neutral, happy, angry, its record's header calm"):
        emotionml_from_reading(some_reading(0), replace(HEADER, labels=("calm",)))


@pytest.mark.parametrize("suffix", [".xml", ".emotionml"])
def test_a_record_is_the_same_document(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with open_recorder(path, HEADER) as recorder:
        for reading in some_readings(20):
            recorder.write(reading)
    document = path.read_text(encoding="utf-8")
    checked(document)
    assert document == emotionml_from_readings(some_readings(20), HEADER)
