"""Log-mel frames of speech, level-normalised, causal and the same for every chunking."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.features.spec import FrontEndSpec

_ROWS = 8  # frames in one matrix product; see mel_power
_SLICE = 2048  # frames worked on at once, so that an hour of sound does not become gigabytes
_POWER_FLOOR = 1e-12  # -120 dBFS, below every level that the range can reach


@dataclass(frozen=True)
class LogMelSpec(FrontEndSpec):
    """Everything that the numbers of the audio front-end depend on.

    Attributes:
        sample_rate_hz: rate of the samples that are pushed.
        bands: mel bands in one frame.
        window: samples under the Hann window of a frame.
        hop: samples from one frame to the next.
        fft: points of the Fourier transform, at least ``window``.
        low_hz: lower edge of the first band.
        high_hz: upper edge of the last band.
        decay_db_per_s: how fast the reference level falls after a loud sound.
        floor_dbfs: the reference level never falls below this.
        range_db: bands more than this far under the reference level are clipped.
        mean: mean of every band in dB relative to the level; empty means 0 for all.
        std: standard deviation of every band in dB; empty means 1 for all.
    """

    KIND: ClassVar[str] = "log_mel"

    sample_rate_hz: int = 16000
    bands: int = 64
    window: int = 400
    hop: int = 200
    fft: int = 512
    low_hz: float = 60.0
    high_hz: float = 7600.0
    decay_db_per_s: float = 3.125
    floor_dbfs: float = -60.0
    range_db: float = 60.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.window <= self.fft:
            raise InputError(
                f"log_mel needs 0 < hop <= window <= fft, got {self.hop}, {self.window} and {self.fft}"
            )
        if self.bands < 1 or not 0 <= self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise InputError(
                f"log_mel needs at least one band and 0 <= low_hz < high_hz <= {self.sample_rate_hz / 2:g}, "
                f"got {self.bands} bands from {self.low_hz:g} to {self.high_hz:g} Hz"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values and (len(values) != self.bands or not all(map(math.isfinite, values))):
                raise InputError(f"log_mel needs {self.bands} finite numbers in {name}, got {len(values)}")
        if any(value <= 0 for value in self.std):
            raise InputError("log_mel needs positive numbers in std")
        if not (self.decay_db_per_s >= 0 and self.range_db > 0 and math.isfinite(self.floor_dbfs)):
            raise InputError("log_mel needs decay_db_per_s >= 0, range_db > 0 and a finite floor_dbfs")

    @property
    def frame_rate_hz(self) -> float:
        """Frames in a second."""
        return self.sample_rate_hz / self.hop


class LogMelStream:
    """Turns a stream of samples into log-mel frames, one for each hop.

    Frame k sees the ``window`` samples up to sample ``(k + 1) * hop``; before the first sample there
    is silence. Every number depends on the samples alone, never on how they were cut into chunks.

    The reference level follows the loudest recent frame, ``level[k] = max(energy[k], level[k-1] -
    decay)`` in dBFS, so the gain of a microphone does not show (after a peak-level meter; compare
    the per-channel energy normalisation of Wang et al., 2017, arXiv:1607.05666).
    """

    def __init__(self, spec: LogMelSpec) -> None:
        self.spec = spec
        self._window, self._filters, self._mean, self._std = _tables(spec)
        self._decay = spec.decay_db_per_s / spec.frame_rate_hz
        self.reset()

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"LogMelStream({spec.bands} bands, {spec.frame_rate_hz:g} frames/s, {self._frames} frames so far)"
        )

    def reset(self) -> None:
        """Forgets everything: the next sample is the first of a stream."""
        self._tail = np.zeros(self.spec.window - self.spec.hop, np.float32)
        self._frames = 0
        self._peak = -np.inf  # running maximum of energy + decay * frame index

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the frames that these samples complete.

        Args:
            samples: (N,) mono, in [-1, 1], at ``spec.sample_rate_hz``; N may be 0.

        Returns:
            (n, bands) in standard deviations from the mean of the band.

        Raises:
            InputError: samples of another type or shape, or not finite. The stream is as before.
        """
        check_samples(samples)
        spec = self.spec
        buffer = np.concatenate([self._tail, samples])
        count = max(0, (buffer.size - spec.window) // spec.hop + 1)
        self._tail = buffer[count * spec.hop :].copy()
        out = np.empty((count, spec.bands), np.float32)
        for start in range(0, count, _SLICE):
            stop = min(start + _SLICE, count)
            part = buffer[start * spec.hop : (stop - 1) * spec.hop + spec.window]
            out[start:stop] = self._frames_from_samples(part)
        return out

    def _frames_from_samples(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        spec = self.spec
        frames = sliding_window_view(samples, spec.window)[:: spec.hop] * self._window  # (n, window)
        spectrum = np.fft.rfft(frames, n=spec.fft)
        power = spectrum.real**2 + spectrum.imag**2  # (n, fft // 2 + 1)
        mel = mel_power(power, self._filters, first=self._frames)  # (n, bands)
        energy_db = 10.0 * np.log10(np.maximum(mel.sum(axis=1), _POWER_FLOOR))
        fall_db = self._decay * np.arange(self._frames, self._frames + len(mel))
        peaks = np.maximum(np.maximum.accumulate(energy_db + fall_db), self._peak)
        self._peak = peaks[-1]
        self._frames += len(mel)
        level_db = np.maximum(peaks - fall_db, spec.floor_dbfs)
        relative_db = 10.0 * np.log10(np.maximum(mel, _POWER_FLOOR)) - level_db[:, None]
        frames_db: NDArray[np.float64] = np.clip(relative_db, -spec.range_db, 0.0)
        return (frames_db - self._mean) / self._std


def log_mel(samples: NDArray[np.float32], spec: LogMelSpec) -> NDArray[np.float32]:
    """Returns the frames of a whole recording, the same numbers as `LogMelStream` gives.

    Args:
        samples: (N,) mono, in [-1, 1], at ``spec.sample_rate_hz``.
        spec: parameters of the front-end.

    Returns:
        (N // hop, bands).

    Raises:
        InputError: as `LogMelStream.push`.
    """
    return LogMelStream(spec).push(samples)


def check_samples(samples: NDArray[np.float32]) -> None:
    """Refuses what is no finite mono float32 sound.

    Raises:
        InputError: names what is wrong and the conversion that helps.
    """
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1:
        got = (
            f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        )
        raise InputError(
            f"audio must be a float32 array of shape (N,) in [-1, 1], got {got}; "
            "convert it with edgeemo.features.resample.to_mono_float32"
        )
    if not np.isfinite(samples).all():
        first = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise InputError(
            f"audio sample {first} of {samples.size} is {samples[first]}; drop or repair the chunk, "
            "nothing of it was taken"
        )


def mel_power(power: NDArray[np.float64], filters: NDArray[np.float64], *, first: int) -> NDArray[np.float64]:
    """Returns ``power @ filters`` with roundings that depend on the number of each frame alone.

    BLAS takes other paths, with other roundings, for other numbers of rows. Here frame k is always
    row ``k % 8`` of a product of eight rows.

    Args:
        power: (n, fft // 2 + 1) spectra of consecutive frames.
        filters: (fft // 2 + 1, bands).
        first: number of the first frame in its stream.
    """
    before = first % _ROWS
    groups = -(-(before + len(power)) // _ROWS)
    rows = np.zeros((groups * _ROWS, power.shape[1]))
    rows[before : before + len(power)] = power
    mel: NDArray[np.float64] = np.matmul(rows.reshape(groups, _ROWS, -1), filters)
    return mel.reshape(groups * _ROWS, -1)[before : before + len(power)]


def mel_filters(spec: LogMelSpec) -> NDArray[np.float64]:
    """Returns (fft // 2 + 1, bands) triangles that sum to one between the outer centres.

    The scale is linear to 1 kHz and logarithmic above (Slaney, Auditory Toolbox, 1998): with 512
    points at 16 kHz every triangle then holds at least two bins.
    """
    hz_per_mel, knee_hz, log_step = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0
    knee_mel = knee_hz / hz_per_mel

    def mel_from_hz(hz: float) -> float:
        return hz / hz_per_mel if hz < knee_hz else knee_mel + math.log(hz / knee_hz) / log_step

    mels = np.linspace(mel_from_hz(spec.low_hz), mel_from_hz(spec.high_hz), spec.bands + 2)
    above = knee_hz * np.exp(log_step * (mels - knee_mel))
    edges_hz = np.where(mels < knee_mel, mels * hz_per_mel, above)  # (bands + 2,)
    bins_hz = np.arange(spec.fft // 2 + 1)[:, None] * (spec.sample_rate_hz / spec.fft)
    rising = (bins_hz - edges_hz[:-2]) / np.diff(edges_hz)[:-1]
    falling = (edges_hz[2:] - bins_hz) / np.diff(edges_hz)[1:]
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return triangles


@lru_cache(maxsize=8)
def _tables(spec: LogMelSpec) -> tuple[NDArray[np.float64], ...]:
    """Returns window (window,), filters scaled so that their sum is the mean square, mean and std."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(spec.window) + 0.5) / spec.window)
    filters = mel_filters(spec) * (2.0 / (spec.fft * np.sum(window**2)))
    mean = np.asarray(spec.mean or (0.0,) * spec.bands)
    std = np.asarray(spec.std or (1.0,) * spec.bands)
    return window, filters, mean, std
