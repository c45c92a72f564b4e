"""What a bundle is made from and with: where it is the same, the bytes are the same."""

from __future__ import annotations

from importlib.metadata import version

from edgeemo.bundle.manifest import Provenance
from edgeemo.export.checkpoint import Checkpoint
from edgeemo.export.graph import IR_VERSION, OPSET
from edgeemo.runtimes.ort import onnxruntime_version

# Raised whenever the exporter's own rules change what it writes.
EXPORTER_VERSION = "2"
# Packages whose code decides over the bytes of a graph.
PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxscript")


def provenance_of(checkpoint: Checkpoint) -> Provenance:
    """Returns what a bundle of ``checkpoint`` made here and now comes from.

    The files of the checkpoint are listed with their SHA-256: description, weights, graphs, reference,
    ranges, and both files of each adapter.
    """
    return Provenance(
        checkpoint=dict(checkpoint.files),
        # onnxruntime has another name where it was built for a GPU, so it is asked itself.
        packages={name: version(name) for name in PACKAGES} | {"onnxruntime": onnxruntime_version()},
        exporter=EXPORTER_VERSION,
        opset=OPSET,
        ir_version=IR_VERSION,
    )
