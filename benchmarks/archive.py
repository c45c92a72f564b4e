"""An archive of recordings scored by ``edgeemo batch``: in one process, and by workers of Ray."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle
from edgeemo.runtimes.machine import cpu_count
from edgeemo.shipped import RECORDING

CREWS = (0, *range(1, cpu_count() + 1))


def measure(bundle: Bundle, *, recordings: int, rounds: int, crews: Sequence[int] = CREWS) -> Report:
    """Scores one recording, then an archive of them, with each number of workers, in turns.

    Args:
        bundle: what scores.
        recordings: copies of the demo recording that make the archive, at least 2.
        rounds: runs of each kind.
        crews: numbers of workers, 0 (none: one process without Ray) first.

    Raises:
        SystemExit: a run failed, or made another number of readings.
    """
    one_s: dict[int, list[float]] = {workers: [] for workers in crews}
    all_s: dict[int, list[float]] = {workers: [] for workers in crews}
    with tempfile.TemporaryDirectory(prefix="edgeemo-") as folder:
        one, archive = Path(folder) / "one", Path(folder) / "archive"
        readings, media_s, _ = _score(bundle, _copies(one, 1), workers=0)  # compiles, fills the disk's cache
        _copies(archive, recordings)
        for _ in range(rounds):
            for workers in crews:
                for place, count, times in ((one, 1, one_s), (archive, recordings, all_s)):
                    made, _, took_s = _score(bundle, place, workers=workers)
                    if made != count * readings:
                        raise SystemExit(f"{workers} workers made {made} readings, not {count * readings}")
                    times[workers].append(took_s)
    figures = {}
    for workers in crews:
        whole_s = statistics.median(all_s[workers])
        each_s = (whole_s - statistics.median(one_s[workers])) / (recordings - 1)
        figures[str(workers)] = {
            "command_s": round(whole_s, 2),
            "command_deviation_s": round(statistics.pstdev(all_s[workers]), 2),
            "first_recording_s": round(statistics.median(one_s[workers]), 2),
            "times_real_time": round(media_s / each_s, 2),
        }
    alone = figures["0"]["times_real_time"]
    rows = [
        (
            words_of_crew(workers),
            f"{found['command_s']:.1f} ± {found['command_deviation_s']:.1f}",
            f"{found['first_recording_s']:.1f}",
            f"{found['times_real_time']:.1f}",
            f"{found['times_real_time'] / alone:.2f}",
        )
        for workers, found in figures.items()
    ]
    note = (
        f"{recordings} copies of {RECORDING.name}, {recordings * media_s / 60:.1f} minutes of sound, faces "
        f"and captions; medians of {rounds} whole commands in turns, one thread an engine. One recording: "
        "the same command with a single one, which is what starting and ending cost. Times real time: how "
        "fast the others went by. Every run made the same number of readings of each."
    )
    columns = ("scored by", "all, s", "one recording, s", "times real time", "times one process")
    table = Table("Whole commands", note, columns, rows)
    return Report("archive", "An archive", {"recordings": recordings, "workers": figures}, [table])


def words_of_crew(workers: str) -> str:
    """Returns who scores, for a table, of a number of workers as the figures have it."""
    return "one process, without Ray" if workers == "0" else f"Ray, workers: {workers}"


def _copies(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        shutil.copy(RECORDING, folder / f"{number:04}{RECORDING.suffix}")
    return folder


def _score(bundle: Bundle, folder: Path, *, workers: int) -> tuple[int, float, float]:
    """Returns the readings of one run, the seconds of media that they are of, and how long it took."""
    table = folder.with_suffix(".parquet")
    words = [sys.executable, "-m", "edgeemo", "batch", str(folder), "--out", str(table), "--overwrite"]
    options = ["--bundle", str(bundle.path), "--workers", str(workers), "--json"]
    began_s = time.monotonic()
    done = subprocess.run([*words, *options], capture_output=True, text=True, check=False)
    took_s = time.monotonic() - began_s
    if done.returncode:
        raise SystemExit(f"edgeemo batch ended with {done.returncode}:\n{done.stderr}")
    summary = json.loads(done.stdout)
    return summary["readings"], summary["media_s"], took_s
