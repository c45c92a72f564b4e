"""What ships: one folder with stems, engines and a manifest, read and written in one place."""

from edgeemo.bundle.manifest import (
    FileEntry,
    Licence,
    Manifest,
    ModalitySpec,
    Provenance,
    StemSpec,
    SubsetSpec,
    WindowSpec,
)
from edgeemo.bundle.manifest_json import json_from_manifest, manifest_from_json

__all__ = [
    "FileEntry",
    "Licence",
    "Manifest",
    "ModalitySpec",
    "Provenance",
    "StemSpec",
    "SubsetSpec",
    "WindowSpec",
    "json_from_manifest",
    "manifest_from_json",
]
