"""One recording of an archive: where it lies and which state of it was found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_SOUND = ".aac .aif .aiff .amr .flac .m4a .mka .mp3 .oga .ogg .opus .wav .wma"
_VIDEO = ".3gp .asf .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogv .ts .vob .webm .wmv"
SUFFIXES = tuple(f"{_SOUND} {_VIDEO}".split())
"""What is taken for a recording in a folder that is searched without a pattern; FFmpeg reads far more."""


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        path: what it is called in the table: an absolute path, or a bucket's address without its options.
        place: what it is opened by: a path, or an address with its options.
        version: which state of it was found: bytes and time of change, also of the captions beside it; None
            where that could not be told, so that it is tried again by the next run.
        size_bytes: how long the file is.
        captions: whether an address has captions beside it; beside a path they are found anyway.
        fault: why it cannot be scored, known before it was opened; empty where nothing is.
    """

    path: str
    place: str
    version: str | None = None
    size_bytes: int = 0
    captions: bool = False
    fault: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether it has to be fetched before it can be read."""
        return "://" in self.place

    def to_bytes(self) -> bytes:
        """Returns the recording as JSON, which keeps paths that are not Unicode."""
        return json.dumps(asdict(self)).encode("ascii")


def recording_from_bytes(data: bytes) -> Recording:
    """Returns what `Recording.to_bytes` gave."""
    return Recording(**json.loads(data))


def printable(path: str) -> str:
    """Returns a path as Unicode text: file names may hold bytes that are none."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
