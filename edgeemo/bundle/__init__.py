"""What ships: one folder with stems, engines and a manifest, read and written in one place."""

from edgeemo.bundle.commit import BundleWriter
from edgeemo.bundle.graph_file import GraphFile
from edgeemo.bundle.manifest import (
    FileEntry,
    Licence,
    Manifest,
    ModalitySpec,
    Provenance,
    StemSpec,
    SubsetSpec,
    Update,
    WindowSpec,
)
from edgeemo.bundle.manifest_json import json_from_manifest, manifest_from_json
from edgeemo.bundle.probabilities import probabilities_from_logits, probabilities_from_row
from edgeemo.bundle.store import Bundle
from edgeemo.bundle.tensors import bytes_from_tensors, read_tensors, tensors_from_bytes

__all__ = [
    "Bundle",
    "BundleWriter",
    "FileEntry",
    "GraphFile",
    "Licence",
    "Manifest",
    "ModalitySpec",
    "Provenance",
    "StemSpec",
    "SubsetSpec",
    "Update",
    "WindowSpec",
    "bytes_from_tensors",
    "json_from_manifest",
    "manifest_from_json",
    "probabilities_from_logits",
    "probabilities_from_row",
    "read_tensors",
    "tensors_from_bytes",
]
