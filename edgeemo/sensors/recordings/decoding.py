"""Files as PyAV decodes them. This is the only file that loads ``av``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError

INSTALL_MEDIA = "pip install 'edgeemo[media]'"


def load_av() -> ModuleType:
    """Returns the av module.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    try:
        import av
        import av.error
    except (ImportError, OSError):
        raise MissingDependencyError("reading media files", "PyAV", INSTALL_MEDIA) from None
    module: ModuleType = av
    return module


def is_moving(stream: Any) -> bool:
    """False for the cover picture of a music file."""
    attached = 0x400  # AV_DISPOSITION_ATTACHED_PIC
    return not int(getattr(stream, "disposition", 0)) & attached


def declared_end_s(stream: Any, start_s: float) -> float | None:
    """When the stream ends, in seconds of the recording; None where the file does not say."""
    if stream.duration is None or stream.time_base is None:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - start_s


def samples_of(frame: Any) -> NDArray[np.generic]:
    """The frame's samples as (N, channels)."""
    array: NDArray[np.generic] = frame.to_ndarray()
    channels = len(frame.layout.channels)
    return array.T if frame.format.is_planar else array.reshape(-1, channels)


def bgr_of(frame: Any) -> NDArray[np.uint8]:
    """The picture (H, W, 3), turned as the recording says it is to be shown."""
    picture: NDArray[np.uint8] = frame.to_ndarray(format="bgr24")
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture


def open_container(path: Path) -> Any:
    """Returns the file, open; whoever asks for it closes it.

    Raises:
        InputError: there is no such file, or FFmpeg cannot read it.
        MissingDependencyError: PyAV is not installed.
    """
    av = load_av()
    try:
        return av.open(str(path))
    except av.error.FFmpegError as error:
        if not path.exists():
            raise InputError(f"no such media file: {path}") from None
        hint = (
            "; an mp4 file that was cut off before its index was written looks like this"
            if isinstance(error, av.error.InvalidDataError)
            else ""
        )
        raise InputError(f"{path} cannot be read as a recording: {error.strerror or error}{hint}") from None
