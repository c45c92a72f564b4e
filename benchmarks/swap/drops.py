"""What happens when a sensor drops, in a real session: how long until a reading is right again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.swap.accuracy_tables import HALF_LIFE_S
from benchmarks.swap.drop_tables import MINUTE_S, drop_tables, limit_s
from benchmarks.swap.dropped import Drop, half_life_readings, judge_drop, summary
from benchmarks.swap.rehearsal import AFTER_S, LIVE_S, MUTE, Rehearsal, fault_of
from benchmarks.swap.scene import Scene, ScenePlayer, read_scene
from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.errors import EdgeEmoError
from edgeemo.session import EngineOptions, Reading, Session, State

PHASES = (0.02, 0.14, 0.26, 0.38, 0.49)
"""When the sensor drops, in seconds after a hop."""


def measure(bundle: Bundle, *, variant: str, phases: int, real_rounds: int) -> tuple[Any, list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: what the sessions open.
        variant: of stems and engines.
        phases: moments between two hops at which sensors drop, on the virtual clock.
        real_rounds: drops of each kind in real time.
    """
    scene = read_scene()
    options = EngineOptions(variant=variant)
    order = bundle.manifest.order
    virtual: dict[str, list[Drop]] = {}
    late: dict[str, list[Drop]] = {}
    kinds = [(f"{modality}, {fault}", modality, fault, order) for modality, fault in _kinds()]
    alone = [(f"{modality} alone, hang", modality, "hang", (modality,)) for modality in ("audio", "video")]
    for name, modality, fault, there in kinds + alone:
        for phase_s in PHASES[:phases]:
            kind = (modality, fault)
            own, pooled = _virtual_drop(bundle, scene, options, kind, order=there, phase_s=phase_s)
            virtual.setdefault(name, []).append(own)
            late.setdefault(name, []).append(pooled)
    real = _real_drops(bundle, scene, options, rounds=real_rounds)
    hop_s = bundle.manifest.hop_s
    figures = {
        "virtual": {kind: summary(found) for kind, found in virtual.items()},
        "late_fusion": {kind: summary(found) for kind, found in late.items()},
        "real": {kind: summary(found) for kind, found in real.items()},
        "hop_s": hop_s,
        "half_lives": {
            f"{half_life_s:g}": [
                half_life_readings(
                    round(MINUTE_S / hop_s), hop_s, hop_s / 2, others=others, half_life_s=half_life_s
                )
                for others in (2, 0)
            ]
            for half_life_s in (1.0, HALF_LIFE_S, 20.0)
        },
    }
    return figures, drop_tables(figures)


def _kinds() -> Iterator[tuple[str, str]]:
    yield from itertools.product(("audio", "video"), ("hang", "error", MUTE))
    yield "text", MUTE


def _virtual_drop(
    bundle: Bundle,
    scene: Scene,
    options: EngineOptions,
    kind: tuple[str, str],
    *,
    order: tuple[str, ...],
    phase_s: float,
) -> tuple[Drop, Drop]:
    """Lets a sensor drop ``phase_s`` after a hop, on a clock that only moves when the session waits.

    Returns:
        what the session's readings did, and what late fusion does that pools whoever is live in them.
    """
    modality, fault = kind
    clock, complete, hop_s = VirtualClock(), "+".join(order), bundle.manifest.hop_s
    players = {name: ScenePlayer(scene, name, connection="inline") for name in order}
    with Session(bundle, sensors=list(players.values()), engines=options, clock=clock) as session:
        readings = iter(session)
        at_s = next(r.time_s for r in readings if _is_complete(r, complete)) + hop_s + phase_s
        if fault != MUTE:
            players[modality].die(at_s, fault_of(fault))
        watched: list[tuple[float, str | None]] = []
        pooled: list[tuple[float, str | None]] = []
        for reading in readings:
            if reading.time_s > at_s:
                live = [name for name in order if reading.states[name].state is State.LIVE]
                watched.append((reading.time_s, reading.subset))
                pooled.append((reading.time_s, "+".join(live) or None))
            elif fault == MUTE and at_s - reading.time_s < hop_s:
                clock.advance(phase_s)
                session.mute(modality)
            if reading.time_s > at_s + AFTER_S:
                break
    rest = "+".join(name for name in order if name != modality) or None
    limit = limit_s(fault, hop_s)
    own, late = (
        judge_drop(found, at_s=at_s, before=complete, after=rest, limit_s=limit)
        for found in (watched, pooled)
    )
    return own, late


def _is_complete(reading: Reading, complete: str) -> bool:
    if reading.time_s > LIVE_S:
        raise EdgeEmoError(f"after {reading.time_s:g} s not all are live: {dict(reading.states)}")
    return reading.subset == complete


def _real_drops(
    bundle: Bundle, scene: Scene, options: EngineOptions, *, rounds: int
) -> dict[str, list[Drop]]:
    """Lets sensors drop in a session in real time, each after all have come back from the drop before."""
    hop_s = bundle.manifest.hop_s
    rng = np.random.default_rng(0)
    found: dict[str, list[Drop]] = {}
    if not rounds:
        return found
    with Rehearsal(bundle, scene, options) as rehearsal:
        for _ in range(rounds):
            for modality, fault in _kinds():
                rehearsal.wait()
                time.sleep(float(rng.uniform(0, 0.9 * hop_s)))
                at_s, watched = rehearsal.drop(modality, fault)
                drop = judge_drop(
                    watched,
                    at_s=at_s,
                    before=rehearsal.complete,
                    after=rehearsal.rest(modality),
                    # The reading of a hop comes a little after it: what it takes itself is not staleness.
                    limit_s=limit_s(fault, hop_s) + 0.05,
                )
                found.setdefault(f"{modality}, {fault}", []).append(drop)
                rehearsal.bring_back(modality, fault)
    return found
