"""``edgeemo inspect``: what a bundle or a checkpoint is, where its bytes go, and under which terms."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgeemo.cli.exit_codes import UsageError
from edgeemo.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "inspect",
        about="Checks the size and hash of every file on the way, and tells where every byte goes and under "
        "which terms the weights may be used.",
        examples=(
            ("inspect", "the bundle that ships"),
            ("inspect --engine audio+video --variant int8", "one engine: inputs, operators, weights"),
            ("inspect --engine stem.audio", "one stem, in all its variants"),
            ("inspect --diff bundles/old bundles/new", "what an update changed"),
        ),
    )
    parser.add_argument("path", metavar="BUNDLE|CHECKPOINT", nargs="?", help="default: the bundle that ships")
    parser.add_argument(
        "--engine", metavar="S", help="this engine of a bundle (audio+video) or stem (stem.audio), in detail"
    )
    parser.add_argument("--variant", metavar="V", help="with --engine: only this variant")
    parser.add_argument("--diff", metavar=("A", "B"), nargs=2, help="what differs between two bundles")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document (schemas: bundle, checkpoint, engine, diff)",
    )


def run(args: argparse.Namespace) -> int:
    """Checks the folder, file by file, and prints what it says."""
    if args.variant and not args.engine:
        raise UsageError("--variant chooses among the variants of an engine: name it with --engine S")
    if args.diff and (args.path or args.engine):
        raise UsageError("--diff A B takes two bundles and nothing else")
    document, lines = _diff(*args.diff) if args.diff else _inspect(args)
    print(json.dumps(document, indent=1) if args.json else "\n".join(lines))
    return 0


def _inspect(args: argparse.Namespace) -> tuple[object, list[str]]:
    from edgeemo.bundle import Bundle
    from edgeemo.shipped import DEFAULT_BUNDLE

    path = Path(args.path or DEFAULT_BUNDLE)
    if (path / "manifest.json").is_file():
        bundle = Bundle.open(path)
        if args.engine:
            from edgeemo.cli.show.engine import engine_documents, engine_lines

            documents = engine_documents(bundle, args.engine, args.variant)
            return documents, engine_lines(documents)
        from edgeemo.bundle.sizes import measure_sizes
        from edgeemo.cli.show.bundle import bundle_document, bundle_lines

        bundle.verify()
        sizes = measure_sizes(bundle)
        return bundle_document(bundle, sizes), bundle_lines(bundle, sizes)
    if (path / "checkpoint.json").is_file():
        from edgeemo.cli.show.checkpoint import checkpoint_document, checkpoint_lines
        from edgeemo.export import Checkpoint

        if args.engine:
            raise InputError(f"{path} is a checkpoint; --engine looks into a bundle")
        checkpoint = Checkpoint.open(path)
        return checkpoint_document(checkpoint), checkpoint_lines(checkpoint)
    raise InputError(f"{path} is neither a bundle (no manifest.json) nor a checkpoint (no checkpoint.json)")


def _diff(before: str, after: str) -> tuple[object, list[str]]:
    from edgeemo.bundle import Bundle
    from edgeemo.bundle.compare import compare_bundles
    from edgeemo.cli.show.changes import changes_document, changes_lines

    first, second = Bundle.open(before), Bundle.open(after)
    changes = compare_bundles(first, second)
    return changes_document(first, second, changes), changes_lines(first, second, changes)
