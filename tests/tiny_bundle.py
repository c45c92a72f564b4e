"""A one-modality bundle of hand-made engines, for tests that need no trained network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tiny_graphs import C, D, T

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
)

LABELS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")


def write_bundle(folder: Path, variants: Mapping[str, bytes]) -> Bundle:
    """Writes a bundle whose only engine, "audio", and only stem both have these variants."""
    files: dict[str, FileEntry] = {}
    engines: dict[str, str] = {}
    stems: dict[str, str] = {}
    with BundleWriter(folder) as writer:
        for variant, model in variants.items():
            engines[variant], entry = writer.add_graph(f"audio.{variant}", model)
            files[engines[variant]] = entry
            stems[variant], entry = writer.add_graph(f"stem.audio.{variant}", model)
            files[stems[variant]] = entry
        return writer.commit(
            Manifest(
                model_id="tiny",
                family="by_hand",
                labels=LABELS,
                hop_s=0.5,
                modalities=(
                    ModalitySpec(
                        "audio",
                        {"kind": "log_mel"},
                        D,
                        WindowSpec(T, 0.1, 4.0),
                        StemSpec(8, 0, 40, "stream", (64,), "float32"),
                    ),
                ),
                subsets={"audio": SubsetSpec(1.0, (1 / C,) * C)},
                engines={"audio": engines},
                stems={"audio": stems},
                files=files,
                provenance=Provenance({}, {}, "by hand", 20, 10),
                licence=Licence("CC0", non_commercial=False, notice="none"),
            )
        )
