"""Inputs of PortAudio, through sounddevice. This is the only file that loads ``sounddevice``."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import MissingDependencyError, SensorError
from edgeemo.features.resample import to_mono_float32
from edgeemo.modality import AUDIO
from edgeemo.sensors.audio_blocks import SteadyTimes
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import Gone

INSTALL_MIC = "pip install 'edgeemo[mic]'"
INSTALL_PORTAUDIO = "sudo apt-get install libportaudio2" if sys.platform == "linux" else INSTALL_MIC
BLOCK_S = 0.05
_CHANNELS_AT_ONCE = 2  # PulseAudio promises 32 and makes the other 30 up


class InputStream:
    """A running input stream: its callback copies and enqueues, who reads does the rest.

    Args:
        sounddevice: the module.
        info: the device, as `input_devices` describes it.
        rate_hz: samples a second; None for the device's own.
        name: the microphone in words.
        clock: stamps what arrives.
        count_losses: takes ``drops`` and ``overflows``.

    Attributes:
        rate_hz: samples a second of what it reads.
        about: the ``name`` of the device.

    Raises:
        SensorError: the device cannot be opened.
    """

    def __init__(
        self,
        sounddevice: ModuleType,
        info: dict[str, Any],
        rate_hz: int | None,
        *,
        name: str,
        clock: Clock,
        count_losses: Callable[..., None],
    ) -> None:
        self._name, self._clock, self._count_losses = name, clock, count_losses
        self.about = {"name": info["name"]}
        self._blocks: queue.Queue[tuple[float, bool, NDArray[np.float32]]] = queue.Queue(maxsize=40)
        self._lost = 0  # blocks that found the queue full
        self._counted = 0
        self.rate_hz = round(rate_hz or info["default_samplerate"])
        self._times = SteadyTimes(self.rate_hz)
        most = int(info["max_input_channels"])
        failures: list[Exception] = []
        for channels in dict.fromkeys((min(_CHANNELS_AT_ONCE, most), 1, most)):
            try:
                self._stream = sounddevice.InputStream(
                    device=info["index"],
                    channels=channels,
                    samplerate=self.rate_hz,
                    dtype="float32",
                    blocksize=round(BLOCK_S * self.rate_hz),
                    callback=self._take,
                )
                break
            except sounddevice.PortAudioError as error:
                failures.append(error)
        else:
            raise SensorError(
                f"microphone {info['name']!r} cannot be opened at {self.rate_hz} Hz: it may be in use by "
                f"another program, or its sound server is away ({failures[0]})"
            )
        self._stream.start()

    def _take(self, samples: NDArray[np.float32], frames: int, times: Any, flags: Any) -> None:
        age_s = float(times.currentTime - times.inputBufferAdcTime)
        if not 0.0 < age_s < 1.0:  # not every driver knows when the first sample was captured
            age_s = frames / self.rate_hz
        try:
            self._blocks.put_nowait((self._clock() - age_s, bool(flags.input_overflow), samples.copy()))
        except queue.Full:
            self._lost += 1

    @property
    def declared_rate(self) -> float:
        """Samples a second that the device was opened for."""
        return float(self.rate_hz)

    def read(self) -> Chunk | Gone | None:
        """Waits up to 0.1 s for the next block."""
        try:
            measured_s, overflow, samples = self._blocks.get(timeout=0.1)
        except queue.Empty:
            return None if self._stream.active else Gone("lost", f"{self._name}: the driver stopped it")
        lost, self._counted = self._lost - self._counted, self._lost
        if lost or overflow:
            self._count_losses(drops=lost, overflows=int(overflow))
        mono = to_mono_float32(samples)
        time_s = self._times.stamp(measured_s, len(mono), lost=overflow or lost > 0)
        return Chunk(AUDIO, time_s, mono, self.rate_hz)

    def close(self) -> None:
        """Stops listening."""
        self._stream.abort(ignore_errors=True)
        self._stream.close(ignore_errors=True)


def load_sounddevice() -> ModuleType:
    """Returns the sounddevice module.

    Raises:
        MissingDependencyError: it, or the PortAudio library under it, is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise MissingDependencyError("the microphone", "sounddevice", INSTALL_MIC) from None
    except OSError:
        raise MissingDependencyError("the microphone", "the PortAudio library", INSTALL_PORTAUDIO) from None
    module: ModuleType = sounddevice
    return module


def input_devices(sounddevice: ModuleType) -> list[dict[str, Any]]:
    """Returns the devices with inputs that PortAudio saw when it started, the default one marked.

    Each has ``index``, ``name``, ``api``, ``max_input_channels``, ``default_samplerate`` and ``default``.
    """
    try:
        devices, apis = sounddevice.query_devices(), sounddevice.query_hostapis()
    except sounddevice.PortAudioError as error:
        raise SensorError(f"PortAudio cannot list the microphones: {error}") from None
    default = sounddevice.default.device[0]
    return [
        {
            "index": int(device["index"]),
            "name": str(device["name"]),
            "api": str(apis[device["hostapi"]]["name"]),
            "max_input_channels": int(device["max_input_channels"]),
            "default_samplerate": float(device["default_samplerate"]),
            "default": device["index"] == default,
        }
        for device in devices
        if device["max_input_channels"] > 0
    ]
