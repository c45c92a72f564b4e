"""One pass over a recording: frames decoded, stamped, and merged in order of their times."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Collection, Generator, Iterator
from typing import Any

from edgeemo.errors import InputError
from edgeemo.features.resample import to_mono_float32
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.audio_blocks import AudioBlocks
from edgeemo.sensors.base import Chunk
from edgeemo.sensors.recordings.captions import chunks_from_captions
from edgeemo.sensors.recordings.contents import Contents
from edgeemo.sensors.recordings.decoding import bgr_of, load_av, open_container, samples_of
from edgeemo.sensors.recordings.track import WORDS


class Playback:
    """One iteration over a recording, with tracks and handles of its own.

    Args:
        contents: what the recording holds.
        chunk_s: cut the sound into chunks of this length in seconds; None keeps the decoder's own.
        max_fps: skip frames so that at most this many a second are converted; None keeps all.

    Attributes:
        tracks: modality -> what has been seen of it.
    """

    def __init__(self, contents: Contents, *, chunk_s: float | None, max_fps: float | None) -> None:
        self._contents = contents
        self._chunk_s, self._max_fps = chunk_s, max_fps
        self._open: list[Any] = []
        self._closed = False
        self._decoding = threading.RLock()
        self.tracks = contents.tracks()

    def chunks(self, modalities: Collection[str]) -> Generator[Chunk, None, None]:
        """Yields the chunks of these modalities in order of their time stamps, until the end or `close`."""
        sources = [self._finish(modality, self._read(modality)) for modality in modalities]
        merged = heapq.merge(*sources, key=lambda chunk: chunk.time_s)
        while (chunk := self._next(merged)) is not None:
            yield chunk

    def _next(self, merged: Iterator[Chunk]) -> Chunk | None:
        with self._decoding:
            return None if self._closed else next(merged, None)

    def close(self) -> None:
        """Ends the iteration, also one under way in another thread."""
        self._closed = True
        for container in list(self._open):
            self._release(container)

    def _release(self, container: Any) -> None:
        """Closes a container once; FFmpeg dies of a second time, or under a thread that decodes it."""
        with self._decoding:
            if container in self._open:
                self._open.remove(container)
                container.close()

    def _read(self, modality: str) -> Iterator[Chunk]:
        if modality == TEXT:
            return chunks_from_captions(list(self._contents.captions))
        return self._read_audio() if modality == AUDIO else self._read_video()

    def _finish(self, modality: str, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        track = self.tracks[modality]
        for chunk in chunks:
            yield track.take(chunk)
        if modality == TEXT:  # silence after the last caption is silence, not a loss
            return
        faults = list(track.faults(WORDS[modality]))
        track.state = "lost"
        track.why = f"{self._contents.name}: " + (
            "; ".join(faults) if faults else f"{WORDS[modality]} ended at {track.end_s:.2f} s"
        )

    def _read_audio(self) -> Iterator[Chunk]:
        blocks = AudioBlocks(self._chunk_s)
        for frame in self._frames(AUDIO):
            try:
                samples = to_mono_float32(samples_of(frame))
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
                time_s = max(0.0, last_s + self._contents.frame_s)
            last_s = time_s
            self.tracks[VIDEO].reach(time_s + self._contents.frame_s)
            if time_s < 0:
                continue
            if self._max_fps:
                slot = math.floor(time_s * self._max_fps + 1e-6)
                if slot <= last_slot:
                    continue
                last_slot = slot
            yield Chunk(VIDEO, time_s, bgr_of(frame))

    def _frames(self, modality: str) -> Iterator[Any]:
        track = self.tracks[modality]
        av = load_av()
        container = open_container(self._contents.path)
        self._open.append(container)
        stream = container.streams[self._contents.streams[modality]]
        stream.codec_context.thread_count = 1
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    track.damage()
                    continue
                for frame in frames:
                    if getattr(packet, "is_corrupt", False) or getattr(frame, "is_corrupt", False):
                        track.damage()
                    else:
                        yield frame
        except av.error.FFmpegError as error:
            track.broken_off = error.strerror or str(error)
        finally:
            self._release(container)

    def _time_of(self, frame: Any) -> float | None:
        return None if frame.time is None else float(frame.time) - self._contents.start_s
