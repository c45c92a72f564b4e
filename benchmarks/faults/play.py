"""A scenario played through a real session: every reading, and what had been delivered by then."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.faults.device import Delivery, ScriptedSensor
from benchmarks.faults.recording import Recording
from benchmarks.faults.scenario import MODALITIES, STALL_S, Kind, Scenario
from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.session import EngineOptions, Reading, Session, SessionStats, Settings
from edgeemo.session.settings import settings_from_thresholds

ENGINES = EngineOptions(variant="int8", backend="cpu")


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


def settings_of(bundle: Bundle) -> Settings:
    """Returns what ships, but for times that would make runs long: of words and of suspicion."""
    shipped = settings_from_thresholds(bundle.manifest.thresholds)
    return replace(shipped, text_ttl_s=3.0, suspect_s=2.5)


def play(scenario: Scenario, recording: Recording, bundle: Bundle) -> Play:
    """Plays a scenario on a virtual clock, through sensors that are supervised like any others.

    Args:
        scenario: what fails when.
        recording: what is to be heard, seen and read.
        bundle: has an engine for every subset.
    """
    clock = VirtualClock()
    log: list[Delivery] = []
    settings = settings_of(bundle)
    sensors = [_sensor(modality, scenario, recording, log) for modality in MODALITIES]
    readings: list[Reading] = []
    seen: list[int] = []
    stall = scenario.stall
    with Session(bundle, sensors=sensors, engines=ENGINES, settings=settings, clock=clock) as session:
        for reading in session:
            readings.append(reading)
            seen.append(len(log))
            if reading.time_s >= scenario.end_s:
                break
            if stall and stall.start_s <= clock() < stall.end_s:
                clock.advance(STALL_S)
        stats = session.stats()
        hop_s = session.manifest.hop_s
    return Play(scenario, settings, hop_s, tuple(readings), tuple(log), tuple(seen), stats)


def _sensor(modality: str, scenario: Scenario, recording: Recording, log: list[Delivery]) -> ScriptedSensor:
    fault = scenario.of(modality)
    return ScriptedSensor(
        modality,
        recording,
        script=lambda time_s: fault if fault and fault.start_s <= time_s < fault.end_s else None,
        note=log.append,
        seed=scenario.seed,
        has_little_room=fault is not None and fault.kind is Kind.SLOW_CONSUMER,
        elsewhere_until_s=scenario.elsewhere_until_s if fault else 0.0,
    )
