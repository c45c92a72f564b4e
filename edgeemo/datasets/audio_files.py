"""Whole recordings decoded to mono samples, from memory or from a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import DatasetError, MissingDependencyError


def decode_audio(data: bytes | Path, rate: int) -> NDArray[np.float32]:
    """Returns the first sound track of a recording, whatever its codec, rate and channels.

    Args:
        data: the bytes of a file (FLAC, Ogg Opus, WAV, MP4, ...) or the path of one.
        rate: samples per second wanted; PyAV's resampler converts.

    Returns:
        (N,) mono float32 in [-1, 1].

    Raises:
        MissingDependencyError: PyAV is not installed.
        DatasetError: the recording has no sound, or cannot be decoded at all.
    """
    av = _load_av()
    name = str(data) if isinstance(data, Path) else f"a recording of {len(data)} bytes"
    try:
        with av.open(str(data) if isinstance(data, Path) else io.BytesIO(data)) as container:
            if not container.streams.audio:
                raise DatasetError(f"{name} has no sound track")
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
            parts = [
                resampled.to_ndarray()[0]
                for frame in container.decode(audio=0)
                for resampled in resampler.resample(frame)
            ]
            parts += [resampled.to_ndarray()[0] for resampled in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        raise DatasetError(f"{name} cannot be decoded as sound: {error}") from error
    if not parts:
        raise DatasetError(f"{name} has a sound track without samples")
    return np.concatenate(parts).astype(np.float32, copy=False)


def _load_av() -> Any:
    try:
        import av
    except (ImportError, OSError):
        raise MissingDependencyError("decoding recordings", "PyAV", "pip install 'edgeemo[media]'") from None
    return av
