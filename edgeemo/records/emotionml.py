"""Readings as EmotionML 1.0, the W3C's Recommendation of 22 May 2014 (REC-emotionml-20140522).

=========================== ========================================================================
of a reading                in EmotionML
=========================== ========================================================================
labels                      a ``category`` vocabulary of our own, defined in the document
probabilities               one ``category`` a label, its ``confidence`` the probability
valence, arousal            ``dimension`` elements of a vocabulary defined in the document; -1..1 is
                            mapped to EmotionML's 0..1, so 0.5 is neutral
modalities used             ``expressed-through``: voice, face, text
modality_probabilities      where there are two or more: one ``emotion`` each, of the same time, so
                            that a smile with an angry voice is two emotions that differ
faces                       one ``emotion`` for each that could be read, with its track and place in
                            ``info``
time                        ``start`` and ``end`` in milliseconds since 1970 where the record knows
                            when it began, else ``offset-to-start`` and ``duration`` from its start;
                            a reading stands for the hop that ends at its time
everything else             attributes of a ``reading`` element in ``info``
no signal                   nothing: an emotion must say one
=========================== ========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from edgeemo.affect import COORDINATES
from edgeemo.errors import RecordError
from edgeemo.records.header import RecordHeader
from edgeemo.records.read import iterate_record
from edgeemo.session import Reading

NAMESPACE = "http://www.w3.org/2009/10/emotionml"
OWN_NAMESPACE = "urn:edgeemo:reading:1"
EXPRESSED_THROUGH = {"audio": "voice", "video": "face", "text": "text"}
"""Modality -> the Recommendation's word for the channel."""
_IN_INFO = ("subset", "engine", "backend", "age_s", "emotion", "mood", "contradiction")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_TOKEN = re.compile(r"[^\w.:-]")


def emotionml_from_reading(reading: Reading, header: RecordHeader) -> str:
    """Returns one reading as an EmotionML document.

    Args:
        reading: with or without a signal; without one the document has no emotion.
        header: labels, hop and start of the session.
    """
    return emotionml_from_readings([reading], header)


def emotionml_from_readings(readings: Iterable[Reading], header: RecordHeader) -> str:
    """Returns the readings of one session as an EmotionML document.

    Args:
        readings: in the order of their times; those without a signal leave gaps.
        header: labels, hop and start of the session.

    Raises:
        RecordError: a reading has labels that the header has not.
    """
    names = _names(header.labels)
    emotions = [_emotions(reading.to_json(), header, names) for reading in readings]
    return "".join([_head([header], names), *emotions, _TAIL])


def write_emotionml(source: Path, target: Path) -> int:
    """Writes a record as an EmotionML document and returns how many readings it has.

    Args:
        source: a record.
        target: overwritten.

    Raises:
        RecordError: the source is missing or broken.
        OSError: the target cannot be written.
    """
    headers = [entry for entry in iterate_record(source) if isinstance(entry, RecordHeader)]
    names = _names(dict.fromkeys(label for header in headers for label in header.labels))
    count = 0
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.write(_head(headers, names))
        header = headers[0]
        for entry in iterate_record(source):
            if isinstance(entry, RecordHeader):
                header = entry
            else:
                file.write(_emotions(entry, header, names))
                count += 1
        file.write(_TAIL)
    return count


_TAIL = "</emotionml>\n"


def _head(headers: list[RecordHeader], names: Mapping[str, str]) -> str:
    models = " ".join(dict.fromkeys(header.model_id for header in headers))
    known = set(names) <= set(COORDINATES)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<emotionml version="1.0" xmlns="{NAMESPACE}" category-set="#labels"'
        + (' dimension-set="#affect">' if known else ">"),
        f'<info id="session"><session xmlns="{OWN_NAMESPACE}" model-id={_quoted(models)}/></info>',
        '<vocabulary type="category" id="labels">',
        *(f"<item name={_quoted(name)}/>" for name in names.values()),
        "</vocabulary>",
    ]
    if known:
        lines += [
            '<vocabulary type="dimension" id="affect">',
            '<item name="valence"/>',
            '<item name="arousal"/>',
            "</vocabulary>",
        ]
    return "\n".join(lines) + "\n"


def _emotions(reading: Mapping[str, Any], header: RecordHeader, names: Mapping[str, str]) -> str:
    """Returns the emotion of a reading, then those of its modalities; empty without a signal."""
    if reading.get("subset") is None:
        return ""
    modalities = reading["subset"].split("+")
    when = _when(reading["time_s"], header)
    first = f"<emotion {when} expressed-through={_through(modalities)}>"
    lines = [first, _info(reading), *_categories(reading["probabilities"], names)]
    for name in ("valence", "arousal"):
        if (value := reading.get(name)) is not None:
            lines.append(f'<dimension name="{name}" value="{(value + 1) / 2:.6f}"/>')
    lines.append("</emotion>")
    own = reading.get("modality_probabilities", {})
    if len(own) > 1:
        for modality, says in own.items():
            first = f"<emotion {when} expressed-through={_through([modality])}>"
            lines += [first, *_categories(says, names), "</emotion>"]
    for face in reading.get("faces", ()):
        if face["probabilities"]:
            box = " ".join(map(str, face["box"]))
            said = f'<face xmlns="{OWN_NAMESPACE}" track-id="{face["track_id"]}" box="{box}"/>'
            first = f'<emotion {when} expressed-through="face">'
            lines += [first, f"<info>{said}</info>", *_categories(face["probabilities"], names), "</emotion>"]
    return "\n".join(lines) + "\n"


def _through(modalities: Iterable[str]) -> str:
    return _quoted(" ".join(EXPRESSED_THROUGH.get(name) or _token(name) for name in modalities))


def _categories(probabilities: Mapping[str, float], names: Mapping[str, str]) -> Iterator[str]:
    if not probabilities.keys() <= names.keys():
        raise RecordError(
            f"the reading has the labels {', '.join(probabilities)}, its record's header {', '.join(names)}"
        )
    for label, probability in probabilities.items():
        yield f'<category name={_quoted(names[label])} confidence="{probability:.6f}"/>'


def _when(time_s: float, header: RecordHeader) -> str:
    hop_ms = round(header.hop_s * 1000)
    end_ms = round(time_s * 1000)
    if header.started_at_ms is None:
        return f'time-ref-uri="#session" offset-to-start="{end_ms - hop_ms}" duration="{hop_ms}"'
    end_ms += header.started_at_ms
    return f'start="{max(0, end_ms - hop_ms)}" end="{max(0, end_ms)}"'


def _info(reading: Mapping[str, Any]) -> str:
    said = {"time-s": reading["time_s"]}
    said |= {key.replace("_", "-"): reading[key] for key in _IN_INFO if reading.get(key) is not None}
    for modality, status in reading.get("states", {}).items():
        said[f"state-{_token(modality)}"] = status["state"]
    words = " ".join(f"{key}={_quoted(str(value))}" for key, value in said.items())
    return f'<info><reading xmlns="{OWN_NAMESPACE}" {words}/></info>'


def _names(labels: Iterable[str]) -> dict[str, str]:
    """Returns label -> NMTOKEN, each its own."""
    names: dict[str, str] = {}
    for label in labels:
        name = _token(label)
        while name in names.values():
            name += "_"
        names[label] = name
    return names


def _token(text: str) -> str:
    return _NO_TOKEN.sub("_", text) or "_"


def _quoted(text: str) -> str:
    return quoteattr(_NO_XML.sub("\ufffd", text))
