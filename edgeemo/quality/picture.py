"""How usable a camera's picture is as a whole: its light, its contrast, whether it ever changes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_GRID = 8  # measures take every 8th pixel of every 8th row


@dataclass(frozen=True)
class PictureQuality:
    """What was measured on one frame.

    Attributes:
        brightness: mean level, 0 to 255.
        contrast: standard deviation of the levels.
        unchanged_s: for how long exactly this picture has come, seconds.
    """

    brightness: float
    contrast: float
    unchanged_s: float


class PictureMeter:
    """Measures the frames of one stream; it remembers a checksum, no picture."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Starts again: no frame has come before the next one."""
        self._signature: int | None = None
        self._changed_s = 0.0

    def measure(self, frame: NDArray[np.uint8], time_s: float) -> PictureQuality:
        """Returns the measures of a frame.

        A working camera never gives the same picture twice, for its sensor is noisy; a driver that hangs
        gives it for ever.

        Args:
            frame: (H, W), (H, W, 3) or (H, W, 4) uint8.
            time_s: capture time, not before that of the frame before.
        """
        sample = np.ascontiguousarray(frame[::_GRID, ::_GRID])
        signature = zlib.crc32(sample.tobytes())
        if signature != self._signature:
            self._signature, self._changed_s = signature, time_s
        if sample.ndim == 3:
            sample = sample[..., :3]  # an alpha channel is no light
        return PictureQuality(float(sample.mean()), float(sample.std()), time_s - self._changed_s)
