"""Recognise the emotion in a recording, and see what happens when a sensor fails.

python samples/recognize_file.py talk.mp4
python samples/recognize_file.py talk.mp4 --drop video@3-5
"""

from __future__ import annotations

import argparse

import edgeemo
from edgeemo.sensors.drop import parse_drop


def main() -> None:
    """Prints one line for each reading."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", help="any file with sound or pictures")
    parser.add_argument("--drop", type=parse_drop, action="append", default=[], metavar="MODALITY@FROM-TO")
    args = parser.parse_args()

    with edgeemo.Session(media=args.recording, drops=args.drop) as session:
        for reading in session:
            print(f"{reading.time_s:5.1f} s  {reading.label:<10} from {reading.subset or 'nothing'}")
            for modality, status in reading.states.items():
                if status.why:
                    print(f"           {modality} is {status.state}: {status.why}")


if __name__ == "__main__":
    main()
