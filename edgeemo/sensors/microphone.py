"""The microphone, through sounddevice and PortAudio. This is the only file that loads ``sounddevice``."""

from __future__ import annotations

import queue
import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import MissingDependencyError, SensorError
from edgeemo.features.resample import to_mono_float32
from edgeemo.modality import AUDIO
from edgeemo.sensors.audio_blocks import SteadyTimes
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import Device, Gone
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.supervision import Patience

INSTALL_MIC = "pip install 'edgeemo[mic]'"
INSTALL_PORTAUDIO = "sudo apt-get install libportaudio2" if sys.platform == "linux" else INSTALL_MIC
_BLOCK_S = 0.05
_CHANNELS_AT_ONCE = 2  # PulseAudio promises 32 and makes the other 30 up


class Microphone(LiveSensor):
    """Sound from a microphone, as float32 mono chunks of about 50 ms at the rate of the device.

    Args:
        device: number or part of the name, as `edgeemo devices` lists them; None for the default one.
        rate_hz: samples a second asked of the device; None for its own.
        buffer_s: sound kept while nobody polls; older sound is dropped and counted.
        patience: deadlines and back-off.
    """

    def __init__(
        self,
        device: int | str | None = None,
        *,
        rate_hz: int | None = None,
        buffer_s: float = 5.0,
        patience: Patience | None = None,
    ) -> None:
        name = "default microphone" if device is None else f"microphone {device}"
        super().__init__(
            AUDIO,
            name,
            capacity=max(1, round(buffer_s / _BLOCK_S)),
            policy="drop-oldest",
            patience=patience or Patience(),
        )
        self._device = device
        self._rate_hz = rate_hz

    def check_name(self) -> None:
        """Raises for a microphone asked for by name that does not exist, or whose library is missing."""
        if self._device is None:
            return
        found = input_devices(load_sounddevice())
        if _match(found, self._device) is None:
            raise SensorError(f"there is no {self.name}; {_listed(found)}")

    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens an input stream on the microphone."""
        sounddevice = load_sounddevice()
        found = input_devices(sounddevice)
        info = _match(found, self._device)
        if info is None:
            return Gone("absent", f"there is no {self.name}; {_listed(found)}")
        return _Stream(sounddevice, info, self._rate_hz, self, clock)


class _Stream:
    """A running input stream: its callback copies and enqueues, the reader's thread does the rest."""

    def __init__(
        self,
        sounddevice: ModuleType,
        info: dict[str, Any],
        rate_hz: int | None,
        mic: Microphone,
        clock: Clock,
    ) -> None:
        self._mic, self._clock = mic, clock
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
                    blocksize=round(_BLOCK_S * self.rate_hz),
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

    def read(self) -> Chunk | Gone | None:
        try:
            measured_s, overflow, samples = self._blocks.get(timeout=0.1)
        except queue.Empty:
            return None if self._stream.active else Gone("lost", f"{self._mic.name}: the driver stopped it")
        lost, self._counted = self._lost - self._counted, self._lost
        if lost or overflow:
            self._mic.count_losses(drops=lost, overflows=int(overflow))
        mono = to_mono_float32(samples)
        time_s = self._times.stamp(measured_s, len(mono), lost=overflow or lost > 0)
        return Chunk(AUDIO, time_s, mono, self.rate_hz)

    def close(self) -> None:
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
        raise MissingDependencyError("The microphone", "sounddevice", INSTALL_MIC) from None
    except OSError:
        raise MissingDependencyError("The microphone", "the PortAudio library", INSTALL_PORTAUDIO) from None
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


def _match(found: list[dict[str, Any]], wanted: int | str | None) -> dict[str, Any] | None:
    """The device meant: by number, by whole name, or the first by part of its name."""
    if wanted is None:
        return next((device for device in found if device["default"]), None)
    if isinstance(wanted, int):
        return next((device for device in found if device["index"] == wanted), None)
    word = wanted.casefold()
    exact = [device for device in found if device["name"].casefold() == word]
    partial = [device for device in found if word in f"{device['name']}, {device['api']}".casefold()]
    return next(iter(exact + partial), None)


def _listed(found: list[dict[str, Any]]) -> str:
    if not found:
        return "PortAudio sees no input at all"
    return "there are: " + ", ".join(f"{device['index']} ({device['name']})" for device in found)
