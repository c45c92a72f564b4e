"""What a record says about the session that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeemo.bundle import Manifest
from edgeemo.errors import FormatVersionError, RecordError

FORMAT_VERSION = 1
_MARK = "edgeemo_record"


@dataclass(frozen=True)
class RecordHeader:
    """The first line of each session in a record.

    Attributes:
        model_id: the model that was used.
        labels: what the probabilities count in.
        modalities: those that the model takes.
        hop_s: seconds between readings.
        started_at_ms: what time it was, in milliseconds since 1970-01-01 00:00 UTC, when the session's clock
            stood at 0; None for a recording, whose time is its own.
    """

    model_id: str
    labels: tuple[str, ...]
    modalities: tuple[str, ...]
    hop_s: float
    started_at_ms: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the header as plain data for ``json.dumps``."""
        return {
            _MARK: FORMAT_VERSION,
            "model_id": self.model_id,
            "labels": list(self.labels),
            "modalities": list(self.modalities),
            "hop_s": self.hop_s,
            "started_at_ms": self.started_at_ms,
        }


def header_from_manifest(
    manifest: Manifest, *, hop_s: float | None = None, started_at_ms: int | None = None
) -> RecordHeader:
    """Returns the header for sessions with a bundle.

    Args:
        manifest: of the bundle in use.
        hop_s: seconds between readings; None for what the model was made for.
        started_at_ms: see `RecordHeader`.
    """
    return RecordHeader(
        model_id=manifest.model_id,
        labels=manifest.labels,
        modalities=tuple(modality.name for modality in manifest.modalities),
        hop_s=hop_s or manifest.hop_s,
        started_at_ms=started_at_ms,
    )


def is_header(data: Any) -> bool:
    """Whether one parsed line of a record is a header; otherwise it is a reading."""
    return isinstance(data, Mapping) and _MARK in data


def header_from_json(data: Mapping[str, Any], *, where: str) -> RecordHeader:
    """Returns the header that `RecordHeader.to_json` wrote.

    Args:
        data: for which `is_header` is true.
        where: place, for messages.

    Raises:
        FormatVersionError: written by a newer edgeemo.
        RecordError: it is broken.
    """
    if data[_MARK] != FORMAT_VERSION:
        raise FormatVersionError(
            f"{where}: a record of format {data[_MARK]!r}; this edgeemo knows {FORMAT_VERSION}; update it"
        )
    try:
        started = data["started_at_ms"]
        return RecordHeader(
            model_id=str(data["model_id"]),
            labels=tuple(map(str, data["labels"])),
            modalities=tuple(map(str, data["modalities"])),
            hop_s=float(data["hop_s"]),
            started_at_ms=None if started is None else int(started),
        )
    except (KeyError, TypeError, ValueError) as reason:
        raise RecordError(f"{where}: the header of a record is broken ({reason!r})") from None
