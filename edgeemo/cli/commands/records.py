"""``edgeemo records``: a record of readings as another kind of file, or saved from its journal."""

from __future__ import annotations

import argparse
import json
from typing import Any

from edgeemo.cli.options.output import add_json_option
from edgeemo.records import SUFFIXES, convert_record


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "records",
        about="A record holds readings, never sound or pictures. Where a session was killed, its journal "
        "(.journal.jsonl) is still there, and this makes the file of it.",
        examples=(
            ("records session.jsonl --out session.parquet", "a table for data frames"),
            ("records session.jsonl --out session.xml", "EmotionML, the W3C's format"),
            ("records session.parquet.journal.jsonl --out saved.parquet", "save what a crash left behind"),
        ),
    )
    parser.add_argument("record", metavar="RECORD", help="a .jsonl or .parquet record, or a .journal.jsonl")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help=f"a new file that ends in {', '.join(SUFFIXES)}"
    )
    add_json_option(parser, "records")


def run(args: argparse.Namespace) -> int:
    """Converts the record and says how many readings there are."""
    count = convert_record(args.record, args.out)
    if args.json:
        print(json.dumps({"record": args.record, "out": args.out, "readings": count}))
    else:
        print(f"{count} readings in {args.out}")
    return 0
