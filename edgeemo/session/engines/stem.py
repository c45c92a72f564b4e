"""The stems of a session as its streams see them: always there, whichever runners serve."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np

from edgeemo.runtimes.base import Array, Runner
from edgeemo.session.engines.announce import Tell, tell_failures
from edgeemo.session.engines.attempt import attempt, not_finite
from edgeemo.session.engines.opener import Opener
from edgeemo.session.engines.roster import Roster
from edgeemo.session.engines.snapshot import STEM

_NO_TROUBLES: Mapping[str, str] = {}


class PooledStem(Runner):
    """Runs on whatever serves as the stem of a modality now; closing it does nothing.

    Args:
        first: the runner that serves at first.
        answer: runs what serves now.
    """

    def __init__(self, first: Runner, answer: Callable[[Mapping[str, Array]], dict[str, Array]]) -> None:
        super().__init__(
            engine=first.engine,
            variant=first.variant,
            backend=first.backend,
            inputs=first.inputs,
            outputs=first.outputs,
        )
        self._answer = answer

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the stem's outputs by name; never raises for what a backend does."""
        return self._answer(feed)

    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return self._answer(feed)

    def _close(self) -> None:
        """The runners belong to the pool."""


class Stems:
    """Runs the stems; where one fails and nothing stands by, its modality is broken until another is open.

    A stream need not know: it is given zeros, and as the modality is broken its window is emptied before
    anything is recognised from it.

    Args:
        roster: who serves; touched under the lock alone.
        opener: opens others.
        lock: held by a hop while it runs.
        tell: takes events.
    """

    def __init__(self, roster: Roster, opener: Opener, *, lock: threading.RLock, tell: Tell) -> None:
        self._roster, self._opener, self._lock, self._tell = roster, opener, lock, tell
        self._modalities = tuple(roster.snapshot.stems)
        self._broken: dict[str, str] = {}  # modality -> why its features were zeros

    def stem(self, modality: str) -> Runner:
        """Returns the stem of a modality for its stream."""
        first = self._roster.snapshot.stems[modality]
        return PooledStem(first, lambda feed: self._run(modality, feed))

    def troubles(self) -> Mapping[str, str]:
        """Returns the modalities from which nothing since the last call can be recognised, and why."""
        there = self._roster.snapshot.stems
        if not self._broken and len(there) == len(self._modalities):
            return _NO_TROUBLES
        with self._lock:
            found, self._broken = self._broken, {}
            for modality in self._modalities:
                if modality not in there:
                    found[modality] = self._missing(STEM + modality)
            return found

    def _missing(self, name: str) -> str:
        """Has a stem opened that is not, if that is possible, and says what is the matter."""
        why = self._roster.aside.why(name)
        if self._roster.next_place(name) is None:
            return f"its stem was set aside ({why})"
        self._opener.request(name)
        return f"its stem failed ({why}); another is being opened"

    def _run(self, modality: str, feed: Mapping[str, Array]) -> dict[str, Array]:
        name = STEM + modality
        with self._lock:
            failed: list[tuple[Runner, str]] = []
            while (runner := self._roster.snapshot.stems.get(modality)) is not None:
                outputs, why = attempt(runner, feed)
                if not why:
                    if failed:
                        tell_failures(self._tell, failed, runner)
                    return outputs
                if wrong := not_finite(feed):  # not the stem's fault, and any other would fail on it too
                    self._broken[modality] = f"its front-end failed: {wrong}"
                    return self._zeros(modality, feed)
                failed.append((runner, why))
                self._roster.fail(name, runner, why)
                self._opener.tally.set_aside += 1
                self._opener.retire([runner])
                self._opener.request(name)
            self._broken[modality] = f"its stem failed ({self._roster.aside.why(name)})"
            tell_failures(self._tell, failed, None)
            return self._zeros(modality, feed)

    def _zeros(self, modality: str, feed: Mapping[str, Array]) -> dict[str, Array]:
        spec = self._roster.snapshot.manifest.modality(modality)
        batch = len(next(iter(feed.values())))
        shape = (batch, spec.stem.features_per_block, spec.feature_width)
        return {f"features.{modality}": np.zeros(shape, np.float32)}
