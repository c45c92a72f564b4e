"""``edgeemo serve``: a live page, REST, a WebSocket and Prometheus over one session."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemo.cli.exit_codes import UsageError
from edgeemo.cli.options.engines import add_engine_options, engine_options
from edgeemo.cli.options.mqtt import add_mqtt_options, misuse_of_mqtt_options, publisher_for
from edgeemo.cli.options.sensors import add_sensor_options, misuse_of_sensor_options, sensors_from_options
from edgeemo.cli.options.session import add_settings_option, bundle_from_options, settings_from_options
from edgeemo.cli.show.first_run import nothing_here
from edgeemo.sensors import MediaFile, Sensor, play
from edgeemo.session import Reading, Session

if TYPE_CHECKING:
    from edgeemo.serve.hub import Hub

_FIRST_S = 10.0  # after that it is clear what is here

ABOUT = """Shows a session in a browser: every modality's state, the camera's picture where it is asked for,
probabilities, emotion and mood over the last minutes, and switches that really close a device. The same is
there for programs: GET /v1/reading, /v1/stats, /v1/devices, /v1/events, the WebSocket /v1/live, /metrics for
Prometheus, /openapi.json.

It listens on this machine alone unless --host says otherwise; clients on others must show a token."""
EXAMPLES = (
    ("serve", "the microphone and camera that are here, on http://127.0.0.1:8080/"),
    ("serve --media talk.mp4 --loop", "a recording again and again, at its own pace"),
    ("serve --mic pattern --camera pattern", "test patterns, without any device"),
    (
        "serve --host 0.0.0.0 --token-file token.txt --notice 'Emotions are recognised here.'",
        "for other machines too; no sensor opens before somebody acknowledges the notice",
    ),
)


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("serve", about=ABOUT, examples=EXAMPLES)
    _add_server_options(parser)
    add_sensor_options(parser, real_pace=True)
    parser.add_argument("--loop", action="store_true", help="play the recording of --media again and again")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="take over newer engines whenever the bundle changes, as `edgeemo update` changes it",
    )
    add_settings_option(parser)
    add_mqtt_options(parser)
    add_engine_options(parser)


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    group.add_argument("--port", type=int, default=8080, help="default 8080; 0 takes one that is free")
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="what clients must show, 16 characters or more in a file that only you can read; without it "
        "EDGEEMO_TOKEN of the environment counts. Needed for any address but this machine's own",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="answer under this name too, such as that of a proxy in front, which speaks TLS; give a token "
        "with it; repeatable",
    )
    group.add_argument(
        "--notice",
        metavar="TEXT",
        help="what people must be told: no sensor opens before somebody acknowledges it on the page",
    )
    group.add_argument("--preview", action="store_true", help="show the camera's picture")
    group.add_argument(
        "--max-clients", type=int, default=256, metavar="N", help="live pages at once (default 256)"
    )


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    args.pace = "real" if args.media else "fast"
    if misuse := misuse_of_sensor_options(args) or misuse_of_mqtt_options(args):
        raise UsageError(misuse)
    if args.loop and not args.media:
        raise UsageError("--loop plays a recording again and again; give one with --media")
    from edgeemo.serve.packages import require_packages

    require_packages()
    from edgeemo.serve.address import bind_socket
    from edgeemo.serve.hub import Hub
    from edgeemo.serve.options import ServeOptions
    from edgeemo.serve.server import Server
    from edgeemo.serve.taps import tap_sensors
    from edgeemo.serve.token import read_token

    options = ServeOptions(
        host=args.host,
        port=args.port,
        token=read_token(args.token_file),
        names=tuple(args.allow_host),
        notice=args.notice,
        preview=args.preview,
        max_clients=args.max_clients,
    )
    with ExitStack() as stack:
        bound = stack.enter_context(bind_socket(options.host, options.port))  # before any device opens
        bundle = bundle_from_options(args)
        settings = settings_from_options(args, bundle)
        media, sensors = _sources(args, stack, bundle.manifest.order)
        taps = tap_sensors(sensors)
        session = stack.enter_context(
            Session(
                args.bundle,
                sensors=taps,
                engines=engine_options(args),
                settings=settings,
                notice=options.notice,
            )
        )
        if args.watch:
            session.watch()
        publisher = stack.enter_context(publisher_for(args, session))
        tell = [] if publisher is None else [publisher.publish]
        tell += [] if _names_sensors(args) else [_Advice().take]
        hub = Hub(
            session,
            taps={tap.modality: tap for tap in taps},
            notice=options.notice,
            preview=options.preview,
            lasts_s=media.duration_s if media else None,
            on_reading=lambda reading: [take(reading) for take in tell],
            on_silence=(lambda why: None) if publisher is None else publisher.silence,
        )
        Server(bound, options, hub, announce=lambda url: _announce(url, hub)).run()
    return 0


def _sources(
    args: argparse.Namespace, stack: ExitStack, modalities: Sequence[str]
) -> tuple[MediaFile | None, list[Sensor]]:
    """Returns the recording, where there is one, and the sensors."""
    if args.loop:
        from edgeemo.serve.looped import LoopedMedia, play_again_and_again

        looped = stack.enter_context(LoopedMedia(args.media))
        return looped, [*play_again_and_again(looped)]
    media = stack.enter_context(MediaFile(args.media)) if args.media else None
    sensors: list[Sensor] = (
        [*play(media)] if media else sensors_from_options(args, None, modalities=modalities)
    )
    if not sensors:
        raise UsageError("every sensor is switched off; give --mic, --camera, --text or --media")
    return None, sensors


def _names_sensors(args: argparse.Namespace) -> bool:
    """Whether somebody said what to sense with, so that nothing is to be explained."""
    return bool(args.media or args.mic or args.camera or args.text or args.sensor)


class _Advice:
    """Says once what works where neither microphone nor camera is there."""

    def __init__(self) -> None:
        self._is_due = True

    def take(self, reading: Reading) -> None:
        """Looks at a reading."""
        if self._is_due and (advice := nothing_here(reading)):
            self._is_due = False
            print(advice, file=sys.stderr)
        self._is_due = self._is_due and reading.time_s < _FIRST_S


def _announce(url: str, hub: Hub) -> None:
    """Says where the page is, and what it waits for."""
    model = hub.session.manifest.model_id
    names = ", ".join(tap.name for tap in hub.taps.values())
    print(f"edgeemo serve: {url} shows {model} on {names}; Ctrl-C ends it", flush=True)
    if hub.notice is not None:
        print("edgeemo serve: no sensor opens before somebody acknowledges the notice there", file=sys.stderr)
