"""Accuracy of every engine that labelled data can serve, all variants side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle
from edgeemo.errors import DatasetError
from edgeemo.evaluation import SubsetResult, evaluate


def measure(bundle: Bundle, data: Path, *, split: str = "dev") -> Report:
    """Evaluates on every folder of ``data``; those that cannot be measured are listed with the reason.

    Args:
        bundle: what to measure.
        data: holds data sets in the layouts of ``edgeemo eval``.
        split: which split of each.
    """
    variants = sorted({variant for files in bundle.manifest.engines.values() for variant in files})
    figures: dict[str, Any] = {}
    rows: list[tuple[str, ...]] = []
    recalls: list[tuple[str, ...]] = []
    refused: list[tuple[str, ...]] = []
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        for variant in variants:
            try:
                evaluation = evaluate(bundle, folder, split, variant=variant)
            except DatasetError as error:
                refused.append((folder.name, str(error).replace(str(data), data.name)))
                break
            figures.setdefault(folder.name, {})[variant] = evaluation.to_json()
            for result in evaluation.results:
                name = f"{folder.name}, {result.subset}.{variant}"
                rows.append((name, *_cells(result)))
                shown = ("-" if recall is None else f"{recall:.1%}" for recall in result.metrics.recall)
                recalls.append((name, *shown))
    note = (
        f"`edgeemo eval` on split `{split}` (= `val`) of each folder: people or videos that were not trained "
        "on. Means over classes take the classes that the data has. int8 runs one item at a time, as live."
    )
    columns = ("data, engine", "n", "accuracy", "UAR", "macro-F1", "weighted F1", "ECE")
    rare = (
        "FER+ has few faces with fear or disgust to learn from (575 and 155 in train); a dash: no such items."
    )
    tables = [
        Table("Figures", note, columns, rows),
        Table("Recall of each label", rare, ("data, engine", *bundle.manifest.labels), recalls),
        Table("Not measured", "What the command says about them.", ("folder", "why"), refused),
    ]
    return Report("accuracy", "Accuracy on labelled data", {"split": split, "data": figures}, tables)


def _cells(result: SubsetResult) -> tuple[str, ...]:
    figures = result.metrics
    shares = (figures.accuracy, figures.uar, figures.macro_f1, figures.weighted_f1)
    return (str(figures.n), *(f"{share:.1%}" for share in shares), f"{figures.ece:.3f}")
