"""What failed at run time and is not used for a while, with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FIRST_S, LONGEST_S = 60.0, 3600.0
"""Seconds until something that failed is tried again: a driver that ran out of memory may have it back. Each
failure doubles the time, so that what is broken for good costs an opening an hour."""

Place = tuple[str, str]  # backend, variant
BY_OPTIONS: Place = ("auto", "auto")
"""The place of what is opened as the options say, before anything of it has failed."""


def place_words(place: Place) -> str:
    """Returns a place as a person reads it, such as ``int8 on cpu``."""
    return "chosen here" if place == BY_OPTIONS else f"{place[1]} on {place[0]}"


@dataclass(frozen=True)
class SetAside:
    """One failure.

    Attributes:
        why: one sentence.
        failures: how often it has failed in a row of tries.
        until_s: session time from which it may be tried again.
    """

    why: str
    failures: int
    until_s: float


class Aside:
    """What was set aside: backend and variant of each stem and engine that failed."""

    def __init__(self) -> None:
        self._found: dict[str, dict[Place, SetAside]] = {}

    def add(self, name: str, place: Place, why: str, *, at_s: float) -> SetAside:
        """Sets one aside, for twice as long as the time before."""
        before = self._found.get(name, {}).get(place)
        failures = before.failures + 1 if before else 1
        until_s = at_s + min(FIRST_S * 2.0 ** (failures - 1), LONGEST_S)
        found = SetAside(why, failures, until_s)
        self._found.setdefault(name, {})[place] = found
        return found

    def forget(self, name: str, place: Place | None = None) -> None:
        """Gives a stem or engine, or one place of it, a fresh chance."""
        if place is None:
            self._found.pop(name, None)
        else:
            self._found.get(name, {}).pop(place, None)

    def of(self, name: str) -> dict[Place, SetAside]:
        """Returns what was set aside of a stem or engine."""
        return self._found.get(name, {})

    def usable(self, name: str, places: Iterable[Place], *, at_s: float) -> list[Place]:
        """Returns the places of a stem or engine that are not set aside at `at_s`, in their order."""
        found = self.of(name)
        return [place for place in places if place not in found or found[place].until_s <= at_s]

    def why(self, name: str) -> str:
        """Says what of a stem or engine failed and why; empty where nothing did."""
        return "; ".join(f"{place_words(place)}: {found.why}" for place, found in self.of(name).items())

    def next_try_s(self, at_s: float) -> float:
        """Returns the earliest time after `at_s` at which something may be tried again, or infinity."""
        times = (found.until_s for places in self._found.values() for found in places.values())
        return min((until_s for until_s in times if until_s > at_s), default=float("inf"))
