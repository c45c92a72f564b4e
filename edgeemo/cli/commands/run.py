"""``edgeemo run``: readings from live sensors or from a recording."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from edgeemo.bundle import Bundle
from edgeemo.bundle.place import copy_place
from edgeemo.cli.exit_codes import FAILED, UsageError
from edgeemo.cli.options.engines import add_engine_options, engine_options
from edgeemo.cli.options.mqtt import add_mqtt_options, misuse_of_mqtt_options, published, publisher_for
from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.options.record import add_record_options, recorded, recorder_for
from edgeemo.cli.options.sensors import add_sensor_options, misuse_of_sensor_options, sensors_from_options
from edgeemo.cli.options.session import (
    add_settings_option,
    bundle_from_options,
    check_drops,
    settings_from_options,
)
from edgeemo.cli.options.values import drop, seconds
from edgeemo.cli.show.first_run import Advice, nothing_here
from edgeemo.cli.show.timeline import print_readings
from edgeemo.cli.show.view import may_show_view, show_view
from edgeemo.errors import ExportError
from edgeemo.sensors import MediaFile
from edgeemo.session import EventKind, Reading, Session


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "run",
        about="Without options it listens to the default microphone and camera, and goes on with whatever of "
        "them is there. In a terminal it shows a live picture (with rich, of the extra live); a recording "
        "at the fast pace, a pipe, --plain and TERM=dumb get a line for each reading. Ctrl-C ends it.",
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
        help="take a sensor away between two times in seconds, to rehearse a failure; repeatable",
    )
    group.add_argument(
        "--seconds", type=seconds, metavar="S", help="stop after this many seconds of readings"
    )
    add_settings_option(group)
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
    output = parser.add_argument_group("output")
    output.add_argument(
        "--plain", action="store_true", help="a line for each reading, also in a terminal that can show more"
    )
    add_json_option(output, "reading", a_line=True)


def run(args: argparse.Namespace) -> int:
    """Shows readings until the recording ends, ``--seconds`` are over, or Ctrl-C."""
    misuse = misuse_of_sensor_options(args) or misuse_of_mqtt_options(args)
    if misuse:
        raise UsageError(misuse)
    if args.append and not args.record:
        raise UsageError("--append goes on with a record; name it with --record FILE")
    bundle = bundle_from_options(args)
    settings = settings_from_options(args, bundle)
    check_drops(args.drop, bundle)
    media = MediaFile(args.media) if args.media else None
    sensors = sensors_from_options(args, media, modalities=bundle.manifest.order)
    if media is None and not sensors:
        raise UsageError("every sensor is switched off; give --mic, --camera, --text or --media")
    if hint := _updated_copy(bundle):
        print(f"edgeemo run: {hint}", file=sys.stderr)
    with Session(
        args.bundle,
        media=None if sensors else media,
        sensors=sensors,
        drops=args.drop,
        engines=engine_options(args),
        settings=settings,
        notice=None if args.notice is None else lambda: _acknowledged(args.notice),
    ) as session:
        if args.watch:
            session.watch()
        lasts_s = media.duration_s if media and sensors and args.seconds is None else args.seconds
        hops = None if lasts_s is None else int(lasts_s / session.hop_s + 1e-6)
        readings = _with_events(itertools.islice(session, hops), session)
        with recorder_for(args, session) as recorder, publisher_for(args, session) as publisher:
            readings = recorded(published(readings, publisher, patient=not sensors), recorder)
            advice = nothing_here if _takes_what_is_there(args) else _no_advice
            if sensors and not (args.json or args.plain) and may_show_view():
                show_view(readings, session, advice)
            else:
                print_readings(_with_advice(readings, advice), as_json=args.json)
    for fault in media.faults if media else ():
        print(f"edgeemo run: {fault}", file=sys.stderr)
    return FAILED if recorder is not None and recorder.lost else 0


def _updated_copy(bundle: Bundle) -> str:
    """Returns how to use the copy that ``edgeemo update`` made of a bundle; empty where there is none."""
    try:
        place = copy_place(bundle)
    except ExportError:  # there is no home folder
        return ""
    if place.resolve() == bundle.path.resolve() or not (place / "manifest.json").is_file():
        return ""
    return f"an updated copy of this bundle is in your data folder; to use it: --bundle {place}"


def _takes_what_is_there(args: argparse.Namespace) -> bool:
    """Whether nobody said which sensors are wanted, as somebody does who only wants to see it run."""
    return not (args.mic or args.camera or args.text or args.sensor or args.media or args.wait_for_sensors)


def _no_advice(reading: Reading) -> str:
    return ""


def _with_advice(readings: Iterable[Reading], advice: Advice) -> Iterator[Reading]:
    """Passes readings on, and says once what to do where there is no sensor at all."""
    advised = False
    for reading in readings:
        if not advised and (said := advice(reading)):
            print(said, file=sys.stderr)
            advised = True
        yield reading


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
