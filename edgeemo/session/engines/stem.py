"""The stem of a modality as its stream sees it: always there, whichever runner serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeemo.runtimes.base import Array, Runner


class PooledStem(Runner):
    """Runs on whatever serves as the stem of a modality now; closing it does nothing.

    Where no runner can answer, the features are zeros and the pool says that the modality is broken, which
    empties its window before anything is recognised from it: a stream need not know.

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
