"""Adapter folders as PEFT writes them, read and checked as far as that goes without their base.

``adapter_config.json`` says rank and strength of each pair, ``adapter_model.safetensors`` holds the pairs as
``base_model.model.<module>.lora_A.weight`` (r, in) and ``lora_B.weight`` (out, r). The module gains
``scale * B A x`` with ``scale = alpha / r`` (LoRA, arXiv 2106.09685, section 4.1) or, rank-stabilized,
``alpha / sqrt(r)`` (arXiv 2312.03732). Whatever else a config asks for is refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.fields import Fields, parse_json
from edgeemo.bundle.tensors import read_tensors
from edgeemo.errors import CheckpointError

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PICKLE = "adapter_model.bin"
_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_PLAIN_NAME = re.compile(r"[\w.-]*")
# Options of a config that say nothing about what is added to the base.
_INERT = frozenset(
    (
        "task_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "exclude_modules",
        "lora_dropout",
        "layers_to_transform",
        "layers_pattern",
        "megatron_core",
        "megatron_config",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "qalora_group_size",
        "runtime_config",
        "base_sha256",
    )
)
_READ = frozenset(
    (
        "peft_type",
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "fan_in_fan_out",
        "target_modules",
        "modules_to_save",
        "bias",
        "init_lora_weights",
    )
)
# Starts that leave the base as it is; the others (pissa, olora, ...) take something out of it first.
_HARMLESS_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Halves:
    """The two factors of one module and their strength: the module gains ``scale * b @ a``.

    Attributes:
        a: (r, in), as stored.
        b: (out, r), as stored.
        rank: r as the config says it, not compared with the shapes yet.
        scale: alpha / r, or alpha / sqrt(r).
    """

    a: NDArray[np.generic]
    b: NDArray[np.generic]
    rank: int
    scale: float


@dataclass(frozen=True)
class PeftFolder:
    """What an adapter folder holds.

    Attributes:
        where: its weights file, for messages.
        halves: by the adapted module's name.
        saved: whole tensors (``modules_to_save``) that take the place of the base's, by parameter name.
        fan_in_fan_out: the adapted weights are stored (in, out), as transformers' Conv1D does.
    """

    where: str
    halves: Mapping[str, Halves]
    saved: Mapping[str, NDArray[np.generic]]
    fan_in_fan_out: bool


def read_config(folder: Path) -> Fields:
    """Returns ``adapter_config.json`` of ``folder``.

    Raises:
        CheckpointError: it cannot be read, or is no JSON object.
    """
    path = folder / CONFIG_FILE
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise CheckpointError(
            f"{path}: cannot be read ({reason.strerror or reason}); expected a folder as PEFT's "
            "save_pretrained writes it"
        ) from None
    return Fields(parse_json(data, str(path), CheckpointError), str(path), CheckpointError)


def read_peft(
    folder: Path, config: Fields, *, modules: Container[str] | None = None, saved: bool = False
) -> PeftFolder:
    """Returns the pairs of ``folder``.

    Args:
        folder: holds ``adapter_model.safetensors``.
        config: its `read_config`.
        modules: names of the modules that may be adapted; None where the caller looks for them itself.
        saved: also take whole tensors that replace the base's (``modules_to_save``).

    Raises:
        CheckpointError: of a kind that is not a plain low-rank sum, or with a field or tensor that is
            missing, extra or not finite (named).
    """
    _refuse_other_kinds(config, saved)
    where = str(folder / WEIGHTS_FILE)
    if not (folder / WEIGHTS_FILE).exists() and (folder / _PICKLE).exists():
        raise CheckpointError(
            f"{folder} holds its tensors in {_PICKLE}, a pickle, which could run any program when it is "
            f"opened; write it again with save_pretrained(folder, safe_serialization=True) as {WEIGHTS_FILE}"
        )
    kept = _texts(config, "modules_to_save")
    found: dict[str, dict[str, NDArray[np.generic]]] = {}
    whole: dict[str, NDArray[np.generic]] = {}
    for key, tensor in read_tensors(folder / WEIGHTS_FILE, CheckpointError).items():
        match = _KEY.fullmatch(key)
        name = key.removeprefix(_PREFIX)
        if match is None and any(names_module(config, module, name.rpartition(".")[0]) for module in kept):
            whole[name] = _checked(f"{where}: {key!r}", tensor)
            continue
        if match is None or (modules is not None and match["module"] not in modules):
            raise CheckpointError(
                f"{where}: extra tensor {key!r}; expected {_PREFIX}<module>.lora_A.weight and lora_B.weight "
                "for modules of the base"
            )
        found.setdefault(match["module"], {})[match["side"]] = _checked(f"{where}: {key!r}", tensor)
    halves = {module: _halves(config, where, module, found[module]) for module in sorted(found)}
    _check_targets(config, halves)
    return PeftFolder(where, halves, whole, bool(_option(config, "fan_in_fan_out")))


def names_module(config: Fields, pattern: str, module: str) -> bool:
    """Tells whether a pattern of PEFT's, a name, the end of one or a regular expression, names ``module``."""
    if module == pattern or module.endswith(f".{pattern}"):
        return True
    if _PLAIN_NAME.fullmatch(pattern):
        return False
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except re.error as reason:
        config.fail(f"{pattern!r} is no regular expression ({reason})")


def check_tensor(what: str, tensor: NDArray[np.generic], shape: tuple[int, ...] | None) -> None:
    """Raises `CheckpointError` unless ``tensor`` is fp32, finite and of ``shape`` (where given)."""
    if tensor.dtype != np.float32:
        raise CheckpointError(f"{what} is {tensor.dtype}; expected float32")
    if shape is not None and tensor.shape != shape:
        raise CheckpointError(f"{what} has shape {list(tensor.shape)}; expected {list(shape)}")
    _check_finite(what, tensor)


def _checked(what: str, tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    """Returns a finite fp32 copy or view; PEFT also writes fp16, which fits fp32 exactly."""
    if tensor.dtype not in (np.float32, np.float16):
        raise CheckpointError(f"{what} is {tensor.dtype}; expected float32 or float16")
    _check_finite(what, tensor)
    return np.asarray(tensor, dtype=np.float32)


def _check_finite(what: str, tensor: NDArray[np.generic]) -> None:
    broken = int(tensor.size - np.count_nonzero(np.isfinite(tensor)))
    if broken:
        raise CheckpointError(
            f"{what} holds {broken} numbers that are not finite; the training diverged or the file is "
            "damaged; take an earlier one, or copy it again"
        )


def _halves(config: Fields, where: str, module: str, sides: Mapping[str, NDArray[np.generic]]) -> Halves:
    for side in "AB":
        if side not in sides:
            raise CheckpointError(f"{where}: missing tensor '{_PREFIX}{module}.lora_{side}.weight'")
        if sides[side].ndim != 2:
            raise CheckpointError(
                f"{where}: '{_PREFIX}{module}.lora_{side}.weight' has shape {list(sides[side].shape)}; only "
                "adapters of linear layers are merged, and theirs have two dimensions"
            )
    if "lora_alpha" not in config.names():
        config.fail(
            "'lora_alpha' is missing, and without it nobody knows how strongly the adapter was trained to "
            "act; take the adapter_config.json that training wrote"
        )
    rank = _pattern(config, "r", "rank_pattern", module)
    if not rank.is_integer():
        config.fail(f"the rank of {module!r} is {rank:g}; expected a whole number")
    alpha = _pattern(config, "lora_alpha", "alpha_pattern", module)
    scale = alpha / (math.sqrt(rank) if _option(config, "use_rslora") else rank)
    return Halves(sides["A"], sides["B"], int(rank), scale)


def _refuse_other_kinds(config: Fields, saved: bool) -> None:
    config.text("peft_type", choices=("LORA",))
    for option in sorted(set(config.names()) - _INERT - _READ):
        if config.value(option):
            config.fail(f"{option!r} is set; this exporter merges plain LoRA pairs")
    if _option(config, "bias") not in (None, False, "none"):
        config.fail("'bias' is set; this exporter merges low-rank pairs only, with bias 'none'")
    if _option(config, "modules_to_save") and not saved:
        config.fail("'modules_to_save' is set; this exporter merges low-rank pairs only")
    start = _option(config, "init_lora_weights")
    if start not in _HARMLESS_STARTS:
        config.fail(
            f"'init_lora_weights' is {start!r}, which changes the base before training; convert the adapter "
            "with PEFT's save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )


def _check_targets(config: Fields, halves: Mapping[str, Halves]) -> None:
    """Raises unless the adapter holds exactly the modules that its config names."""
    value = config.value("target_modules")
    targets = (value,) if isinstance(value, str) else _texts(config, "target_modules")
    if not targets:
        config.fail("'target_modules' is empty; expected the names of the adapted modules")
    for target in targets:
        if not any(names_module(config, target, module) for module in halves):
            config.fail(f"missing tensor: no pair of {WEIGHTS_FILE} adapts {target!r}")
    for module in halves:
        if not any(names_module(config, target, module) for target in targets):
            config.fail(f"extra tensor: the pair of {module!r} belongs to none of 'target_modules'")


def _pattern(config: Fields, default: str, patterns: str, module: str) -> float:
    """Returns PEFT's number for a module: that of the first pattern that names it, or the default."""
    if _option(config, patterns):
        entry = config.fields(patterns)
        for key in entry.names():
            if names_module(entry, key, module):
                return entry.number(key, above=0.0)
    return config.number(default, above=0.0)


def _option(config: Fields, name: str) -> object:
    return config.value(name) if name in config.names() else None


def _texts(config: Fields, name: str) -> tuple[str, ...]:
    """Returns a list of texts, none of an absent one; PEFT itself writes some names twice."""
    found = config.items(name) if _option(config, name) else []
    for item in found:
        if not isinstance(item, str) or not item:
            config.fail(f"{name!r} must hold names, found {item!r}")
    return tuple(dict.fromkeys(str(item) for item in found))
