"""Networks, low-rank adaptation and training loops (PyTorch) that write checkpoints.

Names load when they are first used: torch is needed to train, not to import this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgeemo.errors import MissingDependencyError

if TYPE_CHECKING:
    from edgeemo.training.checkpoints.convert import convert_weights
    from edgeemo.training.checkpoints.description import CheckpointInfo, ModalityPart, Windows
    from edgeemo.training.checkpoints.plain import LowRank
    from edgeemo.training.checkpoints.save import save_checkpoint
    from edgeemo.training.checkpoints.weights import load_weights

_HOMES = {
    "CheckpointInfo": "edgeemo.training.checkpoints.description",
    "LowRank": "edgeemo.training.checkpoints.plain",
    "ModalityPart": "edgeemo.training.checkpoints.description",
    "Windows": "edgeemo.training.checkpoints.description",
    "convert_weights": "edgeemo.training.checkpoints.convert",
    "load_weights": "edgeemo.training.checkpoints.weights",
    "save_checkpoint": "edgeemo.training.checkpoints.save",
}

_NEEDS = ("torch", "onnx", "onnxscript", "safetensors")

__all__ = [
    "CheckpointInfo",
    "LowRank",
    "ModalityPart",
    "Windows",
    "convert_weights",
    "load_weights",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        try:
            return getattr(importlib.import_module(_HOMES[name]), name)
        except ImportError as reason:
            if reason.name not in _NEEDS:
                raise
            raise MissingDependencyError("training", reason.name, "pip install 'edgeemo[train]'") from None
    raise AttributeError(f"module 'edgeemo.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
