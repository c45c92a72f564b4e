"""Low-rank adapters: read from PEFT's layout, checked against their base, merged exactly.

``W_merged = W + s_common B_common A_common + s_k B_k A_k`` with ``s = alpha / r`` (LoRA, arXiv
2106.09685, section 4.1; the common pair is MCULoRA's, arXiv 2507.11202). BLAS differs between CPUs, so
the products are summed rank by rank in float64 and cast once: the same files give the same bytes
everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.fields import Fields, parse_json
from edgeemo.bundle.tensors import read_tensors
from edgeemo.errors import CheckpointError

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# What PEFT can express and a plain sum of products cannot.
_UNSUPPORTED = ("use_rslora", "use_dora", "fan_in_fan_out")


@dataclass(frozen=True)
class LowRankPair:
    """What one adapter adds to one Linear: ``scale * b @ a``.

    Attributes:
        a: (r, in) fp32.
        b: (out, r) fp32.
        scale: alpha / r.
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
    folder: Path, name: str, base_sha256: str | None, weights: Mapping[str, NDArray[np.generic]]
) -> Adapter:
    """Returns the adapter in ``folder``, checked against the base that it was trained over.

    Args:
        folder: holds ``adapter_model.safetensors`` and ``adapter_config.json``.
        name: of the subset, or ``"common"``, for messages.
        base_sha256: SHA-256 of the base's ``model.safetensors``; None for a folder as PEFT itself writes
            it, which does not name its base.
        weights: the base weights by name.

    Raises:
        CheckpointError: made for another base, of a kind that is not a plain low-rank sum, or with a
            tensor that is missing, extra, misshapen or not finite (named).
    """
    config = _read_config(folder / CONFIG_FILE)
    if base_sha256 is not None and (found := config.text("base_sha256")) != base_sha256:
        config.fail(
            f"the adapter {name!r} was trained over a base with SHA-256 {found}, and this base has "
            f"{base_sha256}; adapters fit the base they were trained over and no other"
        )
    _refuse_other_kinds(config)
    tensors = read_tensors(folder / WEIGHTS_FILE, CheckpointError)
    halves: dict[str, dict[str, NDArray[np.generic]]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or f"{match['module']}.weight" not in weights:
            raise CheckpointError(
                f"{folder / WEIGHTS_FILE}: extra tensor {key!r}; expected "
                "base_model.model.<module>.lora_A.weight and lora_B.weight for modules of the base"
            )
        check_tensor(f"{folder / WEIGHTS_FILE}: {key!r}", tensor, None)
        halves.setdefault(match["module"], {})[match["side"]] = tensor
    pairs: dict[str, LowRankPair] = {}
    for module in sorted(halves):
        sides = halves[module]
        for side in "AB":
            if side not in sides:
                raise CheckpointError(
                    f"{folder / WEIGHTS_FILE}: missing tensor 'base_model.model.{module}.lora_{side}.weight'"
                )
        rank, alpha = _pattern(config, "r", "rank_pattern", module), _alpha(config, module)
        base = weights[f"{module}.weight"].shape
        expected = {"A": (int(rank), base[-1]), "B": (base[0], int(rank))}
        for side, shape in expected.items():
            if len(base) != 2 or sides[side].shape != shape:
                raise CheckpointError(
                    f"{folder / WEIGHTS_FILE}: 'base_model.model.{module}.lora_{side}.weight' has shape "
                    f"{list(sides[side].shape)}; expected {list(shape)} (rank {rank:g} over a weight of "
                    f"shape {list(base)})"
                )
        pairs[module] = LowRankPair(
            a=np.asarray(sides["A"], dtype=np.float32),
            b=np.asarray(sides["B"], dtype=np.float32),
            scale=alpha / rank,
        )
    _check_targets(config, pairs)
    return Adapter(name=name, pairs=pairs)


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
        module = name.removesuffix(".weight")
        pairs = [adapter.pairs[module] for adapter in adapters if module in adapter.pairs]
        if name == module or not pairs:
            continue
        total = weights[name].astype(np.float64)  # (out, in)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name below
            for pair in pairs:
                add_low_rank(total, pair)
            merged[name] = total.astype(np.float32)
        _check_merged(name, merged[name], pairs)
    return merged


def _check_merged(name: str, merged: NDArray[np.float32], pairs: Sequence[LowRankPair]) -> None:
    broken = int(merged.size - np.count_nonzero(np.isfinite(merged)))
    if broken:
        scales = ", ".join(f"{pair.scale:g}" for pair in pairs)
        raise CheckpointError(
            f"the weight {name!r} merged with its adapters holds {broken} numbers that do not fit float32; "
            f"lora_alpha / r is {scales}: the adapter's config is damaged or the training diverged"
        )


def add_low_rank(total: NDArray[np.float64], pair: LowRankPair) -> None:
    """Adds ``scale * b @ a`` to ``total`` (out, in) in place, one rank-1 product after the other."""
    scaled = pair.b.astype(np.float64) * pair.scale  # (out, r)
    rows = pair.a.astype(np.float64)  # (r, in)
    for column, row in zip(scaled.T, rows, strict=True):
        total += column[:, None] * row[None, :]


def check_tensor(what: str, tensor: NDArray[np.generic], shape: tuple[int, ...] | None) -> None:
    """Raises `CheckpointError` unless ``tensor`` is fp32, finite and of ``shape`` (where given)."""
    if tensor.dtype != np.float32:
        raise CheckpointError(f"{what} is {tensor.dtype}; expected float32")
    if shape is not None and tensor.shape != shape:
        raise CheckpointError(f"{what} has shape {list(tensor.shape)}; expected {list(shape)}")
    broken = int(tensor.size - np.count_nonzero(np.isfinite(tensor)))
    if broken:
        raise CheckpointError(
            f"{what} holds {broken} numbers that are not finite; the training diverged or the file is damaged"
        )


def _read_config(path: Path) -> Fields:
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be read ({reason.strerror or reason})") from None
    return Fields(parse_json(data, str(path), CheckpointError), str(path), CheckpointError)


def _refuse_other_kinds(config: Fields) -> None:
    config.text("peft_type", choices=("LORA",))
    for option in _UNSUPPORTED:
        if option in config.names() and config.value(option):
            config.fail(f"{option!r} is set; this exporter merges plain LoRA pairs")
    if "bias" in config.names() and config.value("bias") != "none":
        config.fail("'bias' is set; this exporter merges low-rank pairs only, with bias 'none'")
    if "modules_to_save" in config.names() and config.value("modules_to_save"):
        config.fail("'modules_to_save' is set; this exporter merges low-rank pairs only")


def _check_targets(config: Fields, pairs: Mapping[str, LowRankPair]) -> None:
    """Raises unless the adapter holds exactly the modules that its config names."""
    targets = config.texts("target_modules")
    if not targets:
        config.fail("'target_modules' is empty; expected the names of the adapted modules")
    for target in targets:
        if not any(_names_module(target, module) for module in pairs):
            config.fail(f"missing tensor: no pair of {WEIGHTS_FILE} adapts {target!r}")
    for module in pairs:
        if not any(_names_module(target, module) for target in targets):
            config.fail(f"extra tensor: the pair of {module!r} belongs to none of 'target_modules'")


def _names_module(pattern: str, module: str) -> bool:
    """Tells whether a pattern of PEFT's is the module's name or its end."""
    return module == pattern or module.endswith(f".{pattern}")


def _alpha(config: Fields, module: str) -> float:
    return _pattern(config, "lora_alpha", "alpha_pattern", module)


def _pattern(config: Fields, default: str, patterns: str, module: str) -> float:
    """Returns PEFT's number for a module: its pattern's, or the default."""
    if patterns in config.names():
        entry = config.fields(patterns)
        for key in entry.names():
            if _names_module(key, module):
                return entry.number(key, above=0.0)
    return config.number(default, above=0.0)
