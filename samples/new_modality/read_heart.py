"""Read a model with a modality of your own from its own sensor: a heart rate, played from a table.

python samples/new_modality/train_heart.py my_bundle
python samples/new_modality/read_heart.py my_bundle samples/new_modality/heart_rate.csv
python samples/new_modality/read_heart.py my_bundle samples/new_modality/heart_rate.csv --drop 25-31
"""

from __future__ import annotations

import argparse

import edgeemo
from edgeemo.sensors import CsvSeries, parse_drop

SAID = {8.0: "all is quiet", 19.0: "wow look at that"}
SECONDS = 40


def failure(text: str) -> edgeemo.Drop:
    """Parses FROM-TO: when the heart rate is taken away."""
    return parse_drop(f"heart_rate@{text}", ["heart_rate"])


def main() -> None:
    """Prints a line whenever the subset or the label changes."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("bundle", help="what train_heart.py wrote")
    parser.add_argument("table", help="a CSV file with the columns time_s and bpm")
    parser.add_argument("--drop", type=failure, action="append", default=[], metavar="FROM-TO")
    args = parser.parse_args()

    # A strap that you read yourself is CallableSeries("heart_rate", strap.beats_per_minute). On the virtual
    # clock the table plays at once; leave `connection` and `clock` away for its own pace.
    sensor = CsvSeries("heart_rate", args.table, connection="inline")
    clock = edgeemo.VirtualClock()
    with edgeemo.Session(args.bundle, sensors=[sensor], drops=args.drop, clock=clock) as session:
        before = None
        for reading in session:
            if reading.time_s in SAID:
                session.push_text(SAID[reading.time_s])
            if (reading.subset, reading.label) != before:
                before = (reading.subset, reading.label)
                heart = reading.states["heart_rate"]
                said = f"{reading.label:<9} {reading.confidence:4.0%} from {reading.subset or 'nothing':<15}"
                print(f"{reading.time_s:4.1f} s  {said}  heart rate {heart.state} {heart.why}".rstrip())
            if reading.time_s >= SECONDS:
                break


if __name__ == "__main__":
    main()
