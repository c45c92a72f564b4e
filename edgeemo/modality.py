"""Words for modalities and for the subsets of them that engines exist for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import combinations

from edgeemo.errors import SubsetError

AUDIO = "audio"
VIDEO = "video"
TEXT = "text"
SEPARATOR = "+"


def subset_key(members: Iterable[str], order: Sequence[str]) -> str:
    """Returns the canonical name of a subset, such as ``"audio+video"``.

    Args:
        members: modality names, in any order; repetitions count once.
        order: the checkpoint's canonical order of its modalities.

    Raises:
        SubsetError: the subset is empty or names a modality that is not in ``order``.
    """
    wanted = set(members)
    unknown = sorted(wanted - set(order))
    if unknown:
        raise SubsetError(
            f"unknown modality {', '.join(map(repr, unknown))}; this model has: {', '.join(order)}"
        )
    if not wanted:
        raise SubsetError(f"a subset needs at least one modality; this model has: {', '.join(order)}")
    return SEPARATOR.join(modality for modality in order if modality in wanted)


def parse_subset(text: str, order: Sequence[str]) -> str:
    """Returns the canonical name of a subset that a person typed (``"video+audio"`` -> ``"audio+video"``).

    Raises:
        SubsetError: as `subset_key`.
    """
    return subset_key((part.strip() for part in text.split(SEPARATOR) if part.strip()), order)


@lru_cache(maxsize=1024)
def subset_members(key: str) -> tuple[str, ...]:
    """Returns the modalities of a canonical subset name, in its order."""
    return tuple(key.split(SEPARATOR))


def all_subsets(order: Sequence[str]) -> tuple[str, ...]:
    """Returns every non-empty subset: single modalities first, the full set last (7 for 3 modalities)."""
    sizes = range(1, len(order) + 1)
    return tuple(SEPARATOR.join(group) for size in sizes for group in combinations(order, size))
