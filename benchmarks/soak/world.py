"""What the session senses for hours: the demo recording on end and, every minute, faults."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import lru_cache

import numpy as np

from benchmarks.faults.device import ScriptedSensor
from benchmarks.faults.recording import Recording, load_recording
from benchmarks.faults.scenario import MODALITIES, Fault, Kind
from edgeemo.clock import VirtualClock
from edgeemo.features.resample import Resampler

STRIDE_S = 0.05
FAULT_EVERY_S = 60.0
_RATE_HZ = 16000
_FAULT_AFTER_S = 20.0  # in each minute
_LASTS_S = (1.0, 20.0)
_KINDS = (
    Kind.COMES_BACK,
    Kind.HANGS,
    Kind.REPEATS,
    Kind.ZEROS,
    Kind.NOISE,
    Kind.WRONG_RATE,
    Kind.FLAPS,
    Kind.CLOCK_JUMP,
)


class StridingClock(VirtualClock):
    """A virtual clock that goes from one multiple of `STRIDE_S` to the next, so that hours pass sooner."""

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Moves the clock on to the next multiple, however short the wait, unless `stop` is set."""
        left_s = STRIDE_S - (self() + 1e-6) % STRIDE_S + 1e-6
        return super().wait(max(0.0, left_s), stop)


def soak_sensors(recording: Recording, *, seed: int) -> list[ScriptedSensor]:
    """Returns a microphone, a camera and a source of words; every minute some fail, the same in every run."""

    @lru_cache(maxsize=4)
    def faults_of(minute: int) -> dict[str, Fault]:
        random = np.random.default_rng([seed, minute])
        failing = random.permutation(MODALITIES)[: 1 + int(random.integers(len(MODALITIES)))]
        return {name: _draw_fault(random, str(name), minute) for name in failing}

    def sensor(modality: str) -> ScriptedSensor:
        def script(time_s: float) -> Fault | None:
            fault = faults_of(int(time_s / FAULT_EVERY_S)).get(modality)
            return fault if fault and fault.start_s <= time_s < fault.end_s else None

        return ScriptedSensor(modality, recording, script=script, note=lambda _: None, seed=seed)

    return [sensor(modality) for modality in MODALITIES]


def _draw_fault(random: np.random.Generator, modality: str, minute: int) -> Fault:
    kind = _KINDS[int(random.integers(len(_KINDS)))]
    start_s = minute * FAULT_EVERY_S + _FAULT_AFTER_S + float(random.uniform())
    return Fault(modality, kind, start_s, start_s + float(random.uniform(*_LASTS_S)))


def cheap_recording() -> Recording:
    """Returns the recording with sound at the rate that stems take, which spares resampling it for hours."""
    recording = load_recording()
    sound = Resampler(recording.rate_hz, _RATE_HZ).push(recording.sound)
    return replace(recording, sound=sound, rate_hz=_RATE_HZ)
