"""A tiny file in the layout of ``mosi_trimodal``: six train videos and four dev videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WIDTHS = {"audio": 5, "video": 4, "text": 6}


def tiny_table(*, train: int = 6, dev: int = 4, seed: int = 0) -> dict[str, Any]:
    """Returns the arrays of a file; the label shows in every modality, most in text. Rows are shuffled."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in ("video_id", "segment", "split", "label2")}
    for video in range(train + dev):
        count = int(rng.integers(3, 8))
        columns["video_id"] += [f"v{video:02d}"] * count
        columns["segment"] += list(range(1, count + 1))
        columns["split"] += ["train" if video < train else "dev"] * count
        columns["label2"] += rng.integers(0, 2, count).tolist()
    order = rng.permutation(len(columns["split"]))
    table: dict[str, Any] = {name: np.array(values)[order] for name, values in columns.items()}
    sign = 2.0 * table["label2"] - 1
    for (m, width), strength in zip(WIDTHS.items(), (0.5, 0.5, 2.0), strict=True):
        noise = rng.normal(size=(len(order), width))
        noise[:, -1] += strength * sign
        table[m] = noise.astype(np.float32)
    table["score"] = (2 * sign).astype(np.float32)
    table["label2"] = table["label2"].astype(np.int8)
    names = zip(table["video_id"], table["segment"], strict=True)
    table["utt_id"] = np.array([f"{video}_{segment}" for video, segment in names])
    table["transcript"] = np.array(["words"] * len(order))
    return table


def write_tiny_mosi(folder: Path, table: dict[str, Any] | None = None) -> dict[str, Any]:
    """Writes the file (without pickle where the arrays allow it) and returns its arrays."""
    table = tiny_table() if table is None else table
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "mosi_trimodal.npz", **table)
    return table
