"""Keep the readings of a recording as JSON lines, show what changed, and make EmotionML of them.

python samples/record_readings.py recording.mp4 readings.jsonl readings.xml
"""

from __future__ import annotations

import argparse

import edgeemo
from edgeemo.records import convert_record, header_from_manifest, open_recorder, read_records


def main() -> None:
    """Records, tells changes as they come, reads back and converts."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("media", help="any file that FFmpeg reads")
    parser.add_argument("record", help="a new file that ends in .jsonl, .parquet, .xml or .emotionml")
    parser.add_argument("converted", help="another, such as the same as EmotionML")
    args = parser.parse_args()

    seen = 0
    with edgeemo.Session(media=args.media) as session:
        header = header_from_manifest(session.manifest, hop_s=session.hop_s)
        with open_recorder(args.record, header) as recorder:
            for reading in session:
                recorder.write(reading)
                for event in session.events(after=seen):
                    seen = event.number
                    print(f"{event.time_s:.1f} s  {event.kind}: {event.message}")
                if reading.contradicts:
                    print(f"{reading.time_s:.1f} s  its modalities contradict each other")
        print(f"{recorder.written} readings in {recorder.path}")

    with_signal = [reading for reading in read_records(args.record) if reading["subset"]]
    print(f"{len(with_signal)} of them with a signal")
    convert_record(args.record, args.converted)


if __name__ == "__main__":
    main()
