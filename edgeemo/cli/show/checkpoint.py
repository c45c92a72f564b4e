"""What a checkpoint holds, as a document for programs and as lines for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from edgeemo.cli.show.bundle import licence_lines, modality_lines

if TYPE_CHECKING:
    from edgeemo.export import Checkpoint


def checkpoint_document(checkpoint: Checkpoint) -> dict[str, object]:
    """Returns what a checkpoint says of itself, ready for JSON."""
    return {
        "kind": "checkpoint",
        "path": str(checkpoint.path),
        "model_id": checkpoint.model_id,
        "family": checkpoint.family,
        "labels": list(checkpoint.labels),
        "hop_s": checkpoint.hop_s,
        "modalities": [asdict(modality) for modality in checkpoint.modalities],
        "subsets": {key: asdict(spec) for key, spec in checkpoint.subsets.items()},
        "parameters": _parameter_counts(checkpoint),
        "data": [dict(entry) for entry in checkpoint.data],
        "metrics": checkpoint.metrics,
        "licence": asdict(checkpoint.licence),
        "files": dict(checkpoint.files),
    }


def checkpoint_lines(checkpoint: Checkpoint) -> list[str]:
    """Returns the same for people."""
    counts = _parameter_counts(checkpoint)
    width = max(len(name) for name in counts)
    data = ", ".join(entry.get("name", "unnamed") for entry in checkpoint.data)
    return [
        repr(checkpoint),
        "",
        *modality_lines(checkpoint.modalities),
        "",
        *(f"{name:<{width}} {count:>10,} parameters" for name, count in counts.items()),
        "",
        f"trained on: {data or 'not said'}",
        *licence_lines(checkpoint.licence),
    ]


def _parameter_counts(checkpoint: Checkpoint) -> dict[str, int]:
    """Returns how many numbers each part of the network and each adapter has."""
    counts: dict[str, int] = {}
    for name, weight in checkpoint.weights.items():
        parts = name.split(".")
        part = ".".join(parts[:2]) if parts[0] == "stem" else parts[0]
        counts[part] = counts.get(part, 0) + weight.size
    for name, adapter in checkpoint.adapters.items():
        counts[f"adapter {name}"] = sum(pair.a.size + pair.b.size for pair in adapter.pairs.values())
    return counts
