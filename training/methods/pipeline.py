"""One method from a folder of data to weights, figures and pictures: what ``edgeemo train FAMILY`` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeemo.datasets.mosi import CLASSES, MODALITIES, read_mosi
from edgeemo.modality import all_subsets
from edgeemo.training.config import MethodConfig
from edgeemo.training.loop import Metrics
from edgeemo.training.methods.compare import MethodResult, method_result
from edgeemo.training.methods.disturb import CLEAN, DISTURBANCES
from edgeemo.training.methods.figures import draw_confusions, draw_lines, draw_subsets
from edgeemo.training.methods.networks import networks_of
from edgeemo.training.methods.run import rule_of, run_network

Report = Callable[[str, int, int, Metrics], None]
FOLDER = "mosi_trimodal"


def train_method(
    config: MethodConfig, data: Path, out: Path, *, seed: int = 0, report: Report | None = None
) -> Path:
    """Trains, or resumes, all networks of a method, and returns the file of its figures.

    ``out`` then holds a folder for each network (weights, curve, predictions), ``results.json`` with the
    cross-fitted figures on dev, and ``subsets.png``, ``confusion.png`` and ``curves.png``.

    Args:
        config: the method.
        data: the folder of ``mosi_trimodal.npz``, or the one above it.
        out: folder of the run.
        seed: of everything that is drawn.
        report: called after each epoch with (network, epochs done, epochs, metrics).

    Raises:
        DatasetError: the data cannot be read.
        TrainingError: the folder holds another run, or the loss is not finite.
    """
    folder = data / FOLDER if (data / FOLDER).is_dir() else data
    videos = (read_mosi(folder, "train"), read_mosi(folder, "dev"))
    records = {}
    for network in networks_of(config, MODALITIES):

        def progress(done: int, total: int, metrics: Metrics, name: str = network.name) -> None:
            if report is not None:
                report(name, done, total, metrics)

        records[network.name] = run_network(
            network, config, seed, videos, out / network.name, progress=progress
        )
    result = method_result(config.method, [records], rule_of(config))
    path = out / "results.json"
    content = {"config": config.to_json(), "seed": seed, "epochs": result.epochs[0], **_figures(result)}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _draw(result, {name: out / name / "curve.csv" for name in records}, out)
    return path


def _figures(result: MethodResult) -> dict[str, Any]:
    def of(key: tuple[str, str]) -> dict[str, float]:
        return {name: float(values[0]) for name, values in result.by_seed(key).items()}

    subsets = all_subsets(MODALITIES)
    clean = {subset: of((CLEAN, subset)) for subset in subsets}
    disturbed = {each.name: of((each.name, subsets[-1])) for each in DISTURBANCES}
    return {
        "note": "cross-fitted on dev: half of the videos selects the epoch, the other half reports",
        "subsets": clean,
        "mean_accuracy": sum(figures["accuracy"] for figures in clean.values()) / len(clean),
        "all_three_disturbed": disturbed,
    }


def _draw(result: MethodResult, curves: Mapping[str, Path], out: Path) -> None:
    subsets = all_subsets(MODALITIES)
    means = [float(result.by_seed((CLEAN, subset))["accuracy"][0]) for subset in subsets]
    majority = float((result.labels == 1).mean())
    draw_subsets(
        out / "subsets.png",
        subsets,
        {result.method: (means, [0.0] * len(means))},
        majority=max(majority, 1 - majority),
    )
    tables = result.confusion([(CLEAN, subset) for subset in subsets]).sum(axis=(1, 2))
    draw_confusions(out / "confusion.png", dict(zip(subsets, tables, strict=True)), CLASSES)
    panels: dict[str, Any] = {}
    for name, path in curves.items():
        header, *rows = (line.split(",") for line in path.read_text(encoding="utf-8").splitlines())
        columns = {title: [float(row[place]) for row in rows] for place, title in enumerate(header)}
        shown = [title for title in header if title not in ("epoch", "half_0", "half_1") and "." not in title]
        panels[name] = (columns["epoch"], {title: columns[title] for title in shown})
    draw_lines(out / "curves.png", panels, "loss, and accuracy on dev")
