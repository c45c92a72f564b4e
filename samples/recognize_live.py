"""Recognise emotions live with whatever works here: microphone, camera, or both. Ctrl-C ends it.

python samples/recognize_live.py --list-devices
python samples/recognize_live.py --mic "USB" --camera 1 --seconds 10
"""

from __future__ import annotations

import argparse
import contextlib

import edgeemo
from edgeemo.sensors import list_devices


def main() -> None:
    """Prints one line for each reading."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mic", help="part of the microphone's name; default: the system's")
    parser.add_argument("--camera", type=int, help="the camera's number; default: the first that works")
    parser.add_argument("--list-devices", action="store_true", help="what there is to listen and look with")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    args = parser.parse_args()

    if args.list_devices:
        for group in list_devices():
            print(f"{group.kind}: {group.why}")
            for device in group.devices:
                print(f"  {'*' if device.default else ' '} {device.key}  {device.name} ({device.detail})")
        return

    sensors = [edgeemo.Microphone(args.mic), edgeemo.Camera(args.camera)]
    with contextlib.suppress(KeyboardInterrupt), edgeemo.Session(sensors=sensors) as session:
        for reading in session:
            states = ", ".join(f"{name} {status.state}" for name, status in reading.states.items())
            print(f"{reading.time_s:6.1f} s  {reading.label:<10} {reading.confidence:4.0%}  ({states})")
            if reading.time_s >= args.seconds:
                break


if __name__ == "__main__":
    main()
