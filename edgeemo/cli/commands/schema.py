"""``edgeemo schema``: what the JSON documents hold that edgeemo prints, keeps and serves."""

from __future__ import annotations

import argparse
import json
from typing import Any

from edgeemo.schemas import load_schema, schema_names


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "schema",
        about="JSON Schema, draft 2020-12. Later versions of edgeemo may add keys to a document; none is "
        "renamed or taken away within a major version, so take no offence at keys that you do not know.",
        examples=(
            ("schema", "which there are, and what gives such a document"),
            ("schema reading", "what one line of `edgeemo run --json` holds"),
        ),
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="of one schema; without, all are listed")


def run(args: argparse.Namespace) -> int:
    """Prints one schema, or a line for each."""
    if args.name is not None:
        print(json.dumps(load_schema(args.name), indent=2, ensure_ascii=False))
        return 0
    names = schema_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {', '.join(load_schema(name)['x-given-by'])}")
    return 0
