"""``edgeemo eval``: accuracy of a bundle's engines on labelled data."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from edgeemo.cli.options.engines import add_backend_option, add_threads_option, add_variant_option
from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.show.progress import progress_bar

if TYPE_CHECKING:
    from edgeemo.evaluation import Evaluation, SubsetResult


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "eval",
        about="Accuracy, UAR (mean recall over classes), F1 and calibration error with the confusion "
        "matrix, measured through the same front-ends and engines that a session uses.",
        examples=(
            ("eval bundles/live data/speech_ravdess", "on the development split"),
            (
                "eval bundles/live data/goemotions --split test --subset text --json",
                "one subset, for a program",
            ),
        ),
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle to measure")
    parser.add_argument("dataset", metavar="DATASET", help="folder of speech, faces or text with labels")
    parser.add_argument(
        "--split", default="dev", metavar="NAME", help="dev (= val, the default), test, train"
    )
    parser.add_argument("--subset", action="append", metavar="S", help="only this subset; repeatable")
    add_variant_option(parser)
    add_backend_option(parser)
    add_threads_option(parser)
    add_json_option(parser, "eval")


def run(args: argparse.Namespace) -> int:
    """Prints the figures of every engine that the data can serve."""
    from edgeemo.bundle import Bundle
    from edgeemo.evaluation import evaluate

    bundle = Bundle.open(args.bundle)
    with progress_bar(f"{args.dataset} {args.split}") as advance:
        evaluation = evaluate(
            bundle,
            args.dataset,
            args.split,
            subsets=args.subset,
            variant=args.variant,
            backend=args.backend,
            threads=args.threads,
            progress=advance,
        )
    if args.json:
        print(json.dumps(evaluation.to_json(), indent=1))
    else:
        print("\n".join(_lines(evaluation)))
    return 0


def _lines(evaluation: Evaluation) -> list[str]:
    lines = [f"{evaluation.model_id} on {evaluation.dataset}, split {evaluation.split}"]
    for result in evaluation.results:
        lines += ["", *_result_lines(result, evaluation.labels)]
    return lines + [f"note: {note}" for note in evaluation.notes]


def _result_lines(result: SubsetResult, labels: tuple[str, ...]) -> list[str]:
    figures = result.metrics
    engine = f"{result.subset}.{result.variant} after stem.{result.subset}.{result.stem_variant}"
    lines = [
        f"{engine} on {result.backend}, n = {figures.n}",
        f"  accuracy {figures.accuracy:.1%}   UAR {figures.uar:.1%}   macro-F1 {figures.macro_f1:.1%}   "
        f"weighted F1 {figures.weighted_f1:.1%}   calibration error {figures.ece:.3f}",
    ]
    if result.empty:
        lines.append(f"  {result.empty} items hold nothing to recognise and got the prior")
    width = max(8, *map(len, labels))
    head = "".join(f"{label[:8]:>9}" for label in labels)
    lines.append(f"  {'true':<{width}} {'recall':>7}{head}   (recognised as)")
    for label, recall, row in zip(labels, figures.recall, figures.confusion, strict=True):
        shown = "-" if recall is None else f"{recall:.1%}"
        lines.append(f"  {label:<{width}} {shown:>7}" + "".join(f"{count:>9}" for count in row))
    return lines
