"""What a recording holds, as far as its headers and the captions beside it say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeemo.errors import InputError
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.recordings.captions import Caption, read_srt
from edgeemo.sensors.recordings.decoding import declared_end_s, is_moving, open_container
from edgeemo.sensors.recordings.track import WORDS, Track

_FRAME_S = 1.0 / 25  # where a file does not say


@dataclass(frozen=True)
class Contents:
    """What a recording holds.

    Attributes:
        path: the file.
        streams: audio and video, where there is one, -> its index in the container.
        declared_s: the same -> when it ends, None where the file does not say.
        start_s: the file's own time at which the recording starts.
        duration_s: its length, None where the file does not say.
        frame_s: time between two frames.
        captions: the words.
        caption_fault: why there are none although a file lies beside it.
    """

    path: Path
    streams: dict[str, int]
    declared_s: dict[str, float | None]
    start_s: float
    duration_s: float | None
    frame_s: float
    captions: tuple[Caption, ...]
    caption_fault: str

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    def tracks(self) -> dict[str, Track]:
        """Returns the state of every modality before anything was read."""
        tracks = {}
        for modality in (AUDIO, VIDEO):
            if modality in self.streams:
                tracks[modality] = Track("running", f"reading {self.name}")
                tracks[modality].declared_s = self.declared_s[modality]
            else:
                tracks[modality] = Track("absent", f"{self.name} has no {WORDS[modality]}")
        beside = self.caption_fault or f"{self.name} has no captions beside it"
        running = Track("running", f"captions of {self.name}")
        tracks[TEXT] = running if self.captions else Track("absent", beside)
        return tracks


def read_contents(path: Path, captions: str | Path | None) -> Contents:
    """Returns what a recording holds.

    Args:
        path: the file.
        captions: a SubRip file; ``"auto"`` takes the one with the same name if it is there.

    Raises:
        InputError: not a media file, or captions asked for by name that cannot be read.
        MissingDependencyError: PyAV is not installed.
    """
    streams: dict[str, int] = {}
    declared_s: dict[str, float | None] = {}
    frame_s = _FRAME_S
    with open_container(path) as container:
        start_s = container.start_time / 1e6 if container.start_time is not None else 0.0
        duration_s = container.duration / 1e6 if container.duration else None
        for stream in container.streams:
            if stream.type in (AUDIO, VIDEO) and stream.type not in streams and is_moving(stream):
                streams[stream.type] = stream.index
                declared_s[stream.type] = declared_end_s(stream, start_s)
                rate = getattr(stream, "average_rate", None)
                frame_s = 1.0 / float(rate) if rate else frame_s
        form = container.format.name
    if not streams or form == "tty":  # FFmpeg reads any text as "tty" art
        raise InputError(f"{path} is no recording: it has neither sound nor picture ({form})")
    if not any(declared_s.values()):
        declared_s = dict.fromkeys(declared_s, duration_s)
    words, fault = _read_captions(path, captions)
    return Contents(path, streams, declared_s, start_s, duration_s, frame_s, words, fault)


def _read_captions(path: Path, captions: str | Path | None) -> tuple[tuple[Caption, ...], str]:
    beside = path.with_suffix(".srt")
    if captions is None or (captions == "auto" and not beside.is_file()):
        return (), ""
    if captions != "auto":
        return tuple(read_srt(captions)), ""
    try:
        return tuple(read_srt(beside)), ""
    except InputError as error:  # nobody asked for this file: the recording is still good
        return (), str(error)
