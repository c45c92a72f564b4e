"""Turns a trained checkpoint into a bundle of engines, without torch.

Names load when they are first used: onnx and onnxruntime are needed to export, not to import this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgeemo.errors import MissingDependencyError

if TYPE_CHECKING:
    from edgeemo.export.checkpoint import Checkpoint
    from edgeemo.export.exporter import export_bundle
    from edgeemo.export.foreign.merge import MergeReport, merge_peft
    from edgeemo.export.gate.labelled import LabelledResult
    from edgeemo.export.recipe import Recipe, read_recipe
    from edgeemo.export.report import ExportReport, GraphReport
    from edgeemo.export.triton.options import ServingOptions
    from edgeemo.export.triton.repository import RepositoryReport, write_triton_repository
    from edgeemo.export.update.bundle import UpdateReport, update_bundle
    from edgeemo.export.variants.make import DEFAULT_VARIANTS, VARIANTS

_HOMES = {
    "DEFAULT_VARIANTS": "edgeemo.export.variants.make",
    "VARIANTS": "edgeemo.export.variants.make",
    "Checkpoint": "edgeemo.export.checkpoint",
    "ExportReport": "edgeemo.export.report",
    "GraphReport": "edgeemo.export.report",
    "LabelledResult": "edgeemo.export.gate.labelled",
    "MergeReport": "edgeemo.export.foreign.merge",
    "Recipe": "edgeemo.export.recipe",
    "RepositoryReport": "edgeemo.export.triton.repository",
    "ServingOptions": "edgeemo.export.triton.options",
    "UpdateReport": "edgeemo.export.update.bundle",
    "export_bundle": "edgeemo.export.exporter",
    "merge_peft": "edgeemo.export.foreign.merge",
    "read_recipe": "edgeemo.export.recipe",
    "update_bundle": "edgeemo.export.update.bundle",
    "write_triton_repository": "edgeemo.export.triton.repository",
}

_NEEDED = frozenset({"onnx", "onnx_ir", "onnxscript", "onnxruntime"})

__all__ = [
    "DEFAULT_VARIANTS",
    "VARIANTS",
    "Checkpoint",
    "ExportReport",
    "GraphReport",
    "LabelledResult",
    "MergeReport",
    "Recipe",
    "RepositoryReport",
    "ServingOptions",
    "UpdateReport",
    "export_bundle",
    "merge_peft",
    "read_recipe",
    "update_bundle",
    "write_triton_repository",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        try:
            return getattr(importlib.import_module(_HOMES[name]), name)
        except ModuleNotFoundError as reason:
            package = (reason.name or "").partition(".")[0]
            if package not in _NEEDED:
                raise
            raise MissingDependencyError("export", package, "pip install 'edgeemo[export,cpu]'") from None
    raise AttributeError(f"module 'edgeemo.export' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
