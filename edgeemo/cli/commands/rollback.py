"""``edgeemo rollback``: an updated bundle becomes what it was before the last change."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgeemo.cli.options.output import add_json_option


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "rollback",
        about="One step back is kept. The same command given again takes the rollback back.",
        examples=(("rollback bundles/live", "the bundle is what it was before its last change"),),
    )
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        help="folder of the bundle; of one in a read-only place, the copy that was updated is rolled back",
    )
    add_json_option(parser, "rollback")


def run(args: argparse.Namespace) -> int:
    """Rolls back and prints which state serves now."""
    from edgeemo.bundle import BundleWriter
    from edgeemo.bundle.place import changed_copy, may_change
    from edgeemo.errors import BundleError

    # Not opened: a bundle whose newest state is damaged is what a rollback is for.
    folder = Path(args.bundle)
    if not folder.is_dir():
        raise BundleError(f"{folder} is no folder; expected a bundle made by `edgeemo export`")
    if not may_change(folder):
        folder = changed_copy(folder)
    with BundleWriter(folder) as writer:
        bundle = writer.rollback()
    if args.json:
        print(json.dumps({"bundle": str(folder), "manifest_sha256": bundle.manifest_sha256}))
    else:
        print(f"{folder} is what it was before its last change; the same command takes that back")
    return 0
