"""How the engines of a session are, in numbers and words."""

from __future__ import annotations

from dataclasses import dataclass

from edgeemo.session.engines.aside import place_words
from edgeemo.session.engines.plan import Warmth
from edgeemo.session.engines.roster import Roster


@dataclass(frozen=True)
class PartStats:
    """How one stem or engine is.

    Attributes:
        state: ``warm`` (open), ``cold``, ``opening``, ``set aside`` (all that it could run as has failed) or
            ``too large`` (for the memory budget).
        backend: that really computes; None where it is not open.
        variant: that runs; None where it is not open.
        why: why this variant runs, or why none does.
        memory_mb: estimate of what it takes, what stands by included; 0 where it is not open.
        standby: what takes over where it fails, such as ``"int8 on cpu"``; the next best first.
        set_aside: what has failed of it, such as ``"int8 on cpu"`` -> the reason.
    """

    state: str
    backend: str | None
    variant: str | None
    why: str
    memory_mb: float
    standby: tuple[str, ...]
    set_aside: dict[str, str]

    def __str__(self) -> str:
        if self.backend is None:
            return f"{self.state}{': ' if self.why else ''}{self.why}"
        return f"{self.backend}, {self.why or self.variant}"


@dataclass(frozen=True)
class PoolStats:
    """How the engines of a session are.

    Attributes:
        parts: subset or ``stem.<modality>`` -> how it is.
        memory_mb: estimate of what all that is open takes.
        memory_budget_mb: what it may take; None where there is no limit.
        opened: engines and stems that were opened while the session ran.
        evicted: engines that were closed for the budget.
        set_aside: times that one failed.
        exchanges: times that open engines were exchanged for others between two hops.
        swap_ms: how long the longest of these kept a hop from running; None before the first.
    """

    parts: dict[str, PartStats]
    memory_mb: float
    memory_budget_mb: float | None
    opened: int = 0
    evicted: int = 0
    set_aside: int = 0
    exchanges: int = 0
    swap_ms: float | None = None


def part_stats(roster: Roster, name: str, *, opening: bool) -> PartStats:
    """Returns how one stem or engine is."""
    warmth, why = roster.look(name)
    runners = roster.snapshot.of(name)
    serving = runners[0] if runners else None
    if serving is not None:
        why = str(serving.choice) if serving.choice else ""
    return PartStats(
        state="opening" if opening and warmth is not Warmth.WARM else warmth.value,
        backend=serving.backend if serving else None,
        variant=serving.variant if serving else None,
        why=why,
        memory_mb=round(sum(map(roster.size, runners)) / 1e6, 2),
        standby=tuple(f"{runner.variant} on {runner.backend}" for runner in runners[1:]),
        set_aside={place_words(place): found.why for place, found in roster.aside.of(name).items()},
    )
