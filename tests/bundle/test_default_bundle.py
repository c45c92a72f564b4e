"""The bundle that ships is what the committed checkpoint gives, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgeemo.bundle import Bundle
from edgeemo.bundle.sizes import ENGINE, measure_sizes, together
from edgeemo.export import Checkpoint, export_bundle
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.provenance import provenance_of
from edgeemo.modality import all_subsets, subset_members
from edgeemo.runtimes import OrtRunner

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "samples" / "checkpoints" / "live"
SHIPPED = ROOT / "edgeemo" / "assets" / "live"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(CHECKPOINT)


def test_it_is_whole_and_comes_from_the_committed_checkpoint() -> None:
    bundle = Bundle.open(SHIPPED)
    bundle.verify()
    manifest = bundle.manifest
    assert tuple(manifest.engines) == all_subsets(("audio", "video", "text"))
    for variants in (*manifest.engines.values(), *manifest.stems.values()):
        assert set(variants) == {"int8", "fp16"}
    for name, digest in manifest.provenance.checkpoint.items():
        assert hashlib.sha256((CHECKPOINT / name).read_bytes()).hexdigest() == digest, name
    assert manifest.licence.non_commercial
    assert "commercial" in manifest.licence.notice
    assert bundle.report() is not None
    listed = {"manifest.json", "report.json", *manifest.files}
    assert {p.relative_to(SHIPPED).as_posix() for p in SHIPPED.rglob("*") if p.is_file()} - {
        ".lock"
    } == listed


@pytest.mark.parametrize("subset", all_subsets(("audio", "video", "text")))
def test_its_engines_answer_as_the_trained_network(checkpoint: Checkpoint, subset: str) -> None:
    """Every window of the reference, with the package versions of this machine."""
    feed = {
        f"{kind}.{m}": checkpoint.reference[f"{kind}.{m}"].astype(np.float32)
        for m in subset_members(subset)
        for kind in ("features", "mask")
    }
    expected = checkpoint.reference[f"logits.{subset}"]
    with OrtRunner(Bundle.open(SHIPPED).read_engine(subset, "fp16")) as runner:
        found = runner.run(feed)["logits"]
    assert np.abs(found - expected).max() <= Thresholds().max_fp16_deviation * np.abs(expected).max()


def test_it_keeps_to_its_size() -> None:
    """8 MB, and what the engines of a variant have in common is in the bundle once."""
    bundle = Bundle.open(SHIPPED)
    sizes = measure_sizes(bundle)
    assert sizes.listed <= 8e6
    for variant in ("int8", "fp16"):
        pair = together(sizes, bundle, variant)
        assert pair is not None
        alone = sum(g.alone for g in sizes.graphs if (g.kind, g.variant) == (ENGINE, variant))
        assert pair[0] < 0.75 * alone


def test_exporting_again_gives_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shipped = Bundle.open(SHIPPED).manifest.provenance
    here = provenance_of(checkpoint)
    others = {
        name: (version, here.packages.get(name))
        for name, version in shipped.packages.items()
        if here.packages.get(name) != version
    }
    if others:
        pytest.skip(f"the bundle was made with other package versions (made with, installed): {others}")
    export_bundle(checkpoint, tmp_path / "again")
    manifest = (SHIPPED / "manifest.json").read_bytes()
    assert (tmp_path / "again" / "manifest.json").read_bytes() == manifest
    for name in Bundle.open(SHIPPED).manifest.files:
        assert (tmp_path / "again" / name).read_bytes() == (SHIPPED / name).read_bytes(), name
