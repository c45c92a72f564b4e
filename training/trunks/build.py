"""Builds a trunk of any family from plain options, as checkpoints and config files hold them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from edgeemo.errors import TrainingError
from edgeemo.training.answer import Answer
from edgeemo.training.lowrank import LowRankSpec
from edgeemo.training.trunks import crosstemporal, mculora, redifu

_TRUNKS: dict[str, tuple[type[nn.Module], LowRankSpec]] = {
    "mculora": (mculora.MCULoRATrunk, mculora.LOW_RANK),
    "crosstemporal": (crosstemporal.CrossTemporalTrunk, crosstemporal.LOW_RANK),
    "redifu": (redifu.ReDiFuTrunk, redifu.LOW_RANK),
}
FAMILIES = tuple(_TRUNKS)


class FamilyTrunk(Protocol):
    """What every family offers besides being a module; `build_trunk` returns one."""

    widths: dict[str, int]
    lengths: dict[str, int]
    per_position: bool

    def answer(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Answer:
        """Returns logits, evidence, and what else the family computes for the modalities present."""
        ...

    def extra_losses(
        self, answer: Answer, targets: Tensor, log_prior: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns the family's own loss terms, weighted: add them to the cross entropy as they are."""
        ...


def build_trunk(
    family: str, widths: Mapping[str, int], lengths: Mapping[str, int], classes: int, **options: Any
) -> nn.Module:
    """Returns a fresh trunk of a family.

    Args:
        family: one of `FAMILIES`.
        widths: modality -> feature width D_m, in canonical order.
        lengths: modality -> positions T_m of a window.
        classes: number of labels C.
        **options: keyword options of the family; `trunk_options` lists them.

    Raises:
        TrainingError: an unknown family or option; the message lists the valid ones.
    """
    known = trunk_options(family)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TrainingError(
            f"unknown option {', '.join(map(repr, unknown))} for a {family} trunk; "
            f"it has: {', '.join(sorted(known))}"
        )
    return _TRUNKS[family][0](widths, lengths, classes, **options)


def trunk_options(family: str) -> dict[str, Any]:
    """Returns the keyword options of a family with their defaults.

    Raises:
        TrainingError: an unknown family.
    """
    kind, _ = _entry(family)
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def low_rank_spec(family: str) -> LowRankSpec:
    """Returns which Linears of a family carry low-rank pairs: all but query, key and value.

    Raises:
        TrainingError: an unknown family.
    """
    return _entry(family)[1]


def _entry(family: str) -> tuple[type[nn.Module], LowRankSpec]:
    if family not in _TRUNKS:
        raise TrainingError(f"unknown family {family!r} of trunks; known are: {', '.join(FAMILIES)}")
    return _TRUNKS[family]
