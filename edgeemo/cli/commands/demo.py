"""``edgeemo demo``: the recording that ships, while its sensors drop out and come back."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from edgeemo.cli.options.engines import add_engine_options, engine_options
from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.show.timeline import print_readings
from edgeemo.sensors.drop import parse_drop
from edgeemo.session import Session
from edgeemo.shipped import RECORDING

DROPS = ("video@3-5", "audio@6.5-8.5", "video@9.5-11", "audio@9.5-11")


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "demo",
        about="Fourteen seconds of a talking face that ships with edgeemo; no camera, microphone or network "
        "is needed. Watch the engine change as the camera, the microphone and then both go away.",
        examples=(
            ("demo", "the timeline, a line every half second"),
            ("demo --json", "the same for a program"),
            ("demo --subset audio --subset audio+video", "as on a robot that has no words"),
        ),
    )
    add_engine_options(parser)
    add_json_option(parser, "reading", a_line=True)


def run(args: argparse.Namespace) -> int:
    """Prints the timeline of the demo recording."""
    drops = [parse_drop(text) for text in DROPS]
    with Session(args.bundle, media=RECORDING, drops=drops, engines=engine_options(args)) as session:
        if not args.json:
            print(f"{RECORDING.name}, with these failures rehearsed: {', '.join(map(str, drops))}\n")
        print_readings(session, as_json=args.json)
        stats = session.stats()
    if not args.json:
        latency = stats.latency_ms
        print(
            f"\n{stats.hops} readings, {stats.swaps} changes of engine, "
            f"{latency['p50']:.1f} ms a reading (p95 {latency['p95']:.1f} ms)"
        )
    sys.stdout.flush()
    return 0
