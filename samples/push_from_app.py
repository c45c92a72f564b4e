"""Feed a session from a loop that must never wait, such as a game's: 60 times a second, readings beside it.

python samples/push_from_app.py talk.mp4 --seconds 10
"""

from __future__ import annotations

import argparse
import queue
import threading
import time

import edgeemo
from edgeemo.sensors import Chunk, MediaFile
from edgeemo.shipped import RECORDING


def recognize(captured: queue.Queue[Chunk | None], shown: list[str]) -> None:
    """Runs beside the loop: pushes what it captured, and leaves the newest reading where it looks."""
    with edgeemo.Session() as session:
        read_s = session.hop_s
        while (chunk := captured.get()) is not None:
            if chunk.modality == "audio":
                session.push_audio(chunk.array, rate_hz=chunk.rate_hz or 0, time_s=chunk.time_s)
            elif chunk.modality == "video":
                session.push_frame(chunk.array, time_s=chunk.time_s)
            else:
                session.push_text(chunk.text, time_s=chunk.time_s)
            if chunk.time_s >= read_s:
                shown[0] = session.read(at_s=chunk.time_s).label
                read_s = chunk.time_s + session.hop_s


def main() -> None:
    """Plays a recording as if the game captured it; prints what it would draw, and its slowest tick."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recording", nargs="?", default=RECORDING, help="default: the one that ships")
    parser.add_argument("--seconds", type=float, default=5.0, help="stop after this time (default 5)")
    args = parser.parse_args()
    coming = [chunk for chunk in MediaFile(args.recording) if chunk.time_s < args.seconds][::-1]
    captured: queue.Queue[Chunk | None] = queue.Queue()
    shown, drawn, tick_s, slowest_s, begun_s = ["nothing yet"], "", 1 / 60, 0.0, time.monotonic()
    worker = threading.Thread(target=recognize, args=(captured, shown))
    worker.start()
    for tick in range(1, round(args.seconds / tick_s) + 1):
        now_s = time.monotonic() - begun_s
        while coming and coming[-1].time_s + coming[-1].duration_s <= now_s:
            captured.put(coming.pop())
        if drawn != (drawn := shown[0]):  # a game would draw it at every tick
            print(f"{now_s:5.1f} s  {drawn}")
        slowest_s = max(slowest_s, time.monotonic() - begun_s - now_s)
        time.sleep(max(0.0, tick * tick_s - (time.monotonic() - begun_s)))
    captured.put(None)
    worker.join()
    print(f"{tick} ticks, the slowest took {slowest_s * 1e3:.2f} of {tick_s * 1e3:.1f} ms; last: {shown[0]}")


if __name__ == "__main__":
    main()
