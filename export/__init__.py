"""Turns a trained checkpoint into a bundle of engines, without torch.

Names load when they are first used: onnx and onnxruntime are needed to export, not to import this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeemo.export.checkpoint import Checkpoint
    from edgeemo.export.exporter import VARIANTS, export_bundle
    from edgeemo.export.foreign.merge import MergeReport, merge_peft
    from edgeemo.export.report import ExportReport, GraphReport

_HOMES = {
    "VARIANTS": "edgeemo.export.exporter",
    "Checkpoint": "edgeemo.export.checkpoint",
    "ExportReport": "edgeemo.export.report",
    "GraphReport": "edgeemo.export.report",
    "MergeReport": "edgeemo.export.foreign.merge",
    "export_bundle": "edgeemo.export.exporter",
    "merge_peft": "edgeemo.export.foreign.merge",
}

__all__ = [
    "VARIANTS",
    "Checkpoint",
    "ExportReport",
    "GraphReport",
    "MergeReport",
    "export_bundle",
    "merge_peft",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgeemo.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
