"""``edgeemo train``: data in, a trained model out; a run that was killed goes on where it stopped."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeemo.cli.exit_codes import UsageError
from edgeemo.cli.options.output import add_json_option
from edgeemo.errors import InputError, MissingDependencyError

LIVE = "live"
FAMILIES = (LIVE, "mculora", "crosstemporal", "redifu")
_SHOWN = ("score", "accuracy", "uar_mean", "goemotions_accuracy", "loss")

Report = Callable[[str, int, int, Mapping[str, float]], None]


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "train",
        about="A run that was killed goes on where it stopped when the same command is given again. It "
        "needs torch: pip install 'edgeemo[train]'.",
        examples=(
            ("train live --data data --out runs/live", "the model that ships; then `edgeemo export` it"),
            ("train mculora --data data/mosi --out runs/mculora --seed 1", "a network of the literature"),
            (
                "train redifu --data data/mosi --out runs/redifu --config samples/configs/redifu.toml",
                "with settings of your own",
            ),
        ),
    )
    parser.add_argument(
        "family",
        choices=FAMILIES,
        help="live: the tri-modal model that ships; the others: a network for the features of CMU-MOSI",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder that holds the data sets"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run; started again with the same one, it resumes; the result of live is "
        "DIR/checkpoint, that of the others weights, figures and pictures",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML settings, not for live; examples in samples/configs, the baselines included",
    )
    parser.add_argument(
        "--trunk",
        action="append",
        choices=FAMILIES[1:],
        help="for live: a family to train, may be given again; the one that is best on validation data "
        "becomes the checkpoint; default: all three",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="not for live; default: 0")
    add_json_option(parser, "train")


def run(args: argparse.Namespace) -> int:
    """Trains, shows progress, and prints where the result is."""
    try:
        import torch  # noqa: F401  # asked for here, so that the message names the feature
    except ModuleNotFoundError:
        raise MissingDependencyError("training", "torch", "pip install 'edgeemo[train]'") from None
    if args.family == LIVE:
        return _train_live(args)
    return _train_family(args)


def _train_live(args: argparse.Namespace) -> int:
    if args.config is not None:
        raise UsageError(f"live takes no --config (given: {args.config}); its settings ship with its code")
    with _bars() as report:
        from edgeemo.training.live.gates import fit_checkpoint
        from edgeemo.training.live.pipeline import LiveConfig, train_live

        config = LiveConfig(families=tuple(dict.fromkeys(args.trunk or FAMILIES[1:])))
        checkpoint = train_live(args.data, args.out, config=config, report=report)
        fit_checkpoint(
            checkpoint, args.data, progress=lambda step, done, total: report(step, done, total, {})
        )
    if args.json:
        print(json.dumps({"family": LIVE, "path": str(checkpoint), "figures": None}))
    else:
        print(f"{checkpoint}\n{checkpoint / 'MODEL_CARD.md'}")
    return 0


def _train_family(args: argparse.Namespace) -> int:
    from edgeemo.training.config import MethodConfig, read_config
    from edgeemo.training.methods.pipeline import train_method

    if args.trunk is not None:
        raise UsageError(f"--trunk is for live; {args.family} trains one trunk, of that family")
    config = MethodConfig(method=args.family) if args.config is None else read_config(args.config)
    if config.family != args.family:
        raise InputError(f"{args.config} is for family {config.family}, and the command says {args.family}")
    with _bars() as report:
        path = train_method(config, args.data, args.out, seed=args.seed, report=report)
    figures = json.loads(path.read_text(encoding="utf-8"))
    if args.json:
        print(json.dumps({"family": args.family, "path": str(path), "figures": figures}))
        return 0
    print(f"{config.method}, seed {args.seed}, on dev ({figures['note']})")
    for subset, values in figures["subsets"].items():
        print(f"  {subset:<17} accuracy {values['accuracy']:.1%}  UAR {values['uar']:.1%}")
    print(f"  {'mean of seven':<17} accuracy {figures['mean_accuracy']:.1%}\n{path}")
    return 0


@contextmanager
def _bars() -> Iterator[Report]:
    """Yields what shows a bar for each step: (step, done, total, figures)."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ModuleNotFoundError:
        raise MissingDependencyError("showing progress", "rich", "pip install 'edgeemo[train]'") from None
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
                bars[step] = progress.add_task(step, total=total, figures="")
            shown = "  ".join(f"{name} {figures[name]:.3f}" for name in _SHOWN if name in figures)
            progress.update(bars[step], completed=done, total=total, figures=shown)

        yield report
