"""From a fresh process to its first reading: on each backend, and while a better one is prepared."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu.child import Found, not_measured
from benchmarks.gpu.stand_in import NAME, SecondCpu
from edgeemo.evaluation.footprint import measure_footprint
from edgeemo.runtimes.backends import CPU, backend_named
from edgeemo.session import EngineOptions, Session
from edgeemo.session.engines.move_up import MoveUp

_ROUNDS = 5
_RATE_HZ = 16000
_SECONDS = 4


def measure(bundle: str, backend: str, begun: float) -> Found:
    """Returns medians over fresh processes, or, for the stand-in, this process's own time.

    Args:
        bundle: a folder.
        backend: a name of `edgeemo.runtimes.open.BACKENDS`, "auto", or that of the stand-in.
        begun: the system's monotonic clock when this process was started.
    """
    if backend == NAME:
        return _while_preparing(bundle, begun)
    if backend != "auto" and (why := backend_named(backend).why_not()):
        return not_measured(why)
    measure_footprint(bundle, backend=backend)  # builds plans, times variants, fills the disk's cache
    found = [measure_footprint(bundle, backend=backend) for _ in range(_ROUNDS)]
    found.sort(key=lambda each: each.process_ms)
    middle = found[_ROUNDS // 2]
    return {"open_ms": middle.open_ms, "reading_ms": middle.reading_ms, "process_ms": middle.process_ms}


def _while_preparing(bundle: str, begun: float) -> Found:
    """Reads on the CPU while a build runs beside it, as soon as the session can."""
    with tempfile.TemporaryDirectory() as folder:
        opening = time.perf_counter()
        options = EngineOptions(backend=CPU, variant="int8")
        with Session(bundle, engines=options, settings={"voice_activity": "off"}) as session:
            moving = MoveUp(session._pool, [SecondCpu(Path(folder))], threads=1, tell=session._tell)
            moving.start()
            opened = time.perf_counter()
            swell = 0.2 * np.sin(np.linspace(0, 3 * np.pi * _SECONDS, _RATE_HZ * _SECONDS)) ** 2
            sound = np.random.default_rng(0).standard_normal(_RATE_HZ * _SECONDS) * swell
            session.push_audio(sound.clip(-1, 1).astype(np.float32), rate_hz=_RATE_HZ, time_s=0.0)
            session.push_text("what a day , I am so glad you came", time_s=0.0)
            reading = session.read(at_s=session.hop_s)
            while not reading.has_signal and reading.time_s < _SECONDS:
                reading = session.read(at_s=reading.time_s + session.hop_s)
            read = time.perf_counter()
            moving.stop()
            moving.join()
    if not reading.has_signal:
        return not_measured("four seconds of sound and words gave no reading")
    return {
        "open_ms": round((opened - opening) * 1e3, 1),
        "reading_ms": round((read - opened) * 1e3, 1),
        "process_ms": round((read - begun) * 1e3, 1),
        "served_by": reading.backend,
    }
