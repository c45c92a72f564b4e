"""``edgeemo export``: a trained checkpoint becomes a bundle of engines, or what a server runs."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.options.triton import add_triton_options, check_format_options, serving_options
from edgeemo.cli.show.progress import progress_bar

if TYPE_CHECKING:
    from edgeemo.bundle import Bundle
    from edgeemo.export import ExportReport, GraphReport, LabelledResult

VARIANTS_HELP = "fp32, int8 (CPUs), fp16 and int8-trt (GPUs)"


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "export",
        about="Merges the adapters of each subset of modalities into an engine of its own, makes its "
        "variants, and lets none pass that gives other answers than the trained network. A bundle "
        "that is there already is replaced in one step at the end, or not at all.",
        examples=(
            ("export checkpoints/live --out bundles/live", "all engines as int8 and fp16"),
            (
                "export checkpoints/live --out bundles/live --subset audio+video --variant int8",
                "make one engine anew",
            ),
            ("export checkpoints/live --out bundles/live --tune", "measure here which choices pay"),
            (
                "export bundles/live --format triton --instance-group cpu --out models",
                "a model repository for NVIDIA Triton Inference Server",
            ),
        ),
        exit_codes={1: "it failed, or a gate refused an engine; the bundle from before is untouched"},
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="folder that training wrote; with --format triton a bundle, too",
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the bundle, or of the models")
    parser.add_argument(
        "--subset",
        action="append",
        metavar="S",
        help="make only this engine, such as audio+video; repeatable. Others of the same checkpoint stay",
    )
    parser.add_argument(
        "--variant",
        action="append",
        metavar="V",
        help=f"make this variant: {VARIANTS_HELP}; repeatable (default: int8 and fp16)",
    )
    parser.add_argument(
        "--data",
        action="append",
        type=Path,
        metavar="DIR",
        help="labelled data to judge every variant on (a data set, or a folder of them); repeatable",
    )
    parser.add_argument(
        "--split", default="dev", metavar="NAME", help="of the labelled data: dev (default), test, train"
    )
    choices = parser.add_mutually_exclusive_group()
    choices.add_argument(
        "--tune",
        action="store_true",
        help="measure here which operators stay float and which variants pay; kept as the bundle's recipe",
    )
    choices.add_argument("--recipe", metavar="FILE", help="obey the choices of this recipe, measure nothing")
    parser.add_argument(
        "--allow-drop",
        action="append",
        default=[],
        metavar="S",
        help="go on where this subset fails: its failing variants are left out; repeatable",
    )
    add_json_option(parser, "export", "export-triton")
    add_triton_options(parser)


def run(args: argparse.Namespace) -> int:
    """Exports and prints what came out."""
    check_format_options(args)
    return _export_repository(args) if args.format == "triton" else _export_bundle(args)


def _export_bundle(args: argparse.Namespace) -> int:
    from edgeemo.export import DEFAULT_VARIANTS, export_bundle, read_recipe

    with progress_bar("exporting") as advance:
        report = export_bundle(
            args.checkpoint,
            args.out,
            subsets=args.subset,
            variants=args.variant or DEFAULT_VARIANTS,
            recipe=read_recipe(args.recipe) if args.recipe else None,
            tune=args.tune,
            allow_drop=args.allow_drop,
            measure=partial(_measure, args.data, args.split) if args.data else None,
            progress=lambda done, steps, what: advance(done, steps),
        )
    if args.json:
        print(json.dumps({"bundle": str(report.bundle), **report.to_json()}, indent=1))
    else:
        print("\n".join(_lines(report)))
    return 0


def _export_repository(args: argparse.Namespace) -> int:
    from edgeemo.cli.show.repository import repository_lines
    from edgeemo.export import write_triton_repository

    options = serving_options(args)
    with _served_bundle(Path(args.checkpoint), args.subset, options.chosen_variant) as bundle:
        report = write_triton_repository(bundle, args.out, subsets=args.subset, options=options)
    print(json.dumps(report.to_json(), indent=1) if args.json else "\n".join(repository_lines(report)))
    return 0


@contextmanager
def _served_bundle(source: Path, subsets: Sequence[str] | None, variant: str) -> Iterator[Bundle]:
    """Yields the bundle in a folder, or one made of the checkpoint there, gone when it is no longer used."""
    from edgeemo.bundle import Bundle
    from edgeemo.errors import InputError
    from edgeemo.export import export_bundle

    if (source / "manifest.json").is_file():
        yield Bundle.open(source)
        return
    if not (source / "checkpoint.json").is_file():
        raise InputError(
            f"{source} is neither a bundle (no manifest.json) nor a checkpoint (no checkpoint.json)"
        )
    with tempfile.TemporaryDirectory() as folder:
        with progress_bar("exporting") as advance:
            export_bundle(
                source,
                folder,
                subsets=subsets,
                variants=(variant,),
                progress=lambda done, steps, what: advance(done, steps),
            )
        yield Bundle.open(folder)


def _measure(
    folders: Sequence[Path], split: str, bundle: Bundle, variants: Sequence[str]
) -> list[LabelledResult]:
    """Returns accuracy, UAR and calibration error of every engine that the data can serve."""
    from edgeemo.errors import InputError, SubsetError
    from edgeemo.evaluation import evaluate
    from edgeemo.export import LabelledResult

    found = []
    for data in _data_sets(folders, bundle):
        for variant in variants:
            try:
                evaluation = evaluate(bundle, data, split, variant=variant)
            except (InputError, SubsetError):
                continue  # no engine, or not in this variant, for what this data serves
            found += [
                LabelledResult(
                    dataset=f"{evaluation.dataset} {evaluation.split}",
                    subset=result.subset,
                    variant=result.variant,
                    n=result.metrics.n,
                    accuracy=result.metrics.accuracy,
                    uar=result.metrics.uar,
                    ece=result.metrics.ece,
                )
                for result in evaluation.results
            ]
    return found


def _data_sets(folders: Sequence[Path], bundle: Bundle) -> list[Path]:
    """Returns the data sets in the folders given: each itself one, or a folder of some."""
    from edgeemo.errors import DatasetError
    from edgeemo.evaluation.layout import layout_of

    found: list[Path] = []
    for folder in folders:
        try:
            layout_of(folder, bundle.manifest)
        except DatasetError:
            inner = [place for place in _inner_folders(folder) if _is_data_set(place, bundle)]
            if not inner:
                raise
            found += inner
        else:
            found.append(folder)
    return found


def _inner_folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir()) if folder.is_dir() else []


def _is_data_set(folder: Path, bundle: Bundle) -> bool:
    from edgeemo.errors import DatasetError
    from edgeemo.evaluation.layout import layout_of

    try:
        layout_of(folder, bundle.manifest)
    except DatasetError:
        return False
    return True


def _lines(report: ExportReport) -> list[str]:
    width = max(len(graph.name) for graph in report.graphs) + 1
    lines = [f"{'':<{width + 7}}variant        kB   deviation   labels changed      ms"]
    lines += [_line(graph, width) for graph in report.graphs]
    lines += [f"left out: {dropped.name} ({dropped.variant}): {dropped.reason}" for dropped in report.dropped]
    lines += [
        f"{result.dataset}: {result.subset} ({result.variant}) accuracy {result.accuracy:.1%}, "
        f"UAR {result.uar:.1%}, calibration error {result.ece:.3f}, n = {result.n}"
        for result in report.labelled
    ]
    kept = f", {len(report.kept)} files kept" if report.kept else ""
    size = f"{report.total_bytes / 1e6:.1f} MB"
    lines.append(f"{report.bundle}: {report.model_id}, {size} in {report.seconds:.1f} s{kept}")
    return lines


def _line(graph: GraphReport, width: int) -> str:
    verdict = graph.verdict
    labels = "-" if verdict.changed is None else f"{verdict.changed:.1%} of {verdict.decided}"
    kept = f"  {len(graph.recipe.keep_float)} operators float" if graph.recipe.keep_float else ""
    return (
        f"{graph.kind.removesuffix('s'):<7}{graph.name:<{width}}{graph.variant:<9}{graph.bytes / 1e3:7.1f}"
        f"   {verdict.deviation:9.1e}   {labels:>14}  {verdict.latency_ms:6.3f}{kept}"
    )
