"""The engines of a running session: the best warm one answers, cold ones open beside it, what fails goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from edgeemo.errors import ReloadError, SessionClosedError
from edgeemo.runtimes.base import Array, Runner
from edgeemo.session.engines.announce import Tell, called, tell_change, tell_failures, tell_nobody
from edgeemo.session.engines.answers import check_answers
from edgeemo.session.engines.attempt import attempt
from edgeemo.session.engines.opener import Opener
from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.roster import Roster
from edgeemo.session.engines.snapshot import Snapshot
from edgeemo.session.engines.stats import PoolStats, part_stats
from edgeemo.session.engines.stem import Stems
from edgeemo.session.engines.worker import Result, Worker

Window = Callable[[str], tuple[Array, Array]]


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
        tell: Tell = tell_nobody,
        background: bool = True,
    ) -> None:
        self._tell = tell
        self._lock = lock or threading.RLock()
        self._roster = Roster(snapshot, options)
        self._worker = Worker("edgeemo-engines")
        self._opener = Opener(
            self._roster, lock=self._lock, worker=self._worker, tell=tell, background=background
        )
        self._stems = Stems(self._roster, self._opener, lock=self._lock, tell=tell)

    @property
    def snapshot(self) -> Snapshot:
        """What is open now."""
        return self._roster.snapshot

    def stem(self, modality: str) -> Runner:
        """Returns the stem of a modality for its stream: whichever runner serves at the time of a call."""
        return self._stems.stem(modality)

    def stem_troubles(self) -> Mapping[str, str]:
        """Returns the modalities from which nothing since the last call can be recognised, and why.

        Call it in each hop once all streams have been advanced.
        """
        return self._stems.troubles()

    def recognize(self, live: tuple[str, ...], window: Window, *, at_s: float) -> Answer:
        """Returns the answer of the best engine that is open for the live modalities.

        Args:
            live: modalities that may be used, in the manifest's order.
            window: modality -> features (1, T, D) and mask (1, T).
            at_s: session time.
        """
        roster = self._roster
        with self._lock:
            roster.at_s = at_s
            failed: list[tuple[Runner, str]] = []
            windows: dict[str, tuple[Array, Array]] = {}
            notes: dict[str, str] = {}
            while True:
                plan = roster.plan(live)
                if plan.wanted is not None and self._opener.request(plan.wanted):
                    continue
                if plan.subset is None:
                    tell_failures(self._tell, failed, None)
                    return Answer(None, None, {}, {**plan.notes, **notes})
                runner = roster.snapshot.engines[plan.subset]
                feed: dict[str, Array] = {}
                for name, features, mask in plan.inputs:
                    if name not in windows:
                        windows[name] = window(name)
                    feed[features], feed[mask] = windows[name]
                outputs, why = attempt(runner, feed)
                if not why:
                    break
                bad = [name for name, (features, _) in windows.items() if not np.isfinite(features).all()]
                if bad:  # not this engine's fault, and any other would fail on it too
                    notes |= dict.fromkeys(bad, "live, but its features hold numbers that are not finite")
                    live = tuple(name for name in live if name not in bad)
                    continue
                failed.append((runner, why))
                roster.fail(plan.subset, runner, why)
                self._opener.tally.set_aside += 1
                self._opener.retire([runner])
            roster.answered(plan.subset)
            if failed:
                tell_failures(self._tell, failed, runner)
            return Answer(plan.subset, runner, outputs, {**plan.notes, **notes} if notes else plan.notes)

    def offer(self, name: str, runner: Runner, why: str, *, memory_bytes: int = 0) -> None:
        """Takes an opened runner, once its answers are those that it must give, from the next hop on.

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
            self._check_open()
            snapshot = self.snapshot
        if name not in snapshot.names:
            raise ReloadError(f"no {name!r} in use here; there are: {', '.join(snapshot.names)}")
        check_answers(snapshot.bundle, name, runner, snapshot.runner(name))
        prepared = self._roster.prepare(name, runner)
        with self._lock:
            self._check_open()
            if not snapshot.same_files(name, self.snapshot):
                raise ReloadError(
                    f"the bundle was replaced while {called(runner)} was checked; make it from the newer one"
                )
            before = self.snapshot.runner(name)
            self._opener.tally.time_exchange(
                lambda: self._roster.install(name, runner, memory_bytes=memory_bytes, prepared=prepared)
            )
            gone = self._opener.make_room(name)
        self._opener.retire(gone)
        tell_change(self._tell, runner, why, before)

    def exchange(self, fresh: Snapshot) -> float:
        """Puts the snapshot of a newer bundle in the place of this one; closes what is not in use any more.

        What was set aside, opened or offered meanwhile of files that are the same in both stays as it is.

        Returns:
            the seconds that hops had to wait.

        Raises:
            SessionClosedError: the session was closed meanwhile.
        """
        self._roster.learn(fresh)
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
            seconds = self._opener.tally.time_exchange(lambda: self._roster.change(fresh))
            surplus += self._opener.make_room("")
        old.close(but=self.snapshot)
        for runner in surplus:
            runner.close()
        return seconds

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Does something about engines in the pool's thread, after what is under way there.

        Raises:
            SessionClosedError: the session is closed.
        """
        return self._worker.submit(job)

    def usage(self) -> dict[str, int]:
        """Returns subset -> how often it has answered."""
        with self._lock:
            return dict(self._roster.answers)

    def stats(self) -> PoolStats:
        """Returns how the engines are and what has happened to them."""
        self._roster.footprints.learn(self.snapshot.bundle)
        with self._lock:
            parts = {
                name: part_stats(self._roster, name, opening=name in self._opener.opening)
                for name in self.snapshot.names
            }
            return PoolStats(
                parts=parts,
                memory_mb=round(self._roster.used_bytes() / 1e6, 2),
                memory_budget_mb=self._roster.options.memory_budget_mb,
                **vars(self._opener.tally),
            )

    def words(self) -> dict[str, str]:
        """Returns subset or ``stem.<modality>`` -> what runs and why, in words."""
        return {name: str(part) for name, part in self.stats().parts.items()}

    def close(self, *, timeout_s: float = 1.5) -> None:
        """Closes everything that is open. May be called twice.

        Waits `timeout_s` for what is being opened; if that takes longer, its thread closes it in the end.
        """
        with self._lock:
            self._opener.closed = True
        # Outside the lock, which the job under way may wait for; it then sees the end.
        self._worker.close(timeout_s)
        with self._lock:
            self.snapshot.close()

    def _check_open(self) -> None:
        if self._opener.closed:
            raise SessionClosedError("this session is closed; open a new one")
