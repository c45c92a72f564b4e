"""A scenario played through a real session: every reading, and what had been delivered by then."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.faults.device import Delivery, ScriptedSensor
from benchmarks.faults.recording import Recording
from benchmarks.faults.scenario import MODALITIES, STALL_S, Scenario
from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.session import EngineOptions, Reading, Session, SessionStats, Settings

ENGINES = EngineOptions(variant="int8", backend="cpu")
SETTINGS = Settings(text_ttl_s=3.0)
"""Words live shorter than by default, so that runs are short; everything else is what ships."""


@dataclass(frozen=True)
class Play:
    """What one run gave.

    Attributes:
        scenario: what was played.
        settings: of the session.
        hop_s: seconds between readings.
        readings: all of them, in the order in which they came.
        delivered: what the devices handed over, in order.
        seen: for each reading, how many of these had been handed over when it was made.
        stats: of the session, at the end.
    """

    scenario: Scenario
    settings: Settings
    hop_s: float
    readings: tuple[Reading, ...]
    delivered: tuple[Delivery, ...]
    seen: tuple[int, ...]
    stats: SessionStats


def play(scenario: Scenario, recording: Recording, bundle: Bundle) -> Play:
    """Plays a scenario on a virtual clock, through sensors that are supervised like any others.

    Args:
        scenario: what fails when.
        recording: what is to be heard, seen and read.
        bundle: has an engine for every subset.
    """
    clock = VirtualClock()
    log: list[Delivery] = []
    sensors = [
        ScriptedSensor(modality, recording, fault=scenario.of(modality), log=log, seed=scenario.seed)
        for modality in MODALITIES
    ]
    readings: list[Reading] = []
    seen: list[int] = []
    stall = scenario.stall
    with Session(bundle, sensors=sensors, engines=ENGINES, settings=SETTINGS, clock=clock) as session:
        for reading in session:
            readings.append(reading)
            seen.append(len(log))
            if reading.time_s >= scenario.end_s:
                break
            if stall and stall.start_s <= clock() < stall.end_s:
                clock.advance(STALL_S)
        stats = session.stats()
        hop_s = session.manifest.hop_s
    return Play(scenario, SETTINGS, hop_s, tuple(readings), tuple(log), tuple(seen), stats)
