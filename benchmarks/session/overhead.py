"""What a reading costs beyond the engines that it runs."""

from __future__ import annotations

import itertools
import time
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.swap.scene import Scene, read_scene
from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.runtimes.ort import load_onnxruntime
from edgeemo.session import EngineOptions, Session

AIM_US, AIM_SHARE = 50.0, 0.05
_WARM_UP = 12


class BareCalls:
    """Adds up the processor time inside ``InferenceSession.run`` while it is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0
        self._owner = load_onnxruntime().InferenceSession
        self._run = self._owner.run

    def __enter__(self) -> BareCalls:
        original = self._run

        def timed(*args: Any, **options: Any) -> Any:
            begun = time.thread_time()
            try:
                return original(*args, **options)
            finally:
                self.seconds += time.thread_time() - begun
                self.calls += 1

        self._owner.run = timed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.run = self._run


def measure(bundle: Bundle, *, variant: str, hops: int) -> tuple[dict[str, Any], list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: what the session opens.
        variant: of stems and engines.
        hops: tri-modal hops to time.
    """
    complete = "+".join(bundle.manifest.order)
    whole, bare, again, again_bare = _hops(bundle, EngineOptions(variant=variant), complete, hops)
    figures = {
        "hop": _figures(whole, bare),
        "engine": _figures(again, again_bare),
    }
    words = {
        "hop": "a tri-modal hop: stems and engine",
        "engine": "the same hop asked again: the engine alone",
    }
    rows = [
        (
            words[name],
            *(f"{figures[name][key]:.0f}" for key in ("read_us", "bare_us", "overhead_us", "p95_us")),
            f"{figures[name]['overhead_us'] / figures[name]['bare_us']:.1%}",
            f"{max(AIM_US, AIM_SHARE * figures[name]['bare_us']):.0f}",
        )
        for name in figures
    ]
    note = (
        f"`Session.read` against the time inside `onnxruntime.InferenceSession.run` of the same reading, "
        f"{hops} hops whose subset is {complete}, {variant}; medians of the thread's processor time, "
        "microseconds, so that other work on the machine does not count. What is pushed has gone "
        "through its front-end before. The rest is windows, states, choice of the subset, probabilities, "
        "emotion, mood, agreement and the reading itself. Aim: the larger of 5 % and 50 us."
    )
    columns = ("what", "read us", "onnxruntime us", "overhead us", "overhead p95 us", "share", "aim us")
    return figures, [Table("Overhead over bare engine calls", note, columns, rows)]


def _hops(
    bundle: Bundle, options: EngineOptions, complete: str, hops: int
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Returns processor seconds of the reading and inside onnxruntime, first with stems, then asked again."""
    found: tuple[list[float], ...] = ([], [], [], [])
    scene = read_scene()
    pushed = dict.fromkeys(bundle.manifest.order, 0)
    hop_s, hop = bundle.manifest.hop_s, 0
    with BareCalls() as calls, Session(bundle, engines=options, clock=VirtualClock()) as session:
        while len(found[0]) < hops:
            hop += 1
            push_until(session, scene, pushed, hop * hop_s)
            for first in (0, 2):
                inside_s, begun = calls.seconds, time.thread_time()
                reading = session.read(at_s=hop * hop_s)
                spent_s = time.thread_time() - begun
                if reading.subset == complete and hop > _WARM_UP:
                    found[first].append(spent_s)
                    found[first + 1].append(calls.seconds - inside_s)
            if hop > 10 * hops + 100:
                raise SystemExit(f"{complete} is never live in the scene; states: {dict(reading.states)}")
    return found[0], found[1], found[2], found[3]


def push_until(session: Session, scene: Scene, pushed: dict[str, int], until_s: float) -> None:
    """Pushes what the scene gives until a time.

    Args:
        session: takes it.
        scene: gives it.
        pushed: modality -> pieces pushed before; counted on here.
        until_s: capture time at which the last piece has ended.
    """
    for name, number in list(pushed.items()):
        for piece in itertools.count(number):
            chunk = scene.at(name, piece)
            if chunk.time_s + chunk.duration_s > until_s:
                pushed[name] = piece
                break
            if name == "audio":
                session.push_audio(chunk.array, rate_hz=scene.rate_hz, time_s=chunk.time_s)
            elif name == "video":
                session.push_frame(chunk.array, time_s=chunk.time_s)
            else:
                session.push_text(chunk.text, time_s=chunk.time_s)


def _figures(read_s: list[float], bare_s: list[float]) -> dict[str, float]:
    extra = np.array(read_s) - np.array(bare_s)
    return {
        "hops": len(read_s),
        "read_us": round(float(np.median(read_s)) * 1e6, 1),
        "bare_us": round(float(np.median(bare_s)) * 1e6, 1),
        "overhead_us": round(float(np.median(extra)) * 1e6, 1),
        "p95_us": round(float(np.percentile(extra, 95)) * 1e6, 1),
    }
