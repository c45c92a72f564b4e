"""``edgeemo update``: new adapters for an installed bundle, merged on the device without torch."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.show.progress import progress_bar

if TYPE_CHECKING:
    from edgeemo.export import UpdateReport


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "update",
        about="Needs no torch: it runs on the device. Sessions that were started with --watch take the new "
        "engines over between two readings; `edgeemo rollback` takes the update back.",
        examples=(
            (
                "update bundles/live --base checkpoints/live --adapter audio+video=adapters/new",
                "one engine with new adapters",
            ),
            (
                "update bundles/live --base checkpoints/live --adapter common=adapters/new --json",
                "every engine, with the report for a program",
            ),
        ),
        exit_codes={1: "it failed, or a gate refused an engine; the bundle from before is untouched"},
    )
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        help="folder of the bundle; one in a read-only place is copied to your data folder first",
    )
    parser.add_argument(
        "--base", metavar="CHECKPOINT", required=True, help="the checkpoint that the bundle was made from"
    )
    parser.add_argument(
        "--adapter",
        action="append",
        type=_adapter,
        required=True,
        metavar="SUBSET=DIR",
        help="new adapter of a subset, such as audio+video=DIR, or of all: common=DIR; repeatable. A "
        "reference.safetensors in DIR holds the answers that the new engine is judged by",
    )
    add_json_option(parser, "update")


def run(args: argparse.Namespace) -> int:
    """Updates and prints what was made anew, and where."""
    from edgeemo.errors import SubsetError
    from edgeemo.export import update_bundle

    adapters = dict(args.adapter)
    if len(adapters) < len(args.adapter):
        raise SubsetError("two adapters for one subset; give one folder for each")
    with progress_bar("updating") as advance:
        report = update_bundle(
            args.bundle, args.base, adapters, progress=lambda done, steps, what: advance(done, steps)
        )
    if args.json:
        print(json.dumps(_json(report), indent=1))
        return 0
    if report.copied_from is not None:
        print(f"{report.copied_from} may not be changed; its copy in your data folder was updated.")
        print(f"To use it: edgeemo run --bundle {report.bundle}")
    width = max(len(engine.subset) for engine in report.engines) + 1
    seconds = {engine.subset: engine for engine in report.engines}
    print(f"{'':<{width}}variant       kB   deviation   labels changed   judged by")
    for graph in report.export.graphs:
        verdict = graph.verdict
        labels = f"{verdict.changed or 0:.1%} of {verdict.decided}"
        print(
            f"{graph.name:<{width}}{graph.variant:<8}{graph.bytes / 1e3:8.1f}   {verdict.deviation:9.1e}"
            f"   {labels:>14}   {seconds[graph.name].judged_by}, {seconds[graph.name].seconds:.2f} s"
        )
    count = f"{len(report.engines)} engine{'s' if len(report.engines) > 1 else ''}"
    print(
        f"{count} made anew, {len(report.export.kept)} files kept, in "
        f"{report.export.seconds:.1f} s; back with: edgeemo rollback {report.bundle}"
    )
    return 0


def _json(report: UpdateReport) -> dict[str, object]:
    return {
        "bundle": str(report.bundle),
        "copied_from": None if report.copied_from is None else str(report.copied_from),
        "previous_sha256": report.previous_sha256,
        "updated": [asdict(engine) for engine in report.engines],
        "kept": list(report.export.kept),
        **report.export.to_json(),
    }


def _adapter(text: str) -> tuple[str, str]:
    """Parses ``SUBSET=DIR`` for argparse."""
    subset, sign, folder = text.partition("=")
    if not sign or not subset.strip() or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not SUBSET=DIR, such as audio+video=adapters/new")
    return subset.strip(), folder
