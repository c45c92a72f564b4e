"""What an export made and measured: for people, for ``report.json``, outside the bundle's hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeemo.export.drafts import Dropped
from edgeemo.export.gate.judge import Verdict
from edgeemo.export.gate.labelled import LabelledResult
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.passes.pipeline import PassReport
from edgeemo.export.recipe import ENGINES, STEMS, GraphRecipe
from edgeemo.runtimes.machine import cpu_count, cpu_model


@dataclass(frozen=True)
class GraphReport:
    """One graph that was made and passed the gate.

    Attributes:
        kind: ``"engines"`` or ``"stems"``.
        name: the subset or the modality.
        variant: such as ``"int8"``.
        file: its name in the bundle.
        bytes: its size, without tensors that it shares with others.
        verdict: what the gate measured.
        recipe: the choices that it was made by.
        passes: what each graph pass changed before.
    """

    kind: str
    name: str
    variant: str
    file: str
    bytes: int
    verdict: Verdict
    recipe: GraphRecipe
    passes: Sequence[PassReport] = ()


@dataclass(frozen=True)
class ExportReport:
    """What one export did.

    Attributes:
        bundle: the folder.
        model_id: the model's name.
        manifest_sha256: the state of the bundle that this belongs to.
        graphs: what was made, stems first.
        dropped: what was left out, and why.
        labelled: what the engines did on labelled data, where some was given.
        kept: files of an earlier export of the same checkpoint that are still in the bundle.
        thresholds: what everything was held to.
        total_bytes: size of all files of the bundle.
        seconds: how long the export took.
    """

    bundle: Path
    model_id: str
    manifest_sha256: str
    graphs: tuple[GraphReport, ...]
    dropped: tuple[Dropped, ...]
    labelled: tuple[LabelledResult, ...]
    kept: tuple[str, ...]
    thresholds: Thresholds
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
            found: dict[str, object] = {
                "file": graph.file,
                "bytes": graph.bytes,
                **asdict(graph.verdict),
                "kept_float": dict(graph.recipe.keep_float),
                "passes": [_pass_line(each) for each in graph.passes],
            }
            if graph.variant == "int8":
                found["method"] = graph.recipe.method
            labelled = self._labelled(graph)
            if labelled:
                found["labelled"] = labelled
            entries[graph.kind].setdefault(graph.name, {})[graph.variant] = found
        return {
            "model_id": self.model_id,
            "manifest_sha256": self.manifest_sha256,
            "machine": {"cpu": cpu_model(), "processors": cpu_count()},
            "seconds": round(self.seconds, 2),
            "total_bytes": self.total_bytes,
            "gate": self.thresholds.to_json(),
            "dropped": [asdict(dropped) for dropped in self.dropped],
            **entries,
        }

    def to_bytes(self, earlier: Mapping[str, object] | None = None) -> bytes:
        """Returns the text of ``report.json``."""
        return (json.dumps(self.to_json(earlier), indent=2, sort_keys=True) + "\n").encode()

    def _labelled(self, graph: GraphReport) -> dict[str, dict[str, float]]:
        if graph.kind != ENGINES:
            return {}
        return {
            result.dataset: {
                "n": result.n,
                "accuracy": result.accuracy,
                "uar": result.uar,
                "ece": result.ece,
            }
            for result in self.labelled
            if (result.subset, result.variant) == (graph.name, graph.variant)
        }


def _pass_line(report: PassReport) -> str:
    return (
        f"{report.name}: {report.nodes_before} -> {report.nodes_after} nodes, "
        f"{report.bytes_before} -> {report.bytes_after} bytes"
    )


def _entries(report: Mapping[str, object] | None) -> Sequence[tuple[str, str, str, dict[str, object]]]:
    """Returns (kind, name, variant, entry) of a report, skipping whatever does not look like one."""
    found: list[tuple[str, str, str, dict[str, object]]] = []
    for kind in (STEMS, ENGINES):
        group = (report or {}).get(kind)
        for name, variants in group.items() if isinstance(group, dict) else ():
            for variant, entry in variants.items() if isinstance(variants, dict) else ():
                if isinstance(entry, dict):
                    found.append((kind, name, variant, entry))
    return found
