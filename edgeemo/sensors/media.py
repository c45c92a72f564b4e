"""Recordings as chunks in time order: sound and picture through PyAV, words from a caption file beside it.

This is the only file that loads ``av``.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.features.resample import to_mono_float32
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.audio_blocks import AudioBlocks
from edgeemo.sensors.base import Chunk, SensorStatus
from edgeemo.sensors.captions import Caption, chunks_from_captions, read_srt
from edgeemo.sensors.track import WORDS, Track

if TYPE_CHECKING:
    from typing_extensions import Self

INSTALL_MEDIA = "pip install 'edgeemo[media]'"


class MediaFile:
    """A recording, iterated as chunks of audio, video and text in order of their time stamps.

    Time 0 is the start of the recording. Each iteration starts there, gives the same chunks and knows nothing
    of the others, which may be under way; `status` and `faults` speak of the newest. Sound and picture are
    read through two handles, so that a badly interleaved file needs no more memory than a good one. A damaged
    or truncated file yields what is there; `status` and `faults` then say what is not.

    Args:
        path: any file that FFmpeg reads.
        chunk_s: cut the sound into chunks of this length in seconds; None keeps the decoder's own.
        max_fps: skip frames so that at most this many a second are converted; None keeps all.
        captions: a SubRip file with the words; ``"auto"`` takes the one with the same name if it is there.

    Raises:
        InputError: not a media file, or captions asked for by name that cannot be read.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        chunk_s: float | None = None,
        max_fps: float | None = None,
        captions: str | Path | None = "auto",
    ) -> None:
        AudioBlocks(chunk_s)  # refuses a bad length now, not at the first chunk
        if max_fps is not None and not max_fps > 0:
            raise InputError(f"max_fps must be above 0 frames a second, got {max_fps}")
        self.path = Path(path)
        self.name = self.path.name
        self._av = load_av()
        self._chunk_s = chunk_s
        self._max_fps = max_fps
        self._playing: WeakSet[_Playback] = WeakSet()
        self._streams: dict[str, int] = {}
        self._declared: dict[str, float | None] = {}
        self._captions: list[Caption] = []
        self._caption_fault = ""
        self._frame_s = 1.0 / 25
        self._look_inside()
        self._read_captions(captions)
        self._tracks = self._new_tracks()

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the recording has, in canonical order."""
        return tuple(m for m, track in self._tracks.items() if track.state != "absent")

    @property
    def duration_s(self) -> float | None:
        """The length that the file declares, None where it does not."""
        return self._duration_s

    @property
    def status(self) -> dict[str, SensorStatus]:
        """How each modality is at this point of the newest iteration; ``lost`` once its stream has ended."""
        return {modality: track.status for modality, track in self._tracks.items()}

    @property
    def faults(self) -> tuple[str, ...]:
        """Sentences about what is wrong with the file, as far as the newest iteration has read it."""
        found = [self._caption_fault] if self._caption_fault else []
        for modality in (AUDIO, VIDEO):
            track = self._tracks[modality]
            if track.state == "lost" or track.damaged:
                found.extend(f"{self.name}: {fault}" for fault in track.faults(WORDS[modality]))
        return tuple(found)

    def __iter__(self) -> Iterator[Chunk]:
        playback = _Playback(self)
        self._playing.add(playback)
        self._tracks = playback.tracks
        return playback.chunks()

    def close(self) -> None:
        """Ends every iteration under way and closes its handles. May be called any number of times."""
        for playback in list(self._playing):
            playback.close()
        self._playing.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        length = "unknown length" if self._duration_s is None else f"{self._duration_s:.2f} s"
        return f"<MediaFile {self.name!r}: {'+'.join(self.modalities) or 'nothing'}, {length}>"

    def _look_inside(self) -> None:
        with self._container() as container:
            start = container.start_time
            self._start_s = start / 1e6 if start is not None else 0.0
            self._duration_s = container.duration / 1e6 if container.duration else None
            for stream in container.streams:
                if stream.type in (AUDIO, VIDEO) and stream.type not in self._streams and _is_moving(stream):
                    self._streams[stream.type] = stream.index
                    self._declared[stream.type] = _declared_end_s(stream, self._start_s)
                    rate = getattr(stream, "average_rate", None)
                    self._frame_s = 1.0 / float(rate) if rate else self._frame_s
            form = container.format.name
        if not self._streams or form == "tty":  # FFmpeg reads any text as "tty" art
            raise InputError(f"{self.path} is no recording: it has neither sound nor picture ({form})")
        if not any(self._declared.values()):
            self._declared = dict.fromkeys(self._declared, self._duration_s)

    def _container(self) -> Any:
        try:
            return self._av.open(str(self.path))
        except self._av.error.FFmpegError as error:
            if not self.path.exists():
                raise InputError(f"no such media file: {self.path}") from None
            hint = (
                "; an mp4 file that was cut off before its index was written looks like this"
                if isinstance(error, self._av.error.InvalidDataError)
                else ""
            )
            raise InputError(
                f"{self.path} cannot be read as a recording: {error.strerror or error}{hint}"
            ) from None

    def _read_captions(self, captions: str | Path | None) -> None:
        if captions is None:
            return
        beside = self.path.with_suffix(".srt")
        if captions != "auto":
            self._captions = read_srt(captions)
        elif beside.is_file():
            try:
                self._captions = read_srt(beside)
            except InputError as error:  # nobody asked for this file: the recording is still good
                self._caption_fault = str(error)

    def _new_tracks(self) -> dict[str, Track]:
        tracks = {}
        for modality in (AUDIO, VIDEO):
            if modality in self._streams:
                tracks[modality] = Track("running", f"reading {self.name}")
                tracks[modality].declared_s = self._declared[modality]
            else:
                tracks[modality] = Track("absent", f"{self.name} has no {WORDS[modality]}")
        beside = self._caption_fault or f"{self.name} has no captions beside it"
        tracks[TEXT] = (
            Track("running", f"captions of {self.name}") if self._captions else Track("absent", beside)
        )
        return tracks


class _Playback:
    """One iteration over a recording, with tracks and handles of its own."""

    def __init__(self, media: MediaFile) -> None:
        self._media = media
        self._open: list[Any] = []
        self._closed = False
        self._decoding = threading.RLock()
        self.tracks = media._new_tracks()

    def chunks(self) -> Iterator[Chunk]:
        sources = [self._finish(m, self._read(m)) for m in self._media.modalities]
        merged = heapq.merge(*sources, key=lambda chunk: chunk.time_s)
        while (chunk := self._next(merged)) is not None:
            yield chunk

    def _next(self, merged: Iterator[Chunk]) -> Chunk | None:
        with self._decoding:
            return None if self._closed else next(merged, None)

    def close(self) -> None:
        self._closed = True
        with self._decoding:  # FFmpeg dies where a container is closed under a thread that decodes it
            while self._open:
                self._open.pop().close()

    def _read(self, modality: str) -> Iterator[Chunk]:
        if modality == TEXT:
            return chunks_from_captions(self._media._captions)
        return self._read_audio() if modality == AUDIO else self._read_video()

    def _finish(self, modality: str, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        track = self.tracks[modality]
        for chunk in chunks:
            yield track.take(chunk)
        if modality == TEXT:  # silence after the last caption is silence, not a loss
            return
        faults = list(track.faults(WORDS[modality]))
        track.state = "lost"
        track.why = f"{self._media.name}: " + (
            "; ".join(faults) if faults else f"{WORDS[modality]} ended at {track.end_s:.2f} s"
        )

    def _read_audio(self) -> Iterator[Chunk]:
        blocks = AudioBlocks(self._media._chunk_s)
        for frame in self._frames(AUDIO):
            try:
                samples = to_mono_float32(_samples_of(frame))
            except InputError:  # not finite, or far beyond full scale: the decoder met damage
                self.tracks[AUDIO].damage()
                continue
            time_s = self._time_of(frame)
            early = 0 if time_s is None else min(len(samples), max(0, round(-time_s * frame.sample_rate)))
            if early:  # an encoder's priming, before the recording starts
                samples, time_s = samples[early:], 0.0
            yield from blocks.add(time_s, samples, frame.sample_rate)
        yield from blocks.flush()

    def _read_video(self) -> Iterator[Chunk]:
        last_s, last_slot = -math.inf, -math.inf
        for frame in self._frames(VIDEO):
            time_s = self._time_of(frame)
            if time_s is None or time_s <= last_s:  # no stamp, or one that goes back: it follows the last
                time_s = max(0.0, last_s + self._media._frame_s)
            last_s = time_s
            self.tracks[VIDEO].reach(time_s + self._media._frame_s)
            if time_s < 0:
                continue
            if self._media._max_fps:
                slot = math.floor(time_s * self._media._max_fps + 1e-6)
                if slot <= last_slot:
                    continue
                last_slot = slot
            yield Chunk(VIDEO, time_s, _bgr_of(frame))

    def _frames(self, modality: str) -> Iterator[Any]:
        track = self.tracks[modality]
        container = self._media._container()
        self._open.append(container)
        stream = container.streams[self._media._streams[modality]]
        stream.codec_context.thread_count = 1
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except self._media._av.error.FFmpegError:
                    track.damage()
                    continue
                for frame in frames:
                    if getattr(packet, "is_corrupt", False) or getattr(frame, "is_corrupt", False):
                        track.damage()
                    else:
                        yield frame
        except self._media._av.error.FFmpegError as error:
            track.broken_off = error.strerror or str(error)
        finally:
            container.close()

    def _time_of(self, frame: Any) -> float | None:
        return None if frame.time is None else float(frame.time) - self._media._start_s


def load_av() -> ModuleType:
    """Returns the av module.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    try:
        import av
        import av.error
    except (ImportError, OSError):
        raise MissingDependencyError("Reading media files", "PyAV", INSTALL_MEDIA) from None
    module: ModuleType = av
    return module


def _is_moving(stream: Any) -> bool:
    """False for the cover picture of a music file."""
    attached = 0x400  # AV_DISPOSITION_ATTACHED_PIC
    return not int(getattr(stream, "disposition", 0)) & attached


def _declared_end_s(stream: Any, start_s: float) -> float | None:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - start_s


def _samples_of(frame: Any) -> NDArray[np.generic]:
    """The frame's samples as (N, channels)."""
    array: NDArray[np.generic] = frame.to_ndarray()
    channels = len(frame.layout.channels)
    return array.T if frame.format.is_planar else array.reshape(-1, channels)


def _bgr_of(frame: Any) -> NDArray[np.uint8]:
    """The picture (H, W, 3), turned as the recording says it is to be shown."""
    picture: NDArray[np.uint8] = frame.to_ndarray(format="bgr24")
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture
