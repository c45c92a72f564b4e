"""What has been seen of one stream of a recording, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.base import Chunk, SensorState, SensorStatus

WORDS = {AUDIO: "sound", VIDEO: "picture", TEXT: "captions"}
_EARLY_S = 0.3  # containers round the lengths that they declare to a frame or two


@dataclass
class Track:
    """What has been seen of one stream of the file."""

    state: SensorState
    why: str
    chunks: int = 0
    damaged: int = 0
    first_damage_s: float = 0.0
    newest_s: float | None = None
    end_s: float = 0.0
    declared_s: float | None = None
    broken_off: str = ""

    @property
    def status(self) -> SensorStatus:
        """The same as a sensor would say it."""
        return SensorStatus(
            state=self.state,
            why=self.why,
            chunks=self.chunks,
            drops=self.damaged,
            last_data_s=self.newest_s,
        )

    def take(self, chunk: Chunk) -> Chunk:
        """Counts a chunk and returns it."""
        self.chunks += 1
        self.newest_s = chunk.time_s
        self.reach(chunk.time_s + chunk.duration_s)
        return chunk

    def reach(self, time_s: float) -> None:
        """Notes that the stream lasts until then."""
        self.end_s = max(self.end_s, time_s)

    def damage(self) -> None:
        """Counts a piece that cannot be used."""
        self.damaged += 1
        self.first_damage_s = self.first_damage_s if self.damaged > 1 else self.end_s

    def faults(self, what: str) -> Iterator[str]:
        """Yields what is wrong, in words; ``what`` is the stream's name."""
        if self.damaged:
            yield f"damaged pieces of {what} skipped: {self.damaged}, first after {self.first_damage_s:.2f} s"
        if self.broken_off:
            yield f"{what} cannot be read past {self.end_s:.2f} s: {self.broken_off}"
        elif self.declared_s is not None and self.end_s < self.declared_s - _EARLY_S:
            yield f"{what} ends early, at {self.end_s:.2f} of {self.declared_s:.2f} s"
