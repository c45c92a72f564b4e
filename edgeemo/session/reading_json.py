"""A reading from the plain data that `Reading.to_json` gives, checked on the way.

What each key holds stands in the schema ``reading`` of `edgeemo.schemas`, and in docs/json.md. What cannot
be known without a signal is null or empty. Later versions may add keys; those not known here are left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from edgeemo.errors import InputError
from edgeemo.session.faces import FaceReading, face_from_json
from edgeemo.session.reading import Reading
from edgeemo.session.states import State, Status


def reading_from_json(data: Mapping[str, Any]) -> Reading:
    """Returns the reading that `Reading.to_json` wrote; the way back and forth gives the same data.

    Args:
        data: one parsed JSON object, as the schema describes it; ``time_s``, ``label`` and ``states``
            must be there, others may be missing, as in records of earlier versions.

    Raises:
        InputError: a key is missing or holds something else than the schema says; the message names it.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"a reading is a JSON object, got {type(data).__name__}")
    for key in ("time_s", "label", "states"):
        if key not in data:
            raise InputError(
                f"this is no reading: it has no {key!r}; it has: {', '.join(map(str, data)) or 'nothing'}"
            )
    values: dict[str, Any] = {}
    for key, parse in _PARSERS.items():
        if data.get(key) is not None:
            values[key] = parse(key, data[key])
    return Reading(**values)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(key, value, "a string")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(key, value, "a finite number")
    return float(value)


def _numbers(key: str, value: Any) -> dict[str, float]:
    return {name: _number(f"{key}.{name}", inner) for name, inner in _object(key, value).items()}


def _tables(key: str, value: Any) -> dict[str, dict[str, float]]:
    return {name: _numbers(f"{key}.{name}", inner) for name, inner in _object(key, value).items()}


def _states(key: str, value: Any) -> dict[str, Status]:
    return {name: _status(f"{key}.{name}", inner) for name, inner in _object(key, value).items()}


def _status(key: str, value: Any) -> Status:
    status = _object(key, value)
    if status.get("state") not in tuple(State):
        raise _wrong(f"{key}.state", status.get("state"), f"one of {', '.join(State)}")
    return Status(
        State(status["state"]),
        _text(f"{key}.why", status.get("why", "")),
        _number(f"{key}.since_s", status.get("since_s", 0.0)),
    )


def _faces(key: str, value: Any) -> tuple[FaceReading, ...]:
    if not isinstance(value, list):
        raise _wrong(key, value, "a list")
    faces = []
    for number, face in enumerate(value):
        try:
            faces.append(face_from_json(_object(f"{key}.{number}", face)))
        except (KeyError, TypeError, ValueError) as reason:
            raise _wrong(f"{key}.{number}", face, f"a face ({reason!r})") from None
    return tuple(faces)


def _object(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "an object")
    return value


def _wrong(key: str, value: Any, expected: str) -> InputError:
    return InputError(f"{key} of this reading is {value!r}, expected {expected}")


_PARSERS: Mapping[str, Callable[[str, Any], Any]] = {
    "time_s": _number,
    "label": _text,
    "confidence": _number,
    "probabilities": _numbers,
    "emotion": _text,
    "mood": _text,
    "mood_probabilities": _numbers,
    "valence": _number,
    "arousal": _number,
    "evidence": _tables,
    "modality_probabilities": _tables,
    "contradiction": _number,
    "subset": _text,
    "age_s": _number,
    "engine": _text,
    "backend": _text,
    "states": _states,
    "faces": _faces,
}
