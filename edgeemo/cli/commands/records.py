"""``edgeemo records``: a record of readings as another kind of file, or saved from its journal."""

from __future__ import annotations

import argparse
from typing import Any

from edgeemo.records import SUFFIXES, convert_record


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "records", help="make one kind of record of another, or of a journal that was left behind"
    )
    parser.add_argument("record", metavar="RECORD", help="a .jsonl or .parquet record, or a .journal.jsonl")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help=f"a new file that ends in {', '.join(SUFFIXES)}"
    )


def run(args: argparse.Namespace) -> int:
    """Converts the record and says how many readings there are."""
    count = convert_record(args.record, args.out)
    print(f"{count} readings in {args.out}")
    return 0
