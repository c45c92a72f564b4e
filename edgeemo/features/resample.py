"""Sound of any sample type, channel count and rate to what the audio front-end takes."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.features.audio import check_samples

_ZERO_CROSSINGS = 32  # of the sinc on each side, in periods of the lower rate: 2 ms at 16 kHz
_CUTOFF = 0.96  # of the lower Nyquist frequency; the transition reaches from 0.88 to 1.04 of it
_KAISER_BETA = 7.0  # side lobes about 70 dB down
_SLICE = 4096  # output samples worked on at once
_RATES_HZ = (4000, 384000)
_MAX_CHANNELS = 64
_PEAK = 10.0  # float sound beyond this is not in [-1, 1] with a little overshoot, it is scaled otherwise


class Resampler:
    """Converts a stream of samples from one integer rate to another, without drift.

    Polyphase windowed-sinc filtering (Smith, "Digital Audio Resampling"): output n lies exactly at
    input time ``n * from_hz / to_hz``. The numbers do not depend on how the stream was cut into chunks.
    The filter looks 2 ms ahead, so the newest 2 ms come out with the next push or with `flush`.
    """

    def __init__(self, from_hz: int, to_hz: int = 16000) -> None:
        for name, rate in (("from_hz", from_hz), ("to_hz", to_hz)):
            if isinstance(rate, bool) or not isinstance(rate, int | np.integer):
                raise InputError(f"{name} must be a whole number of samples per second, got {rate!r}")
            if not _RATES_HZ[0] <= rate <= _RATES_HZ[1]:
                raise InputError(f"{name} must be from {_RATES_HZ[0]} to {_RATES_HZ[1]} Hz, got {rate}")
        self.from_hz, self.to_hz = int(from_hz), int(to_hz)
        common = math.gcd(self.from_hz, self.to_hz)
        self._up, self._down = self.to_hz // common, self.from_hz // common
        self._filters = None if self.from_hz == self.to_hz else _filters(self._up, self._down)
        self.reset()

    def __repr__(self) -> str:
        return f"Resampler({self.from_hz} Hz -> {self.to_hz} Hz)"

    def reset(self) -> None:
        """Forgets everything: the next sample is the first of a stream."""
        taps = 0 if self._filters is None else self._filters.shape[1]
        self._tail = np.zeros(max(0, taps // 2 - 1), np.float32)
        self._output = 0  # index of the next output sample
        self._start = 0  # input index where the window of the next output begins, from the tail's start

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the output samples that these samples complete.

        Args:
            samples: (N,) mono float32 in [-1, 1] at ``from_hz``; N may be 0.

        Returns:
            (M,) float32 at ``to_hz``.

        Raises:
            InputError: samples of another type or shape, or not finite. The stream is as before.
        """
        check_samples(samples)
        if self._filters is None:
            return samples.copy()
        taps = self._filters.shape[1]
        buffer = np.concatenate([self._tail, samples])
        phase = self._output * self._down % self._up
        # Output number m from here starts at input _start + (phase + m * down) // up.
        room = buffer.size - taps - self._start
        count = 0 if room < 0 else (room * self._up + self._up - 1 - phase) // self._down + 1
        out = np.empty(count, np.float32)
        for at in range(0, count, _SLICE):
            steps = phase + np.arange(at, min(at + _SLICE, count)) * self._down
            starts, phases = self._start + steps // self._up, steps % self._up
            out[at : at + _SLICE] = _filtered(buffer, self._filters, starts, phases)
        self._start += (phase + count * self._down) // self._up
        self._output = (self._output + count) % self._up  # the phase alone matters: no index grows for ever
        kept = min(self._start, buffer.size)
        self._tail = buffer[kept:].copy()
        self._start -= kept
        return out

    def flush(self) -> NDArray[np.float32]:
        """Returns what is left at the end of a recording, as if silence followed, and resets.

        Over a stream of N samples, `push` and `flush` give ``ceil(N * to_hz / from_hz)`` together.
        """
        taps = 0 if self._filters is None else self._filters.shape[1]
        rest = self.push(np.zeros(taps // 2, np.float32))
        self.reset()
        return rest


def to_mono_float32(samples: NDArray[np.generic]) -> NDArray[np.float32]:
    """Returns sound as the front-end takes it: mono float32 in [-1, 1].

    Args:
        samples: (N,) or (N, channels); int16, int32 or uint8 at full scale, or float in [-1, 1].
            Channels are averaged.

    Returns:
        (N,) float32, always a new array.

    Raises:
        InputError: another type or shape, NaN or infinite samples, or floats of another scale.
    """
    if not isinstance(samples, np.ndarray) or samples.ndim not in (1, 2):
        shape = getattr(samples, "shape", type(samples).__name__)
        raise InputError(f"audio must be an array of shape (N,) or (N, channels), got {shape}")
    if samples.ndim == 2 and not 1 <= samples.shape[1] <= _MAX_CHANNELS:
        raise InputError(
            f"audio of shape {samples.shape} has {samples.shape[1]} channels; (channels, N) needs .T first"
        )
    scaled = _scaled(samples)
    mono = scaled.copy() if scaled.ndim == 1 else scaled.mean(axis=1)
    mono = mono.astype(np.float32, copy=False)
    check_samples(mono)
    peak = float(np.abs(mono).max(initial=0.0))
    if peak > _PEAK:
        raise InputError(
            f"audio reaches {peak:g} where [-1, 1] is full scale; "
            "divide 16-bit values by 32768, or pass them as int16"
        )
    return mono


def _filtered(
    buffer: NDArray[np.float32],
    filters: NDArray[np.float32],
    starts: NDArray[np.int64],
    phases: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Returns (M,) samples: window ``starts[m]`` of the buffer under filter ``phases[m]``."""
    windows = sliding_window_view(buffer, filters.shape[1])
    if len(filters) == 1:
        steps = starts[1] - starts[0] if len(starts) > 1 else 1
        rows = windows[starts[0] : starts[-1] + 1 : steps] * filters[0]  # (M, taps), no copy of the windows
    else:
        rows = windows[starts] * filters[phases]
    # A sum along contiguous rows is pairwise in the row alone; a BLAS product would depend on M.
    total: NDArray[np.float32] = rows.sum(axis=1)
    return total


def _scaled(samples: NDArray[np.generic]) -> NDArray[np.floating]:
    kind = samples.dtype
    if kind == np.uint8:
        return (samples.astype(np.float32) - 128.0) / np.float32(128.0)
    if kind == np.int16:
        return samples.astype(np.float32) / np.float32(32768.0)
    if kind == np.int32:
        return samples.astype(np.float64) / 2147483648.0
    if kind in (np.float16, np.float32, np.float64):
        return samples.astype(np.promote_types(kind, np.float32))
    raise InputError(f"audio of type {kind} is unknown; use int16, int32, uint8 or float in [-1, 1]")


@lru_cache(maxsize=8)
def _filters(up: int, down: int) -> NDArray[np.float32]:
    """Returns (up, taps): the filter of every phase, each passing a constant unchanged.

    Output at fraction ``phase / up`` between input samples i and i + 1 weighs the inputs from
    ``i - taps / 2 + 1`` on.
    """
    scale = min(1.0, up / down)  # lower rate over input rate
    half = math.ceil(_ZERO_CROSSINGS / scale)
    offsets = np.arange(-half + 1, half + 1) - np.arange(up)[:, None] / up  # (up, taps), input samples
    inside = np.clip(1.0 - (offsets / half) ** 2, 0.0, None)
    taps = np.sinc(_CUTOFF * scale * offsets) * np.i0(_KAISER_BETA * np.sqrt(inside))
    filters: NDArray[np.float32] = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    return filters
