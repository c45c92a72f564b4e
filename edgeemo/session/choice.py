"""Which subset's engine serves the modalities that are live."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgeemo.modality import subset_members


def rank_subsets(live: Collection[str], available: Sequence[str]) -> tuple[str, ...]:
    """Returns the available subsets whose modalities are all live, the largest first.

    Among equals the order of `available` counts.

    Args:
        live: modalities that may be used.
        available: canonical names of the subsets that have an engine.
    """
    fitting = [subset for subset in available if set(subset_members(subset)) <= set(live)]
    return tuple(sorted(fitting, key=lambda subset: -len(subset_members(subset))))


def choose_subset(live: Collection[str], available: Sequence[str]) -> str | None:
    """Returns the largest available subset whose modalities are all live; None where there is none.

    With an engine for every subset that is exactly the set of live modalities. A partial bundle falls
    back to the largest part of it; among equals the first in `available` wins.

    Args:
        live: modalities that may be used.
        available: canonical names of the subsets that have an engine.
    """
    return next(iter(rank_subsets(live, available)), None)
