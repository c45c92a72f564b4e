"""From readings to the fields of ROS 2 messages, and from images to frames: plain data, no ROS needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.sensors.base import SensorStatus
from edgeemo.session import Reading, SessionStats, State

OK, WARN, ERROR, STALE = 0, 1, 2, 3
"""Levels of diagnostic_msgs/DiagnosticStatus, in the order of its constants."""

EXPRESSIONS: Mapping[str, str] = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "scared",
    "disgust": "disgusted",
    "surprise": "surprised",
}
"""Our labels -> the words of hri_msgs/Expression, which has 25: the six basic emotions and neutral among
them. The other 18 are finer than what these labels tell apart."""

_LEVELS = {State.LIVE: OK, State.QUIET: OK, State.MUTED: OK, State.POOR: WARN, State.LOST: ERROR}
_CHANNELS = {"bgr8": 3, "rgb8": 3, "bgra8": 4, "rgba8": 4, "mono8": 1, "8UC1": 1, "8UC3": 3}


@dataclass(frozen=True)
class Expression:
    """The fields of hri_msgs/Expression but for its header.

    Attributes:
        expression: one of its words; empty where the label of the model is none of them.
        valence: -1 to 1; NaN where the model does not say.
        arousal: -1 to 1; NaN as valence.
        confidence: 0 to 1.
    """

    expression: str
    valence: float
    arousal: float
    confidence: float


@dataclass(frozen=True)
class Diagnosis:
    """The fields of diagnostic_msgs/DiagnosticStatus.

    Attributes:
        level: `OK`, `WARN`, `ERROR` or `STALE`.
        name: what it is about.
        message: one sentence.
        hardware_id: the device.
        values: more about it; keys and values are texts.
    """

    level: int
    name: str
    message: str
    hardware_id: str
    values: Mapping[str, str]


def expression_from_reading(reading: Reading, words: Mapping[str, str] = EXPRESSIONS) -> Expression | None:
    """Returns what is to be published, None without a signal: nothing stale is ever said again.

    Args:
        reading: of the session.
        words: label of the model -> word of hri_msgs/Expression.
    """
    if not reading.has_signal:
        return None
    label = reading.emotion or reading.label
    return Expression(
        expression=words.get(label, ""),
        valence=math.nan if reading.valence is None else reading.valence,
        arousal=math.nan if reading.arousal is None else reading.arousal,
        confidence=reading.probabilities.get(label, reading.confidence),
    )


def diagnoses_from_session(
    reading: Reading, stats: SessionStats, *, expected: Collection[str], name: str
) -> list[Diagnosis]:
    """Returns one diagnosis for each modality of the model and one for the engine.

    Args:
        reading: the newest.
        stats: of the same session.
        expected: modalities that a device or a topic is there for; that another one is absent is fine,
            because the model works without it.
        name: of the node; each diagnosis is called ``<name>: <what>``.
    """
    diagnoses = []
    for modality, status in reading.states.items():
        sensor = stats.sensors.get(modality)
        level = _LEVELS.get(status.state, ERROR if modality in expected else OK)
        diagnoses.append(
            Diagnosis(
                level=level,
                name=f"{name}: {modality}",
                message=f"{status.state}: {status.why}" if status.why else str(status.state),
                hardware_id=modality,
                values={"state": str(status.state), "since_s": f"{status.since_s:.3f}"} | _values(sensor),
            )
        )
    return [*diagnoses, _engine(reading, stats, name=name)]


def _values(sensor: SensorStatus | None) -> dict[str, str]:
    if sensor is None:
        return {}
    rates = {"rate": sensor.rate, "declared_rate": sensor.declared_rate}
    return {
        "sensor": f"{sensor.state}: {sensor.why}" if sensor.why else sensor.state,
        **{key: f"{rate:.2f}" for key, rate in rates.items() if rate is not None},
        "drops": str(sensor.drops),
        "reconnects": str(sensor.reconnects),
    }


def _engine(reading: Reading, stats: SessionStats, *, name: str) -> Diagnosis:
    late = stats.late_hops / max(1, stats.hops)
    message = reading.engine or "no modality is live: nothing is said about anybody"
    level = WARN if late > 0.05 else OK if reading.has_signal else STALE
    return Diagnosis(
        level=level,
        name=f"{name}: engine",
        message=f"{message}, {late:.0%} of hops late" if level == WARN else message,
        hardware_id=reading.backend or "",
        values={
            "subset": reading.subset or "",
            "backend": reading.backend or "",
            "hops": str(stats.hops),
            "late_hops": str(stats.late_hops),
            "swaps": str(stats.swaps),
            "latency_p50_ms": f"{stats.latency_ms['p50']:.2f}",
            "latency_p99_ms": f"{stats.latency_ms['p99']:.2f}",
        },
    )


def stamp_from_time(time_s: float, *, now_s: float, ros_now_ns: int) -> tuple[int, int]:
    """Returns seconds and nanoseconds of a header's stamp.

    Args:
        time_s: when, on the session's clock.
        now_s: what that clock shows now.
        ros_now_ns: what the clock of ROS shows now.
    """
    stamp_ns = max(0, ros_now_ns - round((now_s - time_s) * 1e9))
    return stamp_ns // 1_000_000_000, stamp_ns % 1_000_000_000


def frame_from_image(
    *, height: int, width: int, encoding: str, step: int, data: bytes | bytearray | memoryview
) -> NDArray[np.uint8]:
    """Returns (H, W, 3) BGR of the fields of sensor_msgs/Image.

    Args:
        height: rows.
        width: columns.
        encoding: bgr8, rgb8, bgra8, rgba8, mono8, 8UC1 (as mono8) or 8UC3 (as bgr8).
        step: bytes from row to row, with padding.
        data: all rows.

    Raises:
        ValueError: another encoding, or less data than rows; the message says which.
    """
    channels = _CHANNELS.get(encoding)
    if channels is None:
        raise ValueError(f"images of encoding {encoding!r} cannot be used; known: {', '.join(_CHANNELS)}")
    if height < 1 or width < 1 or step < width * channels or len(data) < height * step:
        raise ValueError(
            f"an image of {width} x {height} {encoding} with {step} bytes a row cannot have {len(data)} bytes"
        )
    rows = np.frombuffer(data, np.uint8, height * step).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    order = [2, 1, 0] if encoding.startswith("rgb") else [0, 1, 2]
    return np.ascontiguousarray(pixels[:, :, order])
