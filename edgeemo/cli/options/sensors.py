"""The options that say which sensors `edgeemo run` listens to, and the sensors that they mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from edgeemo.modality import AUDIO, VIDEO
from edgeemo.sensors import MediaFile, Sensor, StdinText, play, sensor_from_spec
from edgeemo.sensors.registry import camera_from_spec, microphone_from_spec


def add_sensor_options(parser: argparse.ArgumentParser, *, real_pace: bool = False) -> None:
    """Adds the options that say where data comes from.

    Args:
        parser: of the command.
        real_pace: a recording plays at its own pace, and there is no option to say otherwise.
    """
    group = parser.add_argument_group("sensors")
    group.add_argument(
        "--mic", metavar="M", help="number, part of the name, or pattern; none switches it off"
    )
    group.add_argument(
        "--camera",
        metavar="C",
        help="number, path, URL, GStreamer pipeline, or pattern; none switches it off",
    )
    group.add_argument("--text", choices=("stdin", "none"), help="where words come from (default none)")
    group.add_argument(
        "--sensor",
        action="append",
        default=[],
        metavar="NAME[:ARGUMENT]",
        help="a sensor that an installed package registers, see `edgeemo devices`, or csv:MODALITY=FILE, a "
        "table of numbers; it takes the place of the default microphone or camera; repeatable",
    )
    group.add_argument(
        "--wait-for-sensors",
        action="store_true",
        help="start although a microphone or camera asked for is not there yet; it comes in when it is",
    )
    group.add_argument("--media", metavar="FILE", help="replay a recording instead of live sensors")
    if real_pace:
        return
    group.add_argument(
        "--pace",
        choices=("fast", "real"),
        default="fast",
        help="replay it as fast as possible, or at its own pace as live sensors would (default fast)",
    )


def misuse_of_sensor_options(args: argparse.Namespace) -> str:
    """Returns what is wrong with the combination of options, in one sentence; empty if nothing is."""
    if args.media and (args.mic or args.camera or args.text or args.sensor):
        return "--media replays a recording; leave --mic, --camera, --text and --sensor away with it"
    if args.pace == "real" and not args.media:
        return "--pace is that of a recording; give one with --media"
    return ""


def sensors_from_options(
    args: argparse.Namespace, media: MediaFile | None, *, modalities: Sequence[str]
) -> list[Sensor]:
    """Returns the sensors asked for; a recording at its own pace is some, at the fast pace none.

    The default microphone and camera are taken where nothing is said of them and the model listens to them.

    Args:
        args: what `add_sensor_options` parsed.
        media: the recording, where there is one.
        modalities: what the model takes.

    Raises:
        SensorError: a registered sensor that does not exist, or cannot be made.
    """
    if media is not None:
        return list(play(media)) if args.pace == "real" else []
    sensors = [sensor_from_spec(spec) for spec in args.sensor]
    by_default = set(modalities) - {sensor.modality for sensor in sensors}
    required = not args.wait_for_sensors
    if args.mic != "none" and (args.mic or AUDIO in by_default):
        sensors.append(microphone_from_spec(_device(args.mic), required=required))
    if args.camera != "none" and (args.camera or VIDEO in by_default):
        sensors.append(camera_from_spec(_device(args.camera), required=required))
    if args.text == "stdin":
        sensors.append(StdinText())
    return sensors


def _device(text: str | None) -> str | None:
    return None if text == "default" else text
