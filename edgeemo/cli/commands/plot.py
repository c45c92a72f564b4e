"""``edgeemo plot``: a record of readings as one picture."""

from __future__ import annotations

import argparse
import json
from typing import Any

from edgeemo.cli.options.output import add_json_option

SUFFIXES = (".png", ".svg", ".pdf")


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "plot",
        about="Probabilities, emotion and mood, the state of every modality, the engine that served, valence "
        "and arousal over time. Days of readings are drawn as columns of means; a state that was lost for "
        "a moment shows all the same. Needs matplotlib: pip install 'edgeemo[plot]'.",
        examples=(
            ("plot session.jsonl --out timeline.png", "a picture of a record"),
            ("plot session.parquet --out timeline.svg --dark", "on dark paper, to be enlarged at will"),
            (
                "plot readings.parquet --session 3 --out third.pdf",
                "one recording of many",
            ),
        ),
    )
    parser.add_argument("record", metavar="RECORD", help="a .jsonl or .parquet record, or a .journal.jsonl")
    parser.add_argument(
        "--out", metavar="FILE", required=True, help=f"a file that ends in {', '.join(SUFFIXES)}; overwritten"
    )
    parser.add_argument("--session", type=int, metavar="N", help="draw only this one, 1 is the first")
    parser.add_argument("--dark", action="store_true", help="on dark paper")
    add_json_option(parser, "plot")


def run(args: argparse.Namespace) -> int:
    """Draws the record and says where the picture is."""
    from edgeemo.plots import save_timeline, track_from_record

    track = track_from_record(args.record, session=args.session)
    out = save_timeline(track, args.out, dark=args.dark)
    if args.json:
        document = {
            "record": args.record,
            "out": str(out),
            "readings": len(track),
            "sessions": len(track.starts),
        }
        print(json.dumps(document))
    else:
        print(f"{len(track)} readings drawn in {out}")
    return 0
