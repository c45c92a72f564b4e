"""``edgeemo export``: a trained checkpoint becomes a bundle of engines, one for every subset."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from edgeemo.cli.progress import progress_bar

if TYPE_CHECKING:
    from edgeemo.export import GraphReport


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("export", help="turn a trained checkpoint into a bundle of engines")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that training wrote")
    parser.add_argument("--out", metavar="BUNDLE", required=True, help="folder of the bundle")
    parser.add_argument(
        "--subset",
        action="append",
        metavar="S",
        help="make only this engine, such as audio+video; repeatable. Others of the same checkpoint stay",
    )
    parser.add_argument(
        "--variant", action="append", metavar="V", help="make only this variant: fp32, int8; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON document")


def run(args: argparse.Namespace) -> int:
    """Exports and prints what came out."""
    from edgeemo.export import VARIANTS, export_bundle

    with progress_bar("exporting") as advance:
        report = export_bundle(
            args.checkpoint,
            args.out,
            subsets=args.subset,
            variants=args.variant or VARIANTS,
            progress=lambda done, steps, what: advance(done, steps),
        )
    if args.json:
        print(json.dumps({"bundle": str(report.bundle), **report.to_json()}, indent=1))
        return 0
    width = max(len(graph.name) for graph in report.graphs) + 1
    print(f"{'':<{width + 7}}variant       kB   deviation   labels changed      ms")
    for graph in report.graphs:
        print(_line(graph, width))
    kept = f", {len(report.kept)} files kept" if report.kept else ""
    size = f"{report.total_bytes / 1e6:.1f} MB"
    print(f"{report.bundle}: {report.model_id}, {size} in {report.seconds:.1f} s{kept}")
    return 0


def _line(graph: GraphReport, width: int) -> str:
    verdict = graph.verdict
    labels = "-" if verdict.changed is None else f"{verdict.changed:.1%} of {verdict.decided}"
    return (
        f"{graph.kind.removesuffix('s'):<7}{graph.name:<{width}}{graph.variant:<8}{graph.bytes / 1e3:8.1f}"
        f"   {verdict.deviation:9.1e}   {labels:>14}  {verdict.latency_ms:6.3f}"
    )
