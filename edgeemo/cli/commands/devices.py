"""``edgeemo devices``: what this machine can sense with, what is missing and how to get it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from edgeemo.cli.options.output import add_json_option
from edgeemo.sensors import DeviceGroup, list_devices


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "devices",
        about="What stands in front of each name is what `edgeemo run` takes for --mic, --camera or "
        "--sensor; * marks the one that is used when none is asked for. The exit code is 0 even where "
        "nothing is found.",
        examples=(
            ("devices", "what can be sensed with here"),
            ("devices --json", "the same for a program"),
        ),
    )
    add_json_option(parser, "devices")


def run(args: argparse.Namespace) -> int:
    """Lists devices of every kind; the exit code is 0 even where none is there."""
    groups = list_devices()
    if args.json:
        print(json.dumps({group.kind: dataclasses.asdict(group) for group in groups}, indent=2))
    else:
        print("\n".join(line for group in groups for line in _lines(group)))
    return 0


def _lines(group: DeviceGroup) -> list[str]:
    lines = [f"{group.kind}: {group.why}"]
    width = max((len(device.key) for device in group.devices), default=0)
    for device in group.devices:
        mark = "*" if device.default else " "
        lines.append(f"  {mark} {device.key:>{width}}  {device.name} ({device.detail})")
    if group.install:
        lines.append(f"    install it with: {group.install}")
    return lines
