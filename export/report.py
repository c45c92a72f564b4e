"""What an export made and measured: for people, for ``report.json``, outside the bundle's hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeemo.export.gate import (
    DECIDED_MARGIN,
    MAX_CHANGED_LABELS,
    MAX_FP32_DEVIATION,
    MAX_INT8_STEM_ERROR,
    Verdict,
)
from edgeemo.runtimes.machine import cpu_count, cpu_model

ENGINES = "engines"
STEMS = "stems"


@dataclass(frozen=True)
class GraphReport:
    """One graph that was made and passed the gate.

    Attributes:
        kind: ``"engines"`` or ``"stems"``.
        name: the subset or the modality.
        variant: such as ``"int8"``.
        file: its name in the bundle.
        bytes: its size.
        verdict: what the gate measured.
    """

    kind: str
    name: str
    variant: str
    file: str
    bytes: int
    verdict: Verdict


@dataclass(frozen=True)
class ExportReport:
    """What one export did.

    Attributes:
        bundle: the folder.
        model_id: the model's name.
        manifest_sha256: the state of the bundle that this belongs to.
        graphs: what was made, stems first.
        kept: files of an earlier export of the same checkpoint that are still in the bundle.
        total_bytes: size of all files of the bundle.
        seconds: how long the export took.
    """

    bundle: Path
    model_id: str
    manifest_sha256: str
    graphs: tuple[GraphReport, ...]
    kept: tuple[str, ...]
    total_bytes: int
    seconds: float

    def to_json(self, earlier: Mapping[str, object] | None = None) -> dict[str, object]:
        """Returns the content of ``report.json``.

        Args:
            earlier: the report of the bundle before; its entries for kept files are taken over.
        """
        entries: dict[str, dict[str, dict[str, object]]] = {STEMS: {}, ENGINES: {}}
        for kind, name, variant, entry in _entries(earlier):
            if entry.get("file") in self.kept:
                entries[kind].setdefault(name, {})[variant] = entry
        for graph in self.graphs:
            entries[graph.kind].setdefault(graph.name, {})[graph.variant] = {
                "file": graph.file,
                "bytes": graph.bytes,
                **asdict(graph.verdict),
            }
        return {
            "model_id": self.model_id,
            "manifest_sha256": self.manifest_sha256,
            "machine": {"cpu": cpu_model(), "processors": cpu_count()},
            "seconds": round(self.seconds, 2),
            "total_bytes": self.total_bytes,
            "gate": {
                "max_fp32_deviation": MAX_FP32_DEVIATION,
                "decided_margin": DECIDED_MARGIN,
                "max_changed_labels": MAX_CHANGED_LABELS,
                "max_int8_stem_error": MAX_INT8_STEM_ERROR,
            },
            **entries,
        }

    def to_bytes(self, earlier: Mapping[str, object] | None = None) -> bytes:
        """Returns the text of ``report.json``."""
        return (json.dumps(self.to_json(earlier), indent=2, sort_keys=True) + "\n").encode()


def _entries(report: Mapping[str, object] | None) -> list[tuple[str, str, str, dict[str, object]]]:
    """Returns (kind, name, variant, entry) of a report, skipping whatever does not look like one."""
    found: list[tuple[str, str, str, dict[str, object]]] = []
    for kind in (STEMS, ENGINES):
        group = (report or {}).get(kind)
        for name, variants in group.items() if isinstance(group, dict) else ():
            for variant, entry in variants.items() if isinstance(variants, dict) else ():
                if isinstance(entry, dict):
                    found.append((kind, name, variant, entry))
    return found
