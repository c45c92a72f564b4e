"""The checkpoint that ships: complete, of the promised size and accuracy, every adapter trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors", reason="needs safetensors")

from safetensors.numpy import load_file

from edgeemo.modality import all_subsets, subset_members

LIVE = Path(__file__).resolve().parents[2] / "samples" / "checkpoints" / "live"
SUBSETS = all_subsets(("audio", "video", "text"))


def pairs(adapter: str) -> dict[str, Any]:
    return dict(load_file(LIVE / "adapters" / adapter / "adapter_model.safetensors"))


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    plain: dict[str, Any] = json.loads((LIVE / "checkpoint.json").read_text(encoding="utf-8"))
    return plain


@pytest.mark.parametrize("adapter", ["common", *SUBSETS])
def test_every_pair_moved_in_training(adapter: str) -> None:
    for name, values in pairs(adapter).items():
        assert np.isfinite(values).all(), name
        # B starts at zero, so a number that is not zero has been trained.
        assert name.endswith("lora_A.weight") or np.count_nonzero(values) > 0.9 * values.size, name


def test_subsets_differ_in_what_their_adapters_add() -> None:
    module = "base_model.model.trunk.blocks.audio.0.fc1"
    added = [
        found[f"{module}.lora_B.weight"] @ found[f"{module}.lora_A.weight"]
        for found in (pairs(subset) for subset in SUBSETS if "audio" in subset_members(subset))
    ]
    for number, one in enumerate(added):
        assert np.abs(one).max() > 1e-3
        for other in added[:number]:
            assert np.abs(one - other).max() > 1e-3


def test_an_adapter_has_no_part_of_an_absent_modality() -> None:
    for subset in SUBSETS:
        absent = {"audio", "video", "text"} - set(subset_members(subset))
        assert not [name for name in pairs(subset) for m in absent if m in name.split(".")]


def test_size_licence_and_card(description: dict[str, Any]) -> None:
    files = [path for path in LIVE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16 * 2**20
    assert description["licence"]["non_commercial"] is True
    card = (LIVE / "MODEL_CARD.md").read_text(encoding="utf-8")
    for entry in description["data"]:
        assert entry["name"] in card
        assert entry["licence"] in card
    assert "label-matched" in card


def test_validation_figures_reach_the_floors(description: dict[str, Any]) -> None:
    figures = description["metrics"]["subsets"]
    assert figures["video"]["ferplus"]["accuracy"] >= 0.80
    assert figures["audio"]["speech_ravdess"]["uar"] >= 0.50
    assert figures["text"]["goemotions"]["accuracy"] >= 0.62
    assert set(figures) == set(SUBSETS)
