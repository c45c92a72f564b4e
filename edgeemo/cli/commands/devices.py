"""``edgeemo devices``: what this machine can sense with, what is missing and how to get it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from edgeemo.sensors import DeviceGroup, list_devices


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser("devices", help="microphones and cameras here, and what is missing")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


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
