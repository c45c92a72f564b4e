"""The engines of a running session: the best warm one answers, cold ones open beside it, what fails goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeemo.errors import ReloadError, SessionClosedError
from edgeemo.modality import subset_members
from edgeemo.runtimes.base import Array, Runner
from edgeemo.session.engines.answers import check_answers
from edgeemo.session.engines.attempt import attempt, not_finite, sentence_of, warm
from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.preload import open_part
from edgeemo.session.engines.roster import BY_OPTIONS, Roster
from edgeemo.session.engines.snapshot import STEM, Snapshot
from edgeemo.session.engines.stats import PoolStats, part_stats
from edgeemo.session.engines.stem import PooledStem
from edgeemo.session.engines.worker import Result, Worker
from edgeemo.session.events import EventKind

log = logging.getLogger(__name__)

Tell = Callable[[EventKind, str, Mapping[str, Any]], object]
Window = Callable[[str], tuple[Array, Array]]


def _tell_nobody(kind: EventKind, message: str, detail: Mapping[str, Any]) -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True)
class Answer:
    """What the engines say about one hop.

    Attributes:
        subset: the modalities that were used; None where no engine could answer.
        runner: the engine that answered; None without.
        outputs: its outputs by name; empty without.
        notes: live modality that was not used -> the sentence that says why.
    """

    subset: str | None
    runner: Runner | None
    outputs: Mapping[str, Array]
    notes: Mapping[str, str]


class EnginePool:
    """The stems and engines of a session. Safe to use from several threads.

    An answer comes from the best engine that is open. A better one that is not is opened in a thread of the
    pool's own, and serves from the next hop on. One that fails or gives numbers that are none is set aside,
    and the same hop is answered by what stands by, or by a smaller subset.

    Args:
        snapshot: what is open at first; the pool closes it.
        options: how others are opened, and how much memory they may take.
        lock: held by a hop while it runs, and by the pool while it exchanges engines: an assignment.
        tell: takes events.
        background: whether cold engines are opened beside the hops. Without, the hop that wants one opens it
            and waits: the same recording gives the same readings.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        options: EngineOptions,
        *,
        lock: threading.RLock | None = None,
        tell: Tell = _tell_nobody,
        background: bool = True,
    ) -> None:
        self._roster = Roster(snapshot, options)
        self._options, self._tell, self._background = options, tell, background
        self._lock = lock or threading.RLock()
        self._worker = Worker("edgeemo-engines")
        self._opening: set[str] = set()
        self._broken: dict[str, str] = {}  # modality -> why its features were zeros
        self._closed = False
        self._at_s = 0.0
        self._counts = PoolStats({}, 0.0, options.memory_budget_mb)

    @property
    def snapshot(self) -> Snapshot:
        """What is open now."""
        return self._roster.snapshot

    def recognize(self, live: tuple[str, ...], window: Window, *, at_s: float) -> Answer:
        """Returns the answer of the best engine that is open for the live modalities.

        Args:
            live: modalities that may be used, in the manifest's order.
            window: modality -> features (1, T, D) and mask (1, T).
            at_s: session time.
        """
        with self._lock:
            self._at_s = at_s
            failed: list[tuple[Runner, str]] = []
            windows: dict[str, tuple[Array, Array]] = {}
            notes: dict[str, str] = {}
            while True:
                plan = self._roster.plan(live, at_s=at_s)
                if plan.wanted is not None and self._request(plan.wanted):
                    continue
                if plan.subset is None:
                    self._tell_failed(failed, None)
                    return Answer(None, None, {}, {**plan.notes, **notes})
                runner = self._roster.snapshot.engines[plan.subset]
                feed: dict[str, Array] = {}
                for name in subset_members(plan.subset):
                    if name not in windows:
                        windows[name] = window(name)
                    feed[f"features.{name}"], feed[f"mask.{name}"] = windows[name]
                outputs, why = attempt(runner, feed)
                if not why:
                    break
                bad = [name for name, (features, _) in windows.items() if not np.isfinite(features).all()]
                if bad:  # not this engine's fault, and any other would fail on it too
                    notes |= dict.fromkeys(bad, "live, but its features hold numbers that are not finite")
                    live = tuple(name for name in live if name not in bad)
                else:
                    failed.append((runner, why))
                    self._set_aside(plan.subset, runner, why)
            self._roster.answered(plan.subset)
            if failed:
                self._tell_failed(failed, runner)
            return Answer(plan.subset, runner, outputs, {**plan.notes, **notes} if notes else plan.notes)

    def stem(self, modality: str) -> Runner:
        """Returns the stem of a modality for its stream: whichever runner serves at the time of a call."""
        return PooledStem(self.snapshot.stems[modality], lambda feed: self._run_stem(modality, feed))

    def stem_trouble(self, modality: str) -> str:
        """Says why nothing since the last hop can be recognised from a modality; empty where it can."""
        with self._lock:
            if modality in self.snapshot.stems:
                return self._broken.pop(modality, "") if self._broken else ""
            name = STEM + modality
            if self._roster.next_place(name, at_s=self._at_s) is None:
                return f"its stem was set aside ({self._roster.aside.why(name)})"
            self._request(name)
            return f"its stem failed ({self._roster.aside.why(name)}); another is being opened"

    def _run_stem(self, modality: str, feed: Mapping[str, Array]) -> dict[str, Array]:
        name = STEM + modality
        with self._lock:
            failed: list[tuple[Runner, str]] = []
            while (runner := self.snapshot.stems.get(modality)) is not None:
                outputs, why = attempt(runner, feed)
                if not why:
                    if failed:
                        self._tell_failed(failed, runner)
                    return outputs
                if wrong := not_finite(feed):
                    self._broken[modality] = f"its front-end failed: {wrong}"
                    return self._no_features(modality, feed)
                failed.append((runner, why))
                self._set_aside(name, runner, why)
                self._request(name)
            self._broken[modality] = f"its stem failed ({self._roster.aside.why(name)})"
            if failed:
                self._tell_failed(failed, None)
            return self._no_features(modality, feed)

    def _no_features(self, modality: str, feed: Mapping[str, Array]) -> dict[str, Array]:
        spec = self.snapshot.manifest.modality(modality)
        batch = len(next(iter(feed.values())))
        shape = (batch, spec.stem.features_per_block, spec.feature_width)
        return {f"features.{modality}": np.zeros(shape, np.float32)}

    def _set_aside(self, name: str, runner: Runner, why: str) -> None:
        self._roster.fail(name, runner, why, at_s=self._at_s)
        self._counts = replace(self._counts, set_aside=self._counts.set_aside + 1)
        self._retire([runner])

    def _tell_failed(self, failed: list[tuple[Runner, str]], instead: Runner | None) -> None:
        """Tells of what failed in this hop and of what answers in its place."""
        for runner, why in failed:
            answers = f"{_called(instead)} answers" if instead else "nothing can answer in its place"
            message = f"{_called(runner)} was set aside: {why}; {answers}"
            log.warning("%s", message)
            self._tell(
                EventKind.ENGINE_SET_ASIDE,
                message,
                {**_detail(runner, why), "answers": _called(instead) if instead else None},
            )

    def _request(self, name: str) -> bool:
        """Has a stem or engine opened, unless that is under way; returns whether it was done at once."""
        if name in self._opening or self._closed:
            return False
        self._opening.add(name)
        if not self._background:
            self._open(name)
            return True
        with suppress(SessionClosedError):
            self._worker.submit(lambda: self._open(name))
        return False

    def _open(self, name: str) -> None:
        try:
            while self._try_to_open(name):
                pass
        finally:
            with self._lock:
                self._opening.discard(name)
                self._roster.replan()

    def _try_to_open(self, name: str) -> bool:
        """Opens a stem or engine as the next best thing it can be; returns whether to try once more."""
        with self._lock:
            snapshot = self.snapshot
            place = self._roster.next_place(name, at_s=self._at_s)
            if self._closed or place is None or snapshot.runner(name) is not None:
                return False
            gone = self._roster.room_for(name)
            self._count_evicted(gone)
        for runner in gone:
            runner.close()
        opened: Runner | None = None
        try:
            where = None if place == BY_OPTIONS else place
            opened = open_part(snapshot.bundle, name, self._options, place=where)
        except Exception as error:
            why = sentence_of(error)
        else:
            place = (opened.backend, opened.variant)
            why = warm(opened, snapshot.manifest.labels)
        with self._lock:
            same = snapshot.same_files(name, self.snapshot)
            if opened is None or why or self._closed or not same:
                if opened is not None:
                    opened.close()
                if why and same and not self._closed:
                    self._roster.aside.add(name, place, why, at_s=self._at_s)
                return not self._closed
            self._exchange(lambda: self._roster.install(name, opened))
            self._counts = replace(self._counts, opened=self._counts.opened + 1)
            gone = self._roster.make_room(name)
            self._count_evicted(gone)
        for runner in gone:
            runner.close()
        self._tell_changed(opened, "it was opened when it was wanted", None)
        return False

    def offer(self, name: str, runner: Runner, why: str, *, memory_bytes: int = 0) -> None:
        """Takes an opened runner, once its answers are those of the one that serves, from the next hop on.

        What served before stands by. Readings go on meanwhile; call it from a thread of your own.

        Args:
            name: a subset or ``stem.<modality>``.
            runner: the pool's from then on; where this raises, it stays the caller's.
            why: for the event: what is better about it.
            memory_bytes: what it takes, where that is known; else it is estimated from the file.

        Raises:
            BackendError: its answers are others, or it fails.
            ReloadError: the bundle in use is another one by now, or never had this stem or engine.
            SessionClosedError: the session is closed.
        """
        with self._lock:
            snapshot = self.snapshot
            self._check_open()
        if name not in snapshot.names:
            raise ReloadError(f"no {name!r} in use here; there are: {', '.join(snapshot.names)}")
        serving = snapshot.runner(name)
        check_answers(snapshot.bundle, name, runner, serving)
        with self._lock:
            self._check_open()
            if not snapshot.same_files(name, self.snapshot):
                raise ReloadError(
                    f"the bundle was replaced while {_called(runner)} was checked; make it from the newer one"
                )
            before = self.snapshot.runner(name)
            self._exchange(lambda: self._roster.install(name, runner, memory_bytes=memory_bytes))
            gone = self._roster.make_room(name)
            self._count_evicted(gone)
        self._retire(gone)
        self._tell_changed(runner, why, before)

    def exchange(self, fresh: Snapshot) -> float:
        """Puts the snapshot of a newer bundle in the place of this one; closes what is not in use any more.

        What was set aside, opened or offered meanwhile of files that are the same in both stays as it is.

        Returns:
            the seconds that hops had to wait.

        Raises:
            SessionClosedError: the session was closed meanwhile.
        """
        with self._lock:
            self._check_open()
            old = self.snapshot
            surplus: list[Runner] = []
            for name in fresh.names:
                if not fresh.same_files(name, old):
                    self._roster.aside.forget(name)
                elif fresh.of(name) != old.of(name):
                    surplus += [runner for runner in fresh.of(name) if runner not in old.of(name)]
                    fresh = fresh.having(name, old.of(name))
            seconds = self._exchange(lambda: self._roster.change(fresh))
            gone = self._roster.make_room("")
            self._count_evicted(gone)
        old.close(but=self.snapshot)
        for runner in (*surplus, *gone):
            runner.close()
        return seconds

    def _exchange(self, change: Callable[[], None]) -> float:
        """Changes what is open, between two hops; returns the seconds that it took."""
        begun = time.perf_counter()
        change()
        seconds = time.perf_counter() - begun
        longest = max(seconds * 1e3, self._counts.swap_ms or 0.0)
        self._counts = replace(self._counts, exchanges=self._counts.exchanges + 1, swap_ms=longest)
        return seconds

    def _count_evicted(self, gone: list[Runner]) -> None:
        if gone:
            self._counts = replace(self._counts, evicted=self._counts.evicted + len(gone))

    def _retire(self, runners: list[Runner]) -> None:
        """Closes runners beside the hops: a driver may take its time."""
        for runner in runners:
            try:
                self._worker.submit(runner.close)
            except SessionClosedError:
                runner.close()

    def _tell_changed(self, runner: Runner, why: str, before: Runner | None) -> None:
        message = f"{_called(runner)} serves from the next reading on: {why}"
        log.info("%s", message)
        detail = {**_detail(runner, why), "before": _called(before) if before else None}
        self._tell(EventKind.ENGINE_CHANGED, message, detail)

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Does something about engines in the pool's thread, after what is under way there.

        Raises:
            SessionClosedError: the session is closed.
        """
        return self._worker.submit(job)

    def stats(self) -> PoolStats:
        """Returns how the engines are and what has happened to them."""
        with self._lock:
            parts = {
                name: part_stats(self._roster, name, opening=name in self._opening, at_s=self._at_s)
                for name in self.snapshot.names
            }
            return replace(self._counts, parts=parts, memory_mb=round(self._roster.used_bytes() / 1e6, 2))

    def usage(self) -> dict[str, int]:
        """Returns subset -> how often it has answered."""
        with self._lock:
            return dict(self._roster.answers)

    def words(self) -> dict[str, str]:
        """Returns subset or ``stem.<modality>`` -> what runs and why, in words."""
        return {
            name: f"{part.backend}, {part.why or part.variant}"
            if part.backend
            else f"{part.state}{': ' if part.why else ''}{part.why}"
            for name, part in self.stats().parts.items()
        }

    def close(self, *, timeout_s: float = 1.5) -> None:
        """Closes everything that is open. May be called twice.

        Waits `timeout_s` for what is being opened; if that takes longer, its thread closes it in the end.
        """
        with self._lock:
            self._closed = True
        # Outside the lock, which the job under way may wait for; it then sees the end.
        self._worker.close(timeout_s)
        with self._lock:
            self.snapshot.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosedError("this session is closed; open a new one")


def _called(runner: Runner) -> str:
    return f"{runner.engine}.{runner.variant} on {runner.backend}"


def _detail(runner: Runner, why: str) -> dict[str, Any]:
    return {"engine": runner.engine, "variant": runner.variant, "backend": runner.backend, "reason": why}
