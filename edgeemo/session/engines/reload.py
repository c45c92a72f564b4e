"""Newer engines for a running session: opened, warmed and checked in a thread of their own."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from edgeemo.bundle import Bundle, Manifest
from edgeemo.errors import ReloadError, SessionClosedError
from edgeemo.session.engines.announce import Tell
from edgeemo.session.engines.attempt import sentence_of, warm
from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.pool import EnginePool
from edgeemo.session.engines.preload import open_snapshot
from edgeemo.session.engines.snapshot import Snapshot, open_newest
from edgeemo.session.events import EventKind

log = logging.getLogger(__name__)


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
        pool: whose engines are exchanged; reloads run in its thread.
        tell: takes events.
    """

    def __init__(self, folder: Path, options: EngineOptions, *, pool: EnginePool, tell: Tell) -> None:
        self.folder = folder
        self.stats = ReloadStats()
        self._options, self._pool, self._tell = options, pool, tell

    def start(self) -> Future[bool]:
        """Starts a reload and returns at once; see `Session.reload`.

        Raises:
            SessionClosedError: the session is closed.
        """
        return self._pool.submit(self._reload)

    def _reload(self) -> bool:
        try:
            return self._reload_or_raise()
        except SessionClosedError:
            raise
        except Exception as error:
            before = self.stats
            self.stats = ReloadStats(before.reloads, before.failed + 1, before.swap_ms, before.open_s)
            message = f"{self.folder} was not taken over, the engines in use go on: {sentence_of(error)}"
            log.warning("%s", message)
            self._tell(EventKind.RELOAD_FAILED, message, {"reason": sentence_of(error)})
            raise

    def _reload_or_raise(self) -> bool:
        begun = time.perf_counter()
        old = self._pool.snapshot
        fresh = open_newest(self.folder, lambda bundle: self._open(bundle, old))
        if fresh is None:
            return False
        try:
            for runner in fresh.only_here(old):
                if why := warm(runner, fresh.manifest.labels):
                    raise ReloadError(f"{runner!r} cannot be used on this machine: {why}")
            taken = [name for name in fresh.engines if not fresh.same_files(name, old)]
            open_s = time.perf_counter() - begun
            swap_s = self._pool.exchange(fresh)
        except BaseException:
            fresh.close(but=old)
            raise
        before = self.stats
        self.stats = ReloadStats(before.reloads + 1, before.failed, swap_s * 1e3, open_s)
        message = (
            f"{fresh.manifest_sha256[:12]} of {self.folder} serves; new: {', '.join(taken) or 'no engine'}"
        )
        log.info("%s", message)
        self._tell(EventKind.RELOADED, message, {"engines": taken, "manifest": fresh.manifest_sha256})
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
