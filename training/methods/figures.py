"""Pictures of a comparison, as PNG files that are the same for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import MissingDependencyError

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Method -> (mean, deviation) at each place."""


def _new_figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "drawing figures", "matplotlib", "pip install 'edgeemo[train]'"
        ) from None
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def draw_subsets(
    path: Path, subsets: Sequence[str], curves: Curves, *, majority: float | None = None
) -> None:
    """Draws the accuracy of every method on every subset, with one deviation over seeds.

    Args:
        path: of the PNG.
        subsets: names along the axis.
        curves: method -> mean and deviation for each subset, shares of 1.
        majority: accuracy of always saying the commonest label, drawn as a line.
    """
    figure = _new_figure(10, 4.5)
    axes = figure.add_subplot()
    places = np.arange(len(subsets))
    for number, (method, (mean, deviation)) in enumerate(curves.items()):
        shift = (number - (len(curves) - 1) / 2) * 0.8 / max(len(curves), 1)
        axes.errorbar(
            places + shift, 100 * np.array(mean), 100 * np.array(deviation), fmt="o", ms=5, label=method
        )
    if majority is not None:
        axes.axhline(100 * majority, color="grey", lw=0.8, ls="--", label="commonest label")
    axes.set_xticks(places, subsets, rotation=15)
    axes.set_ylabel("accuracy on dev, %")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    _save(figure, path)


def draw_confusions(path: Path, confusions: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> None:
    """Draws one confusion matrix for each subset: shares of the true label, and counts.

    Args:
        path: of the PNG.
        confusions: title -> items (C, C), true labels in rows.
        labels: names of the classes.
    """
    columns = min(4, len(confusions))
    rows = -(-len(confusions) // columns)
    figure = _new_figure(2.7 * columns, 2.6 * rows)
    for number, (title, table) in enumerate(confusions.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for truth, guess in np.ndindex(*table.shape):
            text = f"{shares[truth, guess]:.0%}\n{table[truth, guess]:g}"
            colour = "white" if shares[truth, guess] > 0.6 else "black"
            axes.text(guess, truth, text, ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(labels)), labels, fontsize=7)
        axes.set_yticks(range(len(labels)), labels, fontsize=7, rotation=90, va="center")
        axes.set_title(title, fontsize=9)
    _save(figure, path)


def draw_lines(
    path: Path, panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], ylabel: str
) -> None:
    """Draws panels of lines.

    Args:
        path: of the PNG.
        panels: title -> (places along the axis, line name -> values at them).
        ylabel: what the values are.
    """
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _new_figure(4 * columns, 3.2 * rows)
    for number, (title, (places, lines)) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        for name, values in lines.items():
            axes.plot(places, values, marker="o" if len(places) < 12 else None, ms=3, lw=1.2, label=name)
        axes.set_title(title, fontsize=9)
        axes.set_ylabel(ylabel, fontsize=8)
        axes.grid(alpha=0.3)
        if number == 0:
            axes.legend(fontsize=7)
    _save(figure, path)
