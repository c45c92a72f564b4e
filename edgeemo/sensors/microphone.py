"""The microphone: any input that PortAudio sees, at any rate and with any number of channels."""

from __future__ import annotations

import importlib.util
from typing import Any

from edgeemo.errors import MissingDependencyError
from edgeemo.modality import AUDIO
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections import Device, Gone, Recipe, can_isolate
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.portaudio import BLOCK_S, INSTALL_MIC, InputStream, input_devices, load_sounddevice
from edgeemo.sensors.queue import Policy
from edgeemo.sensors.supervision import Patience


class Microphone(LiveSensor):
    """Sound from a microphone, as float32 mono chunks of about 50 ms at the rate of the device.

    PortAudio lists devices once, when it starts, so each attempt to open one is made in a fresh child
    process: what was plugged in meanwhile is found. A driver that hangs or crashes takes the child with it
    and nothing else.

    Args:
        device: number or part of the name, as `edgeemo devices` lists them; None for the default one. Numbers
            change when devices come and go: a device opened by number is found again by its name.
        rate_hz: samples a second asked of the device; None for its own.
        buffer_s: sound kept while nobody polls.
        policy: what becomes of sound beyond that: ``drop-oldest`` (counted), ``latest`` or ``block``.
        patience: deadlines and back-off.
        isolate: True reads it in a child process, False in a thread; None in a child where this Python can
            start one.
        required: whether `start` refuses a microphone asked for by name that does not exist; False waits
            for it to be plugged in.
    """

    def __init__(
        self,
        device: int | str | None = None,
        *,
        rate_hz: int | None = None,
        buffer_s: float = 5.0,
        policy: Policy = "drop-oldest",
        patience: Patience | None = None,
        isolate: bool | None = None,
        required: bool = True,
    ) -> None:
        super().__init__(
            AUDIO,
            "default microphone" if device is None else f"microphone {device}",
            capacity=max(1, round(buffer_s / BLOCK_S)),
            policy=policy,
            patience=patience or Patience(),
            connection="process" if (can_isolate() if isolate is None else isolate) else "thread",
        )
        self._device = device
        self._rate_hz = rate_hz
        self._required = required
        self._known_as: str | None = None

    @property
    def by_name(self) -> bool:
        """Whether a particular microphone was asked for and has to be there at the start."""
        return self._device is not None and self._required

    def check_name(self) -> None:
        """Raises for a microphone asked for by name whose library is missing."""
        if self.by_name and importlib.util.find_spec("sounddevice") is None:
            raise MissingDependencyError("the microphone", "sounddevice", INSTALL_MIC)

    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens an input stream on the microphone."""
        sounddevice = load_sounddevice()
        found = input_devices(sounddevice)
        info = _match(found, self._device, self._known_as)
        if info is None:
            return Gone("absent", f"there is no {self.name}; {_listed(found)}")
        return InputStream(
            sounddevice, info, self._rate_hz, name=self.name, clock=clock, count_losses=self.count_losses
        )

    def recipe(self) -> Recipe:
        """How a child process makes it; it knows the device by name once it was opened."""
        options = {"device": self._device, "rate_hz": self._rate_hz, "known_as": self._known_as}
        return Recipe("edgeemo.sensors.microphone:microphone_from_options", options)

    def note(self, about: dict[str, Any]) -> None:
        """Remembers which device a number meant."""
        if isinstance(self._device, int) and "name" in about:
            self._known_as = str(about["name"])


def microphone_from_options(
    device: int | str | None, *, rate_hz: int | None, known_as: str | None
) -> Microphone:
    """Returns the microphone that a recipe describes, in the child process that opens it."""
    microphone = Microphone(device, rate_hz=rate_hz, isolate=False)
    microphone._known_as = known_as
    return microphone


def _match(
    found: list[dict[str, Any]], wanted: int | str | None, known_as: str | None = None
) -> dict[str, Any] | None:
    """The device meant: by number, by whole name, or the first by part of its name.

    ``known_as`` is the name that a number had: it counts where the number now has another.
    """
    if wanted is None:
        return next((device for device in found if device["default"]), None)
    if isinstance(wanted, int):
        at = next((device for device in found if device["index"] == wanted), None)
        if known_as is None or (at is not None and at["name"] == known_as):
            return at
        return next((device for device in found if device["name"] == known_as), None)
    word = wanted.casefold()
    exact = [device for device in found if device["name"].casefold() == word]
    partial = [device for device in found if word in f"{device['name']}, {device['api']}".casefold()]
    return next(iter(exact + partial), None)


def _listed(found: list[dict[str, Any]]) -> str:
    if not found:
        return "PortAudio sees no input at all"
    return "there are: " + ", ".join(f"{device['index']} ({device['name']})" for device in found)
