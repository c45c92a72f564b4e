"""Memory of a fresh process at each step from Python to a session that replays a recording."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle
from edgeemo.evaluation.footprint import Memory, memory_of

STEPS = {
    "Python, numpy and the modules of edgeemo": "nothing",
    "onnxruntime, one engine open (audio) with its stem": "one",
    "three stems and seven engines open, one reading each hop from pushed sound and words": "pushed",
    "the same, replaying the demo recording (PyAV, OpenCV, face detection)": "recording",
}


def measure(bundle: Bundle) -> Report:
    """Runs each step in a process of its own.

    Args:
        bundle: what the sessions open.
    """
    variants = sorted({variant for files in bundle.manifest.engines.values() for variant in files})
    figures: dict[str, dict[str, Any]] = {}
    rows = []
    for variant in variants:
        for step, task in STEPS.items():
            if task == "nothing" and variant != variants[0]:
                continue
            found = _in_fresh_process(bundle, task, variant)
            figures.setdefault(variant, {})[task] = asdict(found)
            rows.append(
                (
                    step if task == "nothing" else f"{step}, {variant}",
                    *(f"{size / 1e6:.0f}" for size in (found.pss, found.private, found.rss)),
                )
            )
    note = (
        "From `/proc/self/smaps_rollup` at the end of each process. PSS counts pages that other processes "
        "share in parts, so it moves a little with what else runs. Budget: 220 MB PSS with camera and "
        "microphone."
    )
    table = Table("Memory", note, ("process", "PSS MB", "private MB", "RSS MB"), rows)
    return Report("memory", "Memory", {"variants": figures}, [table])


def _in_fresh_process(bundle: Bundle, task: str, variant: str) -> Memory:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "memory.json"
        words = [sys.executable, "-m", "benchmarks.memory", task, str(bundle.path), variant, str(out)]
        subprocess.run(words, check=True, cwd=Path(__file__).resolve().parent.parent)
        return Memory(**json.loads(out.read_text()))


def child(task: str, path: str, variant: str) -> Memory:
    """Does one step in this process and returns its memory at the end."""
    import numpy as np

    from edgeemo.session import EngineOptions, Session
    from edgeemo.shipped import RECORDING

    if task == "nothing":
        return _own_memory()
    subsets = ("audio",) if task == "one" else None
    options = EngineOptions(subsets=subsets, variant=variant)
    media = RECORDING if task == "recording" else None
    settings = {} if media else {"voice_activity": "off"}  # noise is nobody's voice
    with Session(path, media=media, engines=options, settings=settings) as session:
        if media is not None:
            for _ in session:
                pass
        else:
            rng = np.random.default_rng(0)
            for hop in range(1, 21):
                sound = (0.1 * rng.standard_normal(8000)).astype(np.float32)
                session.push_audio(sound, rate_hz=16000, time_s=(hop - 1) / 2)
                if subsets is None:
                    session.push_text("what a day", time_s=(hop - 1) / 2)
                session.read(at_s=hop / 2)
        return _own_memory()


def _own_memory() -> Memory:
    memory = memory_of()
    if memory is None:
        raise SystemExit("this system does not tell the memory of a process (no /proc/self/smaps_rollup)")
    return memory


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    Path(sys.argv[4]).write_text(json.dumps(asdict(child(*sys.argv[1:4]))))
