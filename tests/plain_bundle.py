"""A bundle whose files hold plain words, for tests of the store: it never looks inside a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeemo.bundle import (
    Bundle,
    BundleWriter,
    FileEntry,
    Licence,
    Manifest,
    ModalitySpec,
    Provenance,
    StemSpec,
    SubsetSpec,
    WindowSpec,
    bytes_from_tensors,
)
from edgeemo.modality import all_subsets

ORDER = ("audio", "text")


def modality(name: str) -> ModalitySpec:
    return ModalitySpec(
        name, {"kind": "made_up"}, 4, WindowSpec(3, 0.5, 1.5), StemSpec(1, 0, 3, "window", (2,), "float32")
    )


def write_bundle(folder: Path, text: str = "first") -> Bundle:
    """Commits a bundle whose graphs, weights and recipe are ``text`` and their own names."""
    with BundleWriter(folder) as writer:
        files: dict[str, FileEntry] = {}
        engines: dict[str, dict[str, str]] = {}
        stems: dict[str, dict[str, str]] = {}
        for key in all_subsets(ORDER):
            for variant in ("fp32", "int8"):
                name, entry = writer.add_graph(f"{key}.{variant}", f"{text} {key} {variant}".encode() * 50)
                files[name] = entry
                engines.setdefault(key, {})[variant] = name
        for name in ORDER:
            file, entry = writer.add_graph(f"stem.{name}.fp32", f"{text} stem {name}".encode())
            files[file] = entry
            stems[name] = {"fp32": file}
        shared, entry = writer.add_weights("int8", f"{text} shared".encode() * 20)
        files[shared] = entry
        recipe, entry = writer.add_recipe(f'recipe = "{text}"'.encode())
        files[recipe] = entry
        arrays = {"logits.audio": np.arange(3, dtype=np.float32)}
        reference, files_entry = writer.add_reference(bytes_from_tensors(arrays))
        files[reference] = files_entry
        return writer.commit(
            Manifest(
                model_id=text,
                family="made_up",
                labels=("a", "b"),
                hop_s=0.5,
                modalities=tuple(map(modality, ORDER)),
                subsets={key: SubsetSpec(1.0, (0.5, 0.5)) for key in all_subsets(ORDER)},
                engines=engines,
                stems=stems,
                files=files,
                provenance=Provenance({}, {}, "1", 20, 10),
                licence=Licence("CC0-1.0", False, "nothing to say"),
                reference=reference,
                weights={names["int8"]: (shared,) for names in engines.values()},
                recipe=recipe,
            )
        )
