"""``edgeemo run``: readings from live sensors or from a recording."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from edgeemo.cli.exit_codes import FAILED, USAGE
from edgeemo.cli.options.engines import add_engine_options, engine_options
from edgeemo.cli.options.mqtt import add_mqtt_options, misuse_of_mqtt_options, published, publisher_for
from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.options.record import add_record_options, recorded, recorder_for
from edgeemo.cli.options.sensors import add_sensor_options, misuse_of_sensor_options, sensors_from_options
from edgeemo.cli.options.values import drop, seconds, setting
from edgeemo.cli.show.timeline import print_readings
from edgeemo.sensors import MediaFile
from edgeemo.session import EventKind, Reading, Session


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "run",
        about="Without options it listens to the default microphone and camera, and goes on with whatever of "
        "them is there. A line comes for each reading, every half second. Ctrl-C ends it.",
        examples=(
            ("run", "microphone and camera"),
            ("run --media talk.mp4 --json", "a recording, for a program"),
            ("run --media talk.mp4 --drop video@3-5", "rehearse a camera that fails"),
            ("run --camera 1 --mic none --text stdin", "the second camera, and words that come line by line"),
            ("run --camera pattern --mic pattern --seconds 10", "test patterns, where nothing is connected"),
            ("run --record session.jsonl --set hop_s=0.25", "keep readings, four a second"),
            ("run --mqtt mqtt://broker/robot", "tell a broker"),
        ),
    )
    add_sensor_options(parser)
    group = parser.add_argument_group("session")
    group.add_argument(
        "--drop",
        action="append",
        type=drop,
        default=[],
        metavar="MODALITY@FROM-TO",
        help="take a sensor of the recording away between two times in seconds; repeatable",
    )
    group.add_argument(
        "--seconds", type=seconds, metavar="S", help="stop after this many seconds of readings"
    )
    group.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the session, such as hop_s=0.25; repeatable",
    )
    group.add_argument(
        "--notice",
        metavar="TEXT",
        help="what people must be told: no sensor opens before somebody at the terminal acknowledges it",
    )
    group.add_argument(
        "--watch",
        action="store_true",
        help="take over newer engines whenever the bundle changes, as `edgeemo update` changes it",
    )
    add_engine_options(parser)
    add_record_options(parser)
    add_mqtt_options(parser)
    add_json_option(parser, "reading", a_line=True)


def run(args: argparse.Namespace) -> int:
    """Prints readings until the recording ends, ``--seconds`` are over, or Ctrl-C."""
    misuse = misuse_of_sensor_options(args) or misuse_of_mqtt_options(args)
    if misuse:
        return _usage(misuse)
    if args.append and not args.record:
        return _usage("--append goes on with a record; name it with --record FILE")
    media = MediaFile(args.media) if args.media else None
    sensors = sensors_from_options(args, media)
    if media is None and not sensors:
        return _usage("every sensor is switched off; give --mic, --camera, --text or --media")
    with Session(
        args.bundle,
        media=None if sensors else media,
        sensors=sensors,
        drops=args.drop,
        engines=engine_options(args),
        settings=dict(args.set),
        notice=None if args.notice is None else lambda: _acknowledged(args.notice),
    ) as session:
        if args.watch:
            session.watch()
        lasts_s = media.duration_s if media and sensors and args.seconds is None else args.seconds
        hops = None if lasts_s is None else int(lasts_s / session.hop_s + 1e-6)
        readings = _with_events(itertools.islice(session, hops), session)
        with recorder_for(args, session) as recorder, publisher_for(args, session) as publisher:
            readings = published(readings, publisher, patient=not sensors)
            print_readings(recorded(readings, recorder), as_json=args.json)
    for fault in media.faults if media else ():
        print(f"edgeemo run: {fault}", file=sys.stderr)
    return FAILED if recorder is not None and recorder.lost else 0


def _with_events(readings: Iterable[Reading], session: Session) -> Iterator[Reading]:
    """Passes readings on, and says before each what went well beside them; failures are logged."""
    seen = 0
    for reading in readings:
        for event in session.events(after=seen):
            seen = event.number
            if event.kind is EventKind.RELOADED:
                print(f"edgeemo run: {event.message}", file=sys.stderr)
        yield reading


def _acknowledged(notice: str) -> bool:
    """Shows a notice on the terminal and asks; where nobody can answer, nobody has acknowledged it."""
    print(notice, file=sys.stderr)
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    print("Acknowledge with y and Enter: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _usage(message: str) -> int:
    print(f"edgeemo run: {message}", file=sys.stderr)
    return USAGE
