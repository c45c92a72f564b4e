"""Who serves, who stands by, who was set aside, and what has to go for whom; without a thread or a lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from edgeemo.modality import subset_members
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.open import AUTO, fallbacks
from edgeemo.session.engines.aside import BY_OPTIONS, Aside, Place
from edgeemo.session.engines.memory import Footprints
from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.plan import Plan, Warmth, make_plan
from edgeemo.session.engines.preload import likely_size_of, size_of
from edgeemo.session.engines.snapshot import STEM, Snapshot


class Roster:
    """The open engines and what is known of the others. Not safe for several threads; its pool is.

    Args:
        snapshot: what is open at first.
        options: how the others are opened.
    """

    def __init__(self, snapshot: Snapshot, options: EngineOptions) -> None:
        self.snapshot, self.options = snapshot, options
        self.at_s = 0.0
        """Session time of the newest hop."""
        self.aside = Aside()
        self.footprints = Footprints()
        self._given: WeakKeyDictionary[Runner, int] = WeakKeyDictionary()  # bytes, where its giver knows
        self._used: dict[str, int] = {}  # subset -> number of its newest answer
        self._answers = 0
        self.answers: Counter[str] = Counter()
        """Subset -> how often it has answered."""
        self._places: dict[tuple[str, ...], tuple[Place, ...]] = {}
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._plans_until_s = float("inf")
        self.learn(snapshot)

    def plan(self, live: tuple[str, ...]) -> Plan:
        """Returns what to do for the live modalities; the same until something changes."""
        if self.at_s >= self._plans_until_s:
            self._plans.clear()
        found = self._plans.get(live)
        if found is None:
            found = make_plan(
                live,
                self.snapshot.subsets,
                self.look,
                lambda subsets: min(subsets, key=self._likely_size),
            )
            self._plans[live] = found
            self._plans_until_s = self.aside.next_try_s(self.at_s)
        return found

    def look(self, name: str) -> tuple[Warmth, str]:
        """Tells how a stem or engine is, and why."""
        if self.snapshot.runner(name) is not None:
            return Warmth.WARM, ""
        if self.next_place(name) is None:
            return Warmth.ASIDE, self.aside.why(name)
        if self.options.memory_budget_mb is not None and not name.startswith(STEM):
            needed = self._likely_size(name) + sum(map(self.size, self.snapshot.stems.values()))
            if needed > self.options.memory_budget_bytes:
                budget = self.options.memory_budget_mb
                return Warmth.TOO_LARGE, f"with the stems it takes {needed / 1e6:.1f} of {budget:g} MB"
        return Warmth.COLD, ""

    def next_place(self, name: str) -> Place | None:
        """Returns as what a stem or engine is opened next; None where all that it can be has failed."""
        if not self.aside.of(name) and self.options.variant == AUTO:
            return BY_OPTIONS
        places = self._places_of(tuple(self.snapshot.files(name)))
        return next(iter(self.aside.usable(name, places, at_s=self.at_s)), None)

    def _places_of(self, variants: tuple[str, ...]) -> tuple[Place, ...]:
        """Returns all that something in these variants can run as here; asks the backends once."""
        found = self._places.get(variants)
        if found is None:
            found = fallbacks(variants, variant=self.options.variant, backend=self.options.backend)
            self._places[variants] = found
        return found

    def learn(self, snapshot: Snapshot) -> None:
        """Finds out beside the hops what they would else have to wait for: backends, sizes of graphs."""
        for name in snapshot.names:
            self._places_of(tuple(snapshot.files(name)))
        if self.options.memory_budget_mb is not None:
            self.footprints.learn(snapshot.bundle)

    def answered(self, subset: str) -> None:
        """Takes note of who has answered; the least recent goes first."""
        self._answers += 1
        self._used[subset] = self._answers
        self.answers[subset] += 1

    def change(self, snapshot: Snapshot) -> None:
        """Puts another snapshot in the place of this one."""
        self.snapshot = snapshot
        self.replan()

    def replan(self) -> None:
        """Forgets what was planned, after something that plans depend on has changed."""
        self._plans.clear()

    def fail(self, name: str, runner: Runner, why: str) -> None:
        """Sets a runner aside; what stands by serves in its place, if anything does."""
        self.aside.add(name, (runner.backend, runner.variant), why, at_s=self.at_s)
        self.change(self.snapshot.having(name, _without(self.snapshot.of(name), runner)))

    def prepare(self, name: str, runner: Runner) -> tuple[Snapshot, Snapshot]:
        """Returns the snapshot of now and that in which a runner serves; for `install`, without the lock."""
        now = self.snapshot
        return now, now.having(name, (runner, *now.of(name)))

    def install(
        self,
        name: str,
        runner: Runner,
        *,
        memory_bytes: int = 0,
        prepared: tuple[Snapshot, Snapshot] | None = None,
    ) -> None:
        """Lets a runner serve; what served before stands by.

        Args:
            name: a subset or ``stem.<modality>``.
            runner: opened and checked.
            memory_bytes: what it takes, where that is known.
            prepared: from `prepare`; then this is an assignment unless something has changed since.
        """
        if memory_bytes:
            self._given[runner] = memory_bytes
        if prepared is None or prepared[0] is not self.snapshot:
            prepared = self.prepare(name, runner)
        self.change(prepared[1])

    def make_room(self, name: str, *, needed: int | None = None) -> list[Runner]:
        """Takes runners away until the budget has room for `name`; returns them, to be closed.

        Args:
            name: what must stay.
            needed: bytes that it will take; None where it is open already. Then even what answered last
                may go, which until then had to serve.
        """
        if self.options.memory_budget_mb is None:
            return []
        gone: list[Runner] = []
        last = max(self._used, key=lambda subset: self._used[subset], default="")
        keep = (name,) if needed is None else (name, last)
        for owner, runner in list(self._victims(keep)):
            if self.used_bytes() + (needed or 0) <= self.options.memory_budget_bytes:
                break
            self.snapshot = self.snapshot.having(owner, _without(self.snapshot.of(owner), runner))
            gone.append(runner)
        if gone:
            self.replan()
        return gone

    def room_for(self, name: str) -> list[Runner]:
        """Makes room for an engine that is about to be opened; as `make_room`."""
        return self.make_room(name, needed=self._likely_size(name)) if not name.startswith(STEM) else []

    def _victims(self, keep: tuple[str, ...]) -> Iterator[tuple[str, Runner]]:
        """Yields what may be closed: what stands by, then engines, least recently used first.

        Engines of single modalities come last: while they are open, whatever is live is served.
        """
        for name, runners in self.snapshot.standby.items():
            yield from ((name, runner) for runner in reversed(runners))
        names = [name for name in self.snapshot.engines if name not in keep]
        for name in sorted(names, key=lambda one: (len(subset_members(one)) == 1, self._used.get(one, 0))):
            yield name, self.snapshot.engines[name]

    def size(self, runner: Runner) -> int:
        """Returns the estimated memory of an open runner, in bytes."""
        given = self._given.get(runner)
        return size_of(self.footprints, self.snapshot.bundle, runner) if given is None else given

    def used_bytes(self) -> int:
        """Returns the estimated memory of everything that is open."""
        return sum(map(self.size, self.snapshot.runners()))

    def _likely_size(self, name: str) -> int:
        return likely_size_of(self.footprints, self.snapshot, name, self.options)


def _without(runners: tuple[Runner, ...], gone: Runner) -> tuple[Runner, ...]:
    return tuple(runner for runner in runners if runner is not gone)
