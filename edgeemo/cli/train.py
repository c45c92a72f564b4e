"""``edgeemo train``: data in, a checkpoint out; a run that was killed goes on where it stopped."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeemo.errors import MissingDependencyError

FAMILIES = ("live",)
_SHOWN = ("score", "accuracy", "uar_mean", "goemotions_accuracy", "loss")


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("train", help="train a model on data and write its checkpoint")
    parser.add_argument("family", choices=FAMILIES, help="live: the tri-modal model that ships")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run; started again with the same one, it resumes; the result is DIR/checkpoint",
    )


def run(args: argparse.Namespace) -> int:
    """Trains, shows progress, and prints where the checkpoint is."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        from edgeemo.training.live.pipeline import train_live
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "training", error.name or "torch", "pip install 'edgeemo[train]'"
        ) from None
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns) as progress:
        bars: dict[str, Any] = {}

        def report(step: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, figures="")
            shown = "  ".join(f"{name} {figures[name]:.3f}" for name in _SHOWN if name in figures)
            progress.update(bars[step], completed=done, total=total, figures=shown)

        checkpoint = train_live(args.data, args.out, report=report)
    print(f"{checkpoint}\n{checkpoint / 'MODEL_CARD.md'}")
    return 0
