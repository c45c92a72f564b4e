"""``--json``, the same word everywhere, with the name of the schema of what is printed."""

from __future__ import annotations

import argparse


def add_json_option(parser: argparse._ActionsContainer, *schemas: str, a_line: bool = False) -> None:
    """Adds ``--json``.

    Args:
        parser: a parser or a group of its options.
        schemas: names of the schemas in `edgeemo.schemas` of what is printed.
        a_line: whether a document a line is printed, not one in all.
    """
    what = "one JSON object a line" if a_line else "one JSON document"
    named = f"schema{'s' if len(schemas) > 1 else ''}: {', '.join(schemas)}"
    parser.add_argument("--json", action="store_true", help=f"print {what} ({named})")
