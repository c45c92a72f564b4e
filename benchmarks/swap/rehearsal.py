"""A session in real time over a scene whose sensors drop and come back, one after the other."""

from __future__ import annotations

from types import TracebackType

from benchmarks.swap.scene import Fault, Scene, ScenePlayer
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.session import EngineOptions, Session

MUTE = "mute"
LIVE_S = 20.0
"""How long all modalities may take until they are live."""
AFTER_S = 4.0
"""How long readings are watched after a drop."""


def fault_of(word: str) -> Fault:
    """Returns the fault of a sensor that a word names."""
    return "hang" if word == "hang" else "error"


class Rehearsal:
    """All modalities live, until one is told to drop; a context manager.

    Attributes:
        session: that reads.
        complete: the subset of all modalities.

    Args:
        bundle: what it opens.
        scene: what the sensors play.
        options: of the engines.
    """

    def __init__(self, bundle: Bundle, scene: Scene, options: EngineOptions) -> None:
        self._order = bundle.manifest.order
        self.complete = "+".join(self._order)
        self._players = {name: ScenePlayer(scene, name, connection="thread") for name in self._order}
        self.session = Session(bundle, sensors=list(self._players.values()), engines=options)
        self._readings = iter(self.session)

    def rest(self, modality: str) -> str:
        """Returns the subset that is left without a modality."""
        return "+".join(name for name in self._order if name != modality)

    def wait(self) -> None:
        """Reads until all modalities are live and their own engine serves.

        Raises:
            EdgeEmoError: that takes too long.
        """
        until_s = self.session.now_s + LIVE_S
        for reading in self._readings:
            if reading.subset == self.complete:
                return
            if self.session.now_s > until_s:
                raise EdgeEmoError(f"after {LIVE_S:g} s not all are live: {dict(reading.states)}")

    def drop(self, modality: str, fault: str) -> tuple[float, list[tuple[float, str | None]]]:
        """Lets a modality drop now, and returns when that was and the readings until one is right again.

        Args:
            modality: which.
            fault: ``"hang"``, ``"error"`` or ``"mute"``.
        """
        at_s = self.session.now_s
        if fault == MUTE:
            self.session.mute(modality)
        else:
            self._players[modality].die(at_s, fault_of(fault))
        watched: list[tuple[float, str | None]] = []
        for reading in self._readings:
            if reading.time_s > at_s:
                watched.append((self.session.now_s, reading.subset))
            if reading.subset == self.rest(modality) or self.session.now_s > at_s + AFTER_S:
                break
        return at_s, watched

    def bring_back(self, modality: str, fault: str) -> None:
        """Ends the drop."""
        self._players[modality].revive()
        if fault == MUTE:
            self.session.unmute(modality)

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()
