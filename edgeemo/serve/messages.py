"""The JSON texts that clients get; each is made once, whoever many read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgeemo import __version__
from edgeemo.affect import COORDINATES
from edgeemo.bundle import Manifest
from edgeemo.session import Event, SessionStats
from edgeemo.session.over_time.agreement import CLEAR_CONTRADICTION

_COMPACT = ("time_s", "label", "emotion", "mood", "confidence", "valence", "arousal", "subset", "engine")


def json_text(data: object) -> str:
    """Returns JSON without blanks; what is not finite is refused, as no browser reads it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def compact_text(reading: Mapping[str, Any]) -> str:
    """Returns what a line of the last minutes needs of a reading, as JSON; takes `Reading.to_json`."""
    return json_text({key: reading[key] for key in _COMPACT})


def reading_message(reading_text: str, latency_ms: float) -> str:
    """Returns the message with a reading.

    Args:
        reading_text: `Reading.to_json` as JSON.
        latency_ms: from the time that the reading is of until now.
    """
    return f'{{"type":"reading","reading":{reading_text},"latency_ms":{latency_ms:.3f}}}'


def event_message(event: Event) -> str:
    """Returns the message with an event."""
    return json_text({"type": "event", "event": event.to_json()})


def end_message(why: str) -> str:
    """Returns the message that says that no readings come any more."""
    return json_text({"type": "end", "why": why})


def hello_message(
    manifest: Manifest,
    *,
    hop_s: float,
    time_s: float,
    preview: bool,
    notice: Mapping[str, Any] | None,
    history: Iterable[str],
    events: Iterable[Event],
) -> str:
    """Returns the first message: what the model is and what happened so far.

    Args:
        manifest: of the bundle in use.
        hop_s: seconds between readings.
        time_s: the session's time now.
        preview: whether there is a picture to be had.
        notice: its text, whether it is acknowledged and by whom; None where there is none.
        history: readings of the last minutes, each as `compact_text` gave it.
        events: the newest ones.
    """
    head = json_text(
        {
            "type": "hello",
            "version": __version__,
            "model": manifest.model_id,
            "labels": list(manifest.labels),
            "modalities": list(manifest.order),
            "hop_s": hop_s,
            "time_s": round(time_s, 6),
            "preview": preview,
            "contradicts_at": CLEAR_CONTRADICTION,
            "coordinates": {label: COORDINATES[label] for label in manifest.labels if label in COORDINATES},
            "notice": notice,
        }
    )
    told = json_text([event.to_json() for event in events])
    return f'{head[:-1]},"history":[{",".join(history)}],"events":{told}}}'


def stats_data(stats: SessionStats) -> dict[str, Any]:
    """Returns what a session has done so far as plain data."""
    data = asdict(stats)
    data["latency_ms"] = {name: round(value, 3) for name, value in stats.latency_ms.items()}
    return data


def status_message(
    stats: SessionStats,
    *,
    modalities: Sequence[str],
    meters: Mapping[str, Mapping[str, Any]],
    muted: Iterable[str],
    clients: int,
    notice: Mapping[str, Any] | None,
) -> str:
    """Returns the message that comes twice a second, with readings or without."""
    sensors = {}
    for modality in modalities:
        status = stats.sensors.get(modality)
        sensors[modality] = {
            "state": "absent" if status is None else status.state,
            "why": "no sensor was given for it" if status is None else status.why,
            "rate": None if status is None or status.rate is None else round(status.rate, 2),
            "declared_rate": None if status is None else status.declared_rate,
            "drops": 0 if status is None else status.drops,
            "reconnects": 0 if status is None else status.reconnects,
        }
    return json_text(
        {
            "type": "status",
            "sensors": sensors,
            "meters": meters,
            "muted": sorted(muted),
            "latency_ms": {name: round(value, 3) for name, value in stats.latency_ms.items()},
            "hops": stats.hops,
            "late_hops": stats.late_hops,
            "swaps": stats.swaps,
            "clients": clients,
            "notice": notice,
        }
    )
