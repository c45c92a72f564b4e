"""Rehearse the failure of a sensor: the states of all, moment by moment, and how fast the engines follow.

python samples/rehearse_failure.py talk.mp4 --drop video@2-4 --drop audio@9-11
"""

from __future__ import annotations

import argparse

import edgeemo
from edgeemo.sensors.drop import parse_drop


def tell_delays(drop: edgeemo.Drop, readings: list[edgeemo.Reading]) -> None:
    """Prints when the engines did without a sensor, and when they had it again."""

    def delay(since_s: float, used: bool) -> str:
        for reading in readings:
            if reading.time_s >= since_s and (drop.modality in (reading.subset or "").split("+")) == used:
                return f"{reading.time_s - since_s:.1f} s later"
        return "not before the end"

    print(f"{drop}: out {delay(drop.from_s, False)}, in again {delay(drop.to_s, True)}")


def main() -> None:
    """Prints a line whenever a state changes, and at the end how long each change took."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("recording", help="any file with sound or pictures")
    parser.add_argument("--drop", type=parse_drop, action="append", default=[], metavar="MODALITY@FROM-TO")
    args = parser.parse_args()

    # A reading every tenth of a second shows well what happens when; live sensors fail the same way:
    # edgeemo.Session(sensors=[...], drops=...).
    settings = {"hop_s": 0.1}
    with edgeemo.Session(media=args.recording, drops=args.drop, settings=settings) as session:
        readings, before = [], None
        for reading in session:
            readings.append(reading)
            states = {name: str(status.state) for name, status in reading.states.items()}
            if states != before:
                row = "  ".join(f"{name} {state:<6}" for name, state in states.items())
                print(f"{reading.time_s:5.1f} s  {row}  -> {reading.subset or 'no signal'}")
                before = states
        for drop in args.drop:
            tell_delays(drop, readings)
        print(f"{session.stats().swaps} swaps of engines in {len(readings)} readings")


if __name__ == "__main__":
    main()
