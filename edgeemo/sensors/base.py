"""The contract of every sensor: plain chunks with capture times out, a status that says how it is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.modality import AUDIO, TEXT, VIDEO

if TYPE_CHECKING:
    from typing_extensions import Self

Clock = Callable[[], float]
"""Seconds on the session's clock; never goes back. Live sessions use a monotonic clock."""

SensorState = Literal["absent", "lost", "running"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """A piece of one stream, exactly as the device or file gave it.

    Attributes:
        modality: ``audio``, ``video``, ``text`` or a modality that a third party adds.
        time_s: when its first sample, its frame or its words were captured, on the session's clock.
        data: audio float32 (N,) mono in [-1, 1]; video uint8 (H, W, 3) BGR; text a str; of a modality of
            one's own numbers (N, C) or (N,), see `edgeemo.features.series`.
        rate_hz: samples a second of audio, as captured (nobody has resampled it), or of a piece of such
            numbers; None elsewhere.

    Raises:
        InputError: the data is not of the form that its modality promises, or the time is not finite.
    """

    modality: str
    time_s: float
    data: NDArray[Any] | str
    rate_hz: int | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.time_s):
            raise InputError(f"a chunk of {self.modality} needs a finite time in seconds, got {self.time_s}")
        problem = _problem_of(self)
        if problem:
            raise InputError(f"a chunk of {self.modality} {problem}")

    @property
    def duration_s(self) -> float:
        """Length of an audio chunk; 0 for frames and words, which have a time and no length."""
        return len(self.data) / self.rate_hz if self.rate_hz else 0.0

    @property
    def array(self) -> NDArray[Any]:
        """The samples (N,) or the frame (H, W, 3).

        Raises:
            InputError: the chunk holds text.
        """
        if isinstance(self.data, str):
            raise InputError(f"a chunk of {self.modality} holds text, not an array")
        return self.data

    @property
    def text(self) -> str:
        """The words.

        Raises:
            InputError: the chunk holds an array.
        """
        if not isinstance(self.data, str):
            raise InputError(f"a chunk of {self.modality} holds an array, not text")
        return self.data


def _problem_of(chunk: Chunk) -> str:
    data = chunk.data
    if chunk.modality == TEXT:
        return "" if isinstance(data, str) else f"must be a str, got {type(data).__name__}"
    if chunk.modality == AUDIO:
        if not isinstance(data, np.ndarray) or data.dtype != np.float32 or data.ndim != 1:
            return f"must be float32 of shape (N,), got {_kind(data)}"
        if not chunk.rate_hz or chunk.rate_hz <= 0:
            return f"needs a rate in Hz above 0, got {chunk.rate_hz}"
    if chunk.modality == VIDEO and (
        not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 3 or data.shape[2] != 3
    ):
        return f"must be uint8 of shape (H, W, 3), got {_kind(data)}"
    return ""


def _kind(data: object) -> str:
    if isinstance(data, np.ndarray):
        return f"{data.dtype} of shape {data.shape}"
    return type(data).__name__


@dataclass(frozen=True)
class SensorStatus:
    """How a sensor is at one moment.

    Attributes:
        state: ``absent`` (no such device, its library is missing, or it is not started or closed),
            ``lost`` (no data by the deadline, an error, or the source has ended) or ``running``.
        why: one sentence for a person; for what is missing it ends with the command that installs it.
        chunks: chunks received so far.
        drops: chunks that were lost because nobody took them in time, or that were damaged.
        overflows: times that the driver reported samples of its own lost.
        reconnects: times that the device was opened again and gave data again.
        last_data_s: capture time of the newest data, None before the first.
        rate: samples (audio), frames or texts a second over the last two seconds; None until it is known.
        declared_rate: what the device promises, None where it promises nothing.
        queued: chunks that wait for the next poll.
        trouble_s: the newest time at which it was started and not running, on the session's clock; a device
            that came and went between two looks is seen by it. None if there was none.
    """

    state: SensorState
    why: str
    chunks: int = 0
    drops: int = 0
    overflows: int = 0
    reconnects: int = 0
    last_data_s: float | None = None
    rate: float | None = None
    declared_rate: float | None = None
    queued: int = 0
    trouble_s: float | None = None


class Sensor(ABC):
    """A live source of chunks of one modality, read by polling; nothing here blocks past its timeout.

    Attributes:
        modality: what its chunks are of.
        name: the device in words, for statuses and logs.
    """

    modality: str
    name: str

    @abstractmethod
    def start(self, clock: Clock) -> None:
        """Begins to read; returns before the first data.

        Raises:
            SensorError: a device asked for by name does not exist; the message lists what exists.
        """

    @abstractmethod
    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Returns what has arrived, oldest first; waits at most ``timeout_s`` for the first chunk."""

    @abstractmethod
    def close(self) -> None:
        """Releases the device. May be called any number of times, from any thread."""

    def reopen(self) -> None:  # noqa: B027 - most sensors have nothing to open again
        """Closes the device and opens it again, where its data cannot be trusted; returns at once.

        Does nothing for sensors without a device.
        """

    @property
    @abstractmethod
    def status(self) -> SensorStatus:
        """How the sensor is now, by the clock it was started with."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        status = self.status
        return f"<{type(self).__name__} {self.name!r}: {status.state}, {status.why}>"
