"""The swap itself: what the first reading of another subset takes more than those that follow it."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Table
from benchmarks.swap.rehearsal import LIVE_S
from benchmarks.swap.scene import Scene, read_scene
from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.session import EngineOptions, Session


def measure(bundle: Bundle, *, variant: str, swaps: int) -> tuple[Any, list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: what the session opens.
        variant: of stems and engines.
        swaps: to a smaller subset, and as many back to all three.
    """
    figures = _extra_ms(bundle, read_scene(), EngineOptions(variant=variant), swaps)
    swap_rows = [
        (
            kind,
            str(len(found)),
            *(f"{np.percentile(found, q):.3f}" for q in (50, 95, 100)),
        )
        for kind, found in figures.items()
    ]
    swap = Table(
        "The swap itself",
        "The reading right after a swap against the median of the next four on the same subset, "
        "milliseconds; below 0 it was faster. All engines are open; processor time leaves out what else runs "
        "here. Aim: 1 ms.",
        ("swap", "n", "p50 ms", "p95 ms", "most ms"),
        swap_rows,
    )
    return dict(figures), [swap]


def _extra_ms(bundle: Bundle, scene: Scene, options: EngineOptions, swaps: int) -> dict[str, list[float]]:
    """Returns how much longer a reading takes whose subset is another one than that before, in ms.

    The reading right after the swap against the median of the four that follow on the same subset.
    """
    order, hop_s = bundle.manifest.order, bundle.manifest.hop_s
    complete = "+".join(order)
    extra: dict[str, list[float]] = defaultdict(list)
    pushed = dict.fromkeys(order, 0)
    with Session(bundle, engines=options, clock=VirtualClock()) as session:
        hop = 0

        def next_hop() -> tuple[str | None, NDArray[np.float64]]:
            nonlocal hop
            hop += 1
            for name in order:
                while (chunk := scene.at(name, pushed[name])).time_s + chunk.duration_s <= hop * hop_s:
                    _push(session, chunk)
                    pushed[name] += 1
            begun, begun_cpu = time.perf_counter(), time.thread_time()
            subset = session.read(at_s=hop * hop_s).subset
            spent = (time.perf_counter() - begun, time.thread_time() - begun_cpu)
            return subset, np.array(spent) * 1e3

        def swap_to(subset: str, kind: str) -> None:
            for _ in range(round(LIVE_S / hop_s)):
                found, first_ms = next_hop()
                if found == subset:
                    break
            after_ms = np.median([next_hop()[1] for _ in range(4)], axis=0)
            for name, value in zip(("time", "processor time"), first_ms - after_ms, strict=True):
                extra[f"to a {kind} subset, {name}"].append(round(float(value), 4))

        swap_to(complete, "larger")
        extra.clear()
        for number in range(swaps):
            modality = order[number % len(order)]
            session.mute(modality)
            swap_to("+".join(name for name in order if name != modality), "smaller")
            session.unmute(modality)
            swap_to(complete, "larger")
    return extra


def _push(session: Session, chunk: Any) -> None:
    if chunk.modality == "audio":
        session.push_audio(chunk.array, rate_hz=chunk.rate_hz, time_s=chunk.time_s)
    elif chunk.modality == "video":
        session.push_frame(chunk.array, time_s=chunk.time_s)
    else:
        session.push_text(chunk.text, time_s=chunk.time_s)
