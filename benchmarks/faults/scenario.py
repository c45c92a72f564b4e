"""What happens when: faults, the scenarios made of them, and which of them are tried."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from edgeemo.modality import AUDIO, TEXT, VIDEO

MODALITIES = (AUDIO, VIDEO, TEXT)
ON_S = 4.0  # every modality is live by then, unless its device was absent
LASTS_S = 5.0
SHORT_S = 1.5  # less than a window holds
_BEGINS_S = (0.05, 0.35)  # after a hop
AFTER_S = 6.0  # for coming back, and to be seen steady afterwards
FLAP_S = 0.2
JUMP_S = 3.0
STALL_S = 1.2


class Kind(str, Enum):
    """The kinds of faults; the package's docstring says what each means for each modality."""

    ABSENT = "absent at start"
    UNPLUGGED = "unplugged"
    HANGS = "hangs"
    REPEATS = "repeats"
    ZEROS = "zeros"
    NOISE = "noise burst"
    WRONG_RATE = "wrong rate"
    COMES_BACK = "comes back"
    FLAPS = "flaps every 200 ms"
    SLOW_CONSUMER = "slow consumer"
    CLOCK_JUMP = "clock jump"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Fault:
    """One fault of one device, between two times on the session's clock."""

    modality: str
    kind: Kind
    start_s: float
    end_s: float

    def __str__(self) -> str:
        return f"{self.modality} {self.kind}"


@dataclass(frozen=True)
class Scenario:
    """One run.

    Attributes:
        faults: at most one a modality.
        seed: of whatever is random in it.
        elsewhere_until_s: until then, devices with a fault play another part of the recording.
    """

    faults: tuple[Fault, ...]
    seed: int
    elsewhere_until_s: float = 0.0

    def __str__(self) -> str:
        return " and ".join(map(str, self.faults)) or "nothing fails"

    @property
    def end_s(self) -> float:
        """When the run is over."""
        return ON_S + 0.5 + LASTS_S + AFTER_S

    def of(self, modality: str) -> Fault | None:
        """Returns the fault of a modality's device; None where it is well."""
        return next((fault for fault in self.faults if fault.modality == modality), None)

    @property
    def stall(self) -> Fault | None:
        """The fault during which the application is slow to come back for the next reading."""
        return next((fault for fault in self.faults if fault.kind is Kind.SLOW_CONSUMER), None)


def make_scenario(*faults: tuple[str, Kind], seed: int) -> Scenario:
    """Returns a run of these faults; where in a hop each begins and ends comes from the seed.

    All begin late enough in a hop that an error must be seen at its end, and a deadline must not yet.
    """
    random = np.random.default_rng([seed, *(_number(modality, kind) for modality, kind in faults)])
    made = []
    for modality, kind in faults:
        begin_s = 0.0 if kind is Kind.ABSENT else ON_S + float(random.uniform(*_BEGINS_S))
        lasts_s = SHORT_S if kind is Kind.COMES_BACK else LASTS_S
        end_s = ON_S + lasts_s + float(random.uniform(0.0, 0.5))
        made.append(Fault(modality, kind, begin_s, float("inf") if kind is Kind.UNPLUGGED else end_s))
    return Scenario(tuple(made), seed)


def single_scenarios(*, seed: int = 0) -> list[Scenario]:
    """Returns every fault alone."""
    return [make_scenario(case, seed=seed) for case in _cases()]


def pair_scenarios(*, seed: int = 0) -> list[Scenario]:
    """Returns every two faults of two modalities at once."""
    pairs = itertools.combinations(_cases(), 2)
    return [make_scenario(one, two, seed=seed) for one, two in pairs if one[0] != two[0]]


def triple_scenarios(*, seed: int = 0) -> list[Scenario]:
    """Returns the faults that leave no signal, each of all modalities at once."""
    return [
        make_scenario(*((modality, kind) for modality in MODALITIES), seed=seed)
        for kind in (Kind.ABSENT, Kind.UNPLUGGED, Kind.HANGS, Kind.ZEROS)
    ]


def some_pair_scenarios(count: int, *, seed: int) -> list[Scenario]:
    """Returns `count` different pairs that a seed draws."""
    pairs = pair_scenarios(seed=seed)
    chosen = np.random.default_rng(seed).choice(len(pairs), size=count, replace=False)
    return [pairs[place] for place in sorted(chosen)]


def _cases() -> Iterator[tuple[str, Kind]]:
    return itertools.product(MODALITIES, Kind)


def _number(modality: str, kind: Kind) -> int:
    return MODALITIES.index(modality) * len(Kind) + list(Kind).index(kind)
