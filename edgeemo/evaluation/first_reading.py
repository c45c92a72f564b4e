"""A program, not a library: opens a session in a fresh process, makes one reading, and says what it cost.

Run by its path (`edgeemo.evaluation.footprint` does), so that nothing of edgeemo is imported before the
clock starts. Takes one JSON object as its argument and prints one.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

SECONDS = 4


def memory_text() -> str | None:
    """Returns what the kernel says about this process's memory; None where it does not."""
    path = Path("/proc/self/smaps_rollup")
    return path.read_text(encoding="ascii") if path.exists() else None


def main() -> None:
    """Opens, pushes four seconds of sound and some words, reads hop by hop until there is a signal."""
    task = json.loads(sys.argv[1])
    import numpy as np

    base = memory_text()
    start = time.perf_counter()
    from edgeemo.session import EngineOptions, Session

    imported = time.perf_counter()
    options = EngineOptions(**task["options"])
    every_sound = {"voice_activity": "off"}  # made-up sound is nobody's voice
    with Session(task["bundle"], engines=options, settings=every_sound) as session:
        opened = time.perf_counter()
        rng = np.random.default_rng(0)
        rate = 16000
        swell = 0.2 * np.sin(np.linspace(0, 3 * np.pi * SECONDS, rate * SECONDS)) ** 2
        sound = (rng.standard_normal(rate * SECONDS) * swell).clip(-1, 1).astype(np.float32)
        subsets = options.subsets or tuple(session.manifest.engines)
        modalities = {name for subset in subsets for name in subset.split("+")}
        if "audio" in modalities:
            session.push_audio(sound, rate_hz=rate, time_s=0.0)
        if "text" in modalities:
            session.push_text("what a day , I am so glad you came", time_s=0.0)
        hop_s = session.manifest.hop_s
        reading = session.read(at_s=hop_s)
        while not reading.has_signal and reading.time_s < SECONDS:
            reading = session.read(at_s=reading.time_s + hop_s)
        read = time.perf_counter()
        for _ in range(10):  # the backend's memory settles in the first calls
            session.read(at_s=reading.time_s)
        ready = memory_text()
    json.dump(
        {
            "import_ms": round((imported - start) * 1e3, 1),
            "open_ms": round((opened - imported) * 1e3, 1),
            "reading_ms": round((read - opened) * 1e3, 1),
            "read_at": read,
            "base": base,
            "ready": ready,
            "subset": reading.subset,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
