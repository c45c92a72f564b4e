"""Newer engines for a running session: opened, warmed and checked in a thread of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeemo.bundle import Bundle, Manifest
from edgeemo.errors import EdgeEmoError, ReloadError, SessionClosedError
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.choose import typical_feed
from edgeemo.session.engines.snapshot import EngineOptions, Snapshot, open_newest, open_snapshot
from edgeemo.session.events import EventKind

log = logging.getLogger(__name__)

_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class ReloadStats:
    """What reloads have done to a session.

    Attributes:
        reloads: times that newer engines took over.
        failed: times that they could not, and those from before went on.
        swap_ms: how long the newest exchange kept a hop from running; None before the first.
        open_s: how long opening and warming took before it, beside the hops; None before the first.
    """

    reloads: int = 0
    failed: int = 0
    swap_ms: float | None = None
    open_s: float | None = None


class Reloader:
    """Brings the newest state of a bundle into a session, one reload after the other.

    Args:
        folder: the bundle's folder.
        options: which engines are opened, and how.
        current: returns the snapshot in use.
        swap: puts a snapshot in its place between two hops and returns the seconds that it kept hops
            from running; raises SessionClosedError where the session was closed meanwhile.
        tell: takes events.
    """

    def __init__(
        self,
        folder: Path,
        options: EngineOptions,
        *,
        current: Callable[[], Snapshot],
        swap: Callable[[Snapshot], float],
        tell: Callable[[EventKind, str], None],
    ) -> None:
        self.folder = folder
        self.stats = ReloadStats()
        self._options, self._current, self._swap, self._tell = options, current, swap, tell
        # A thread starts with the first reload, not before.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edgeemo-reload")

    def start(self) -> Future[bool]:
        """Starts a reload and returns at once; see `Session.reload`.

        Raises:
            SessionClosedError: the session is closed.
        """
        try:
            return self._worker.submit(self._reload)
        except RuntimeError:  # after shutdown
            raise SessionClosedError("this session is closed; open a new one") from None

    def close(self) -> None:
        """Waits until no reload is under way any more; may be called twice."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _reload(self) -> bool:
        try:
            return self._reload_or_raise()
        except SessionClosedError:
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, EdgeEmoError) else f"{type(error).__name__}: {error}"
            before = self.stats
            self.stats = ReloadStats(before.reloads, before.failed + 1, before.swap_ms, before.open_s)
            message = f"{self.folder} was not taken over, the engines in use go on: {reason}"
            log.warning("%s", message)
            self._tell(EventKind.RELOAD_FAILED, message)
            raise

    def _reload_or_raise(self) -> bool:
        begun = time.perf_counter()
        old = self._current()
        fresh = open_newest(self.folder, lambda bundle: self._open(bundle, old))
        if fresh is None:
            return False
        taken = [name for name, runner in fresh.engines.items() if runner is not old.engines.get(name)]
        try:
            for runner in fresh.runners():
                if not any(runner is other for other in old.runners()):
                    warm(runner, fresh.manifest)
            open_s = time.perf_counter() - begun
            swap_s = self._swap(fresh)
        except BaseException:
            fresh.close(but=old)
            raise
        old.close(but=fresh)
        before = self.stats
        self.stats = ReloadStats(before.reloads + 1, before.failed, swap_s * 1e3, open_s)
        message = (
            f"{fresh.manifest_sha256[:12]} of {self.folder} serves; new: {', '.join(taken) or 'no engine'}"
        )
        log.info("%s", message)
        self._tell(EventKind.RELOADED, message)
        return True

    def _open(self, bundle: Bundle, old: Snapshot) -> Snapshot | None:
        """Opens a state of the bundle; returns None where it is in use already."""
        if bundle.manifest_sha256 == old.manifest_sha256:
            return None
        check_exchange(old.manifest, bundle.manifest)
        return open_snapshot(bundle, self._options, instead_of=old)


def check_exchange(old: Manifest, new: Manifest) -> None:
    """Refuses a manifest whose engines cannot read what a session has collected for the old ones.

    Raises:
        ReloadError: hop, labels, modalities, front-ends, windows or stems differ; the message says what.
    """
    if new.labels != old.labels:
        _refuse("the labels", ", ".join(old.labels), ", ".join(new.labels))
    if new.order != old.order:
        _refuse("the modalities", ", ".join(old.order), ", ".join(new.order))
    if new.hop_s != old.hop_s:
        _refuse("the time between readings", f"{old.hop_s:g} s", f"{new.hop_s:g} s")
    for before, after in zip(old.modalities, new.modalities, strict=True):
        name = before.name
        if after.front_end != before.front_end:
            keys = sorted(
                key
                for key in {*before.front_end, *after.front_end}
                if before.front_end.get(key) != after.front_end.get(key)
            )
            values = [{key: spec.front_end.get(key) for key in keys} for spec in (before, after)]
            _refuse(f"the front-end of {name}", str(values[0]), str(values[1]))
        if after != before:
            _refuse(f"windows or stem of {name}", str(before), str(after))
        files = [
            {variant: manifest.files[file].sha256[:12] for variant, file in manifest.stems[name].items()}
            for manifest in (old, new)
        ]
        if files[0] != files[1]:
            _refuse(f"the stem of {name}", str(files[0]), str(files[1]))


def _refuse(what: str, before: str, after: str) -> None:
    raise ReloadError(
        f"{what} of the session's bundle: {before}; of the new one: {after}. A running session takes over "
        "engines for the same features and labels only; open a new session for this bundle"
    )


def warm(runner: Runner, manifest: Manifest) -> None:
    """Runs an engine or stem a few times, so that its first hop is not its slowest.

    Raises:
        ReloadError: it gives numbers that are not finite, or an engine other than one logit a label.
    """
    feed = typical_feed(runner.inputs)
    for _ in range(_WARM_UP_RUNS):
        answers = runner.run(feed)
    broken = sorted(name for name, array in answers.items() if not np.isfinite(array).all())
    if broken:
        raise ReloadError(f"{runner!r} gives numbers that are not finite in {broken[0]!r} on this machine")
    logits = answers.get("logits")
    if logits is not None and logits.shape != (1, len(manifest.labels)):
        raise ReloadError(
            f"{runner!r} gives logits of shape {list(logits.shape)}; expected {[1, len(manifest.labels)]}"
        )
