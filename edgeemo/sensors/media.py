"""Recordings as chunks in time order: sound and picture of a file, words from a caption file beside it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import WeakSet

from edgeemo.errors import InputError
from edgeemo.modality import AUDIO, VIDEO
from edgeemo.sensors.audio_blocks import AudioBlocks
from edgeemo.sensors.base import Chunk, SensorStatus
from edgeemo.sensors.recordings.contents import read_contents
from edgeemo.sensors.recordings.playback import Playback
from edgeemo.sensors.recordings.track import WORDS

if TYPE_CHECKING:
    from typing_extensions import Self


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
        self._contents = read_contents(Path(path), captions)
        self._chunk_s = chunk_s
        self._max_fps = max_fps
        self._playing: WeakSet[Playback] = WeakSet()
        self._tracks = self._contents.tracks()

    @property
    def path(self) -> Path:
        """The file."""
        return self._contents.path

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self._contents.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the recording has, in canonical order."""
        return tuple(m for m, track in self._tracks.items() if track.state != "absent")

    @property
    def duration_s(self) -> float | None:
        """The length that the file declares, None where it does not."""
        return self._contents.duration_s

    @property
    def status(self) -> dict[str, SensorStatus]:
        """How each modality is at this point of the newest iteration; ``lost`` once its stream has ended."""
        return {modality: track.status for modality, track in self._tracks.items()}

    @property
    def faults(self) -> tuple[str, ...]:
        """Sentences about what is wrong with the file, as far as the newest iteration has read it."""
        found = [self._contents.caption_fault] if self._contents.caption_fault else []
        for modality in (AUDIO, VIDEO):
            track = self._tracks[modality]
            if track.state == "lost" or track.damaged:
                found.extend(f"{self.name}: {fault}" for fault in track.faults(WORDS[modality]))
        return tuple(found)

    def __iter__(self) -> Iterator[Chunk]:
        playback = self._new_playback()
        self._tracks = playback.tracks
        return playback.chunks(self.modalities)

    def chunks_of(self, modality: str) -> Generator[Chunk, None, None]:
        """Returns an iteration over the chunks of one modality alone; nothing of the others is decoded.

        `status` and `faults` do not speak of it.

        Raises:
            InputError: the recording has no such modality.
        """
        if modality not in self.modalities:
            raise InputError(f"{self.name} has no {modality}; it has: {', '.join(self.modalities)}")
        return self._new_playback().chunks([modality])

    def _new_playback(self) -> Playback:
        playback = Playback(self._contents, chunk_s=self._chunk_s, max_fps=self._max_fps)
        self._playing.add(playback)
        return playback

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
        length = (
            "unknown length" if self._contents.duration_s is None else f"{self._contents.duration_s:.2f} s"
        )
        return f"<MediaFile {self.name!r}: {'+'.join(self.modalities) or 'nothing'}, {length}>"
