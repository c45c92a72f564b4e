"""Readings in asyncio: `async for` over a session, with other tasks running beside it.

python samples/recognize_async.py
python samples/recognize_async.py talk.mp4
"""

from __future__ import annotations

import argparse
import asyncio

import edgeemo
from edgeemo.sensors import MediaFile, play
from edgeemo.shipped import RECORDING


async def beat(every_s: float) -> int:
    """Counts as long as it is let: what else the program does, such as serving requests."""
    count = 0
    try:
        while True:
            await asyncio.sleep(every_s)
            count += 1
    except asyncio.CancelledError:
        return count


async def recognize(recording: str, seconds: float) -> None:
    """Plays a recording at its own pace, as microphone and camera would, and prints its readings."""
    other = asyncio.create_task(beat(0.01))
    with MediaFile(recording) as media, edgeemo.Session(sensors=play(media)) as session:
        async for reading in session:
            print(f"{reading.time_s:5.1f} s  {reading.label:<10} from {reading.subset or 'nothing'}")
            if reading.time_s >= min(seconds, media.duration_s or seconds):
                break
        late = session.stats().late_hops
    other.cancel()
    print(f"{await other} beats of the other task meanwhile; {late} readings left out")


def main() -> None:
    """Runs the event loop."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("recording", nargs="?", default=RECORDING, help="default: the one that ships")
    parser.add_argument("--seconds", type=float, default=5.0, help="stop after this time (default 5)")
    args = parser.parse_args()
    asyncio.run(recognize(args.recording, args.seconds))


if __name__ == "__main__":
    main()
