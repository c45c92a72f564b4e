"""Low-rank adapters: read from PEFT's layout, checked against their base, merged exactly.

``W_merged = W + s_common B_common A_common + s_k B_k A_k`` with ``s = alpha / r`` (LoRA, arXiv
2106.09685, section 4.1; the common pair is MCULoRA's, arXiv 2507.11202). BLAS differs between CPUs, so
the products are summed rank by rank in float64 and cast once: the same files give the same bytes
everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import CheckpointError
from edgeemo.export.adapters.peft import Halves, read_config, read_peft

WEIGHT = ".weight"
_CACHED = 32768  # float64 numbers of a weight that are worked on at a time


@dataclass(frozen=True)
class LowRankPair:
    """What one adapter adds to one weight as it is stored: ``scale * b @ a``.

    Attributes:
        a: (r, in) fp32; (r, out) where the weight is stored (in, out).
        b: (out, r) fp32; (in, r) where the weight is stored (in, out).
        scale: alpha / r, or alpha / sqrt(r) where the adapter is rank-stabilized.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float


@dataclass(frozen=True)
class Adapter:
    """The pairs of one subset, or the common ones, by the name of the adapted module."""

    name: str
    pairs: Mapping[str, LowRankPair]


def read_adapter(
    folder: Path,
    name: str,
    base_sha256: str | None,
    weights: Mapping[str, NDArray[np.generic]],
    *,
    transposed: Collection[str] | None = None,
) -> Adapter:
    """Returns the adapter in ``folder``, checked against the base that it was trained over.

    Args:
        folder: holds ``adapter_model.safetensors`` and ``adapter_config.json``.
        name: of the subset, or ``"common"``, for messages.
        base_sha256: SHA-256 of the base's ``model.safetensors``; None for a folder as PEFT itself writes
            it, which does not name its base.
        weights: the base weights by name.
        transposed: the modules whose weight is stored (in, out); None where nobody but the config's
            ``fan_in_fan_out`` can tell. It says one word for all modules, and PEFT itself asks each layer.

    Raises:
        CheckpointError: made for another base, of a kind that is not a plain low-rank sum, or with a
            tensor that is missing, extra, misshapen or not finite (named).
    """
    config = read_config(folder)
    if base_sha256 is not None and (found := config.text("base_sha256")) != base_sha256:
        config.fail(
            f"the adapter {name!r} was trained over a base with SHA-256 {found}, and this base has "
            f"{base_sha256}; adapters fit the base they were trained over and no other: merge it into that "
            "one, or train it again over this one"
        )
    modules = {key.removesuffix(WEIGHT) for key in weights if key.endswith(WEIGHT)}
    adapter = read_peft(folder, config, modules=modules)
    pairs: dict[str, LowRankPair] = {}
    for module, halves in adapter.halves.items():
        turned = adapter.fan_in_fan_out if transposed is None else module in transposed
        shape = weights[f"{module}{WEIGHT}"].shape
        pairs[module] = stored_pair(adapter.where, module, halves, shape, transposed=turned)
    return Adapter(name=name, pairs=pairs)


def stored_pair(
    where: str, module: str, halves: Halves, shape: tuple[int, ...], *, transposed: bool
) -> LowRankPair:
    """Returns what an adapter adds to a weight as it is stored.

    Args:
        where: the adapter's file, for messages.
        module: the adapted module.
        halves: its factors, A (r, in) and B (out, r).
        shape: of the stored weight.
        transposed: the weight is stored (in, out) instead of (out, in).

    Raises:
        CheckpointError: a factor does not fit the rank or the weight.
    """
    layer = shape[::-1] if transposed else shape  # (out, in)
    expected = {"A": (halves.rank, layer[-1]), "B": (layer[0], halves.rank)}
    for side, array in (("A", halves.a), ("B", halves.b)):
        if len(shape) != 2 or array.shape != expected[side]:
            raise CheckpointError(
                f"{where}: 'base_model.model.{module}.lora_{side}.weight' has shape {list(array.shape)}; "
                f"expected {list(expected[side])} (rank {halves.rank} over a weight of shape {list(shape)}"
                f"{', stored (in, out)' if transposed else ''}): wrong base, or the config of another adapter"
            )
    a, b = np.asarray(halves.a, dtype=np.float32), np.asarray(halves.b, dtype=np.float32)
    if transposed:  # (B A)^T = A^T B^T
        a, b = np.ascontiguousarray(b.T), np.ascontiguousarray(a.T)
    return LowRankPair(a=a, b=b, scale=halves.scale)


def merge_adapters(
    weights: Mapping[str, NDArray[np.float32]], adapters: Sequence[Adapter]
) -> dict[str, NDArray[np.float32]]:
    """Returns all weights with the adapters' products added to the modules that they adapt.

    Args:
        weights: base weights by name; not changed.
        adapters: applied in this order; each product is added rank by rank, in float64.

    Returns:
        name -> fp32 array; arrays that no adapter touches are the ones given.

    Raises:
        CheckpointError: a merged weight (named) does not fit fp32.
    """
    merged = dict(weights)
    for name in weights:
        module = name.removesuffix(WEIGHT)
        pairs = [adapter.pairs[module] for adapter in adapters if module in adapter.pairs]
        if name != module and pairs:
            merged[name] = merge_pairs(name, weights[name], pairs)
    return merged


def merge_pairs(name: str, weight: NDArray[np.float32], pairs: Sequence[LowRankPair]) -> NDArray[np.float32]:
    """Returns one weight with the products of ``pairs`` added, in float64 and cast once.

    Raises:
        CheckpointError: the merged weight does not fit fp32.
    """
    total = weight.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name below
        for pair in pairs:
            add_low_rank(total, pair)
        merged = total.astype(np.float32)
    broken = int(merged.size - np.count_nonzero(np.isfinite(merged)))
    if broken:
        scales = ", ".join(f"{pair.scale:g}" for pair in pairs)
        raise CheckpointError(
            f"the weight {name!r} merged with its adapters holds {broken} numbers that do not fit float32; "
            f"lora_alpha / r is {scales}: the adapter's config is damaged or the training diverged"
        )
    return merged


def add_low_rank(total: NDArray[np.float64], pair: LowRankPair) -> None:
    """Adds ``scale * b @ a`` to ``total`` in place, one rank-1 product after the other.

    Some rows at a time, as many as stay in the processor's cache: each number is the same sum either way.
    """
    scaled = pair.b.astype(np.float64) * pair.scale  # (rows, r)
    rows = pair.a.astype(np.float64)  # (r, columns)
    step = max(1, _CACHED // max(1, rows.shape[1]))
    for start in range(0, len(scaled), step):
        part = total[start : start + step]
        for column, row in zip(scaled[start : start + step].T, rows, strict=True):
            part += column[:, None] * row[None, :]
