"""For a set of live modalities: which engine runs, which is wanted, and what a reading says of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from edgeemo.modality import subset_members
from edgeemo.session.choice import rank_subsets

NO_NOTES: Mapping[str, str] = {}


class Warmth(Enum):
    """How an engine is."""

    WARM = "warm"
    """Open; it can answer this hop."""
    COLD = "cold"
    """It can be opened."""
    ASIDE = "set aside"
    """Everything that it could run as has failed."""
    TOO_LARGE = "too large"
    """The memory budget has no room for it, whatever else is closed."""


@dataclass(frozen=True)
class Plan:
    """What is done for one set of live modalities while engines stay as they are.

    Attributes:
        subset: whose engine answers; None where none can.
        wanted: the subset whose engine ought to be opened for the next hops; None where none is better.
        notes: live modality that is not used -> the sentence that says why.
        inputs: for each modality of the subset its name and the engine's inputs for features and mask.
    """

    subset: str | None
    wanted: str | None
    notes: Mapping[str, str]
    inputs: tuple[tuple[str, str, str], ...]


def make_plan(
    live: tuple[str, ...],
    subsets: tuple[str, ...],
    look: Callable[[str], tuple[Warmth, str]],
    smallest: Callable[[tuple[str, ...]], str],
) -> Plan:
    """Returns what to do for the live modalities.

    Args:
        live: modalities that may be used, in their order.
        subsets: those that may be served.
        look: tells how the engine of a subset is, and why.
        smallest: picks the subset whose engine takes least memory.
    """
    ranked = rank_subsets(live, subsets)
    found = {subset: look(subset) for subset in ranked}
    serving = next((subset for subset in ranked if found[subset][0] is Warmth.WARM), None)
    better = ranked if serving is None else ranked[: ranked.index(serving)]
    wanted = next((subset for subset in better if found[subset][0] is Warmth.COLD), None)
    large = tuple(subset for subset in better if found[subset][0] is Warmth.TOO_LARGE)
    if serving is None and wanted is None and large:
        wanted = smallest(large)  # beyond the budget, but an engine is what a session is for
    members = subset_members(serving) if serving else ()
    inputs = tuple((name, f"features.{name}", f"mask.{name}") for name in members)
    unused = [name for name in live if name not in members]
    notes = dict.fromkeys(unused, _note(live, serving, wanted, found)) if unused else NO_NOTES
    return Plan(serving, wanted, notes, inputs)


def _note(
    live: tuple[str, ...],
    serving: str | None,
    wanted: str | None,
    found: Mapping[str, tuple[Warmth, str]],
) -> str:
    """Says why not all that is live is used."""
    meanwhile = f"{serving} serves" if serving else "nothing else can serve"
    if wanted is not None:
        return f"live, but the engine of {wanted} is being opened; {meanwhile} meanwhile"
    exact = next((subset for subset in found if set(subset_members(subset)) == set(live)), None)
    if exact is None and serving is not None:
        return "live, but no engine here takes it with the others"
    best = exact if exact is not None else next(iter(found), None)
    if best is None:
        return "live, but no engine here takes it"
    warmth, why = found[best]
    if warmth is Warmth.TOO_LARGE:
        return f"live, but the engine of {best} does not fit the memory budget: {why}; {meanwhile}"
    return f"live, but the engine of {best} was set aside ({why}); {meanwhile}"
