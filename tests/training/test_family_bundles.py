"""A checkpoint of each family goes all the way: saved, loaded, exported, run by a session on real sensors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("cv2", reason="needs opencv")
pytest.importorskip("av", reason="needs PyAV")

from foreign_networks import WIDTH, GroupStem, WordStem  # noqa: E402
from live_like import LABELS, MODALITIES, TEXT_SPEC  # noqa: E402
from tiny_checkpoint import no_ranges  # noqa: E402
from tiny_trunks import FLAT, randomise_pairs  # noqa: E402

from edgeemo.bundle import Bundle, bytes_from_tensors, read_tensors  # noqa: E402
from edgeemo.errors import CheckpointError, GateError  # noqa: E402
from edgeemo.export import export_bundle  # noqa: E402
from edgeemo.modality import all_subsets, subset_members  # noqa: E402
from edgeemo.runtimes import OrtRunner  # noqa: E402
from edgeemo.sensors import MediaFile  # noqa: E402
from edgeemo.session import EngineOptions, Session  # noqa: E402
from edgeemo.shipped import RECORDING  # noqa: E402
from edgeemo.training.checkpoints.load import trunk_from_checkpoint  # noqa: E402
from edgeemo.training.checkpoints.save import CheckpointInfo, ModalityPart, Windows, save_checkpoint  # noqa: E402
from edgeemo.training.lowrank import AdaptedTrunk  # noqa: E402
from edgeemo.training.trunks import build_trunk, low_rank_spec  # noqa: E402

LENGTHS = {spec.name: spec.window.length for spec in MODALITIES}
# Tracing takes most of the time: the smallest trunks, and two modalities where they meet.
CASES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "mculora": ("mculora", ("text",), {"width": 8, "blocks": 1}),
    "crosstemporal": ("crosstemporal", ("audio", "video"), {"channels": [8], "kernel": 3, "heads": 2}),
    "redifu-difference": ("redifu", ("audio", "text"), {"width": 8, "heads": 2, "denoise": "difference"}),
    "redifu-dual": ("redifu", ("video",), {"width": 8, "heads": 2, "denoise": "dual"}),
}
TRAINING = {"crosstemporal": {"prompts": torch.ones(len(LABELS), 3)}}  # what no reader needs


def parts(order: tuple[str, ...]) -> list[ModalityPart]:
    torch.manual_seed(7)
    rng = np.random.default_rng(7)
    made = []
    for spec in (spec for spec in MODALITIES if spec.name in order):
        stem, shape = spec.stem, (4, spec.stem.left_context + spec.stem.block, *spec.stem.item_shape)
        words = stem.dtype == "int64"
        items = rng.integers(0, TEXT_SPEC.rows, shape) if words else rng.normal(size=shape).astype(np.float32)
        size = int(np.prod(stem.item_shape))
        made.append(
            ModalityPart(
                name=spec.name,
                front_end=spec.front_end,
                stem=WordStem() if words else GroupStem(size, stem.stride, stem.left_context),
                width=WIDTH,
                length=spec.window.length,
                period_s=spec.window.period_s,
                window_s=spec.window.window_s,
                stride=stem.stride,
                left_context=stem.left_context,
                block=stem.block,
                scope=stem.scope,
                item_shape=stem.item_shape,
                examples=items,
                calibration=items,
            )
        )
    return made


def reference(order: tuple[str, ...]) -> Windows:
    rng = np.random.default_rng(8)
    masks = {m: (rng.random((256, LENGTHS[m])) < 0.8).astype(np.float32) for m in order}
    for mask in masks.values():
        mask[:, -1] = 1.0
    features = {m: rng.normal(size=(256, LENGTHS[m], WIDTH)).astype(np.float32) for m in order}
    return Windows(features, masks)


def write_family(out: Path, kind: str) -> AdaptedTrunk:
    """Writes a checkpoint of a tiny trunk with random adapters and returns its model."""
    family, order, tiny = CASES[kind]
    torch.manual_seed(9)
    lengths = {m: LENGTHS[m] for m in order}
    options = {**tiny, **FLAT, **TRAINING.get(kind, {})}
    trunk = build_trunk(family, dict.fromkeys(order, WIDTH), lengths, len(LABELS), **options)
    model = randomise_pairs(AdaptedTrunk(trunk, low_rank_spec(family)))
    info = CheckpointInfo(
        model_id=kind,
        family=family,
        labels=LABELS,
        hop_s=0.5,
        temperatures=dict.fromkeys(all_subsets(order), 1.0),
        priors=dict.fromkeys(all_subsets(order), [1 / len(LABELS)] * len(LABELS)),
        trunk=tiny,
        data=[{"name": "random numbers", "licence": "none", "use": "none"}],
        licence={"weights": "CC0-1.0", "non_commercial": False, "notice": "random weights for tests"},
    )
    save_checkpoint(
        out=out,
        model=model,
        parts=parts(order),
        info=info,
        reference=reference(order),
        ranges_of=no_ranges,
    )
    return model


@pytest.mark.parametrize("kind", CASES)
def test_a_family_goes_from_training_to_readings(kind: str, tmp_path: Path) -> None:
    order = CASES[kind][1]
    model = write_family(tmp_path / "checkpoint", kind)
    again = trunk_from_checkpoint(tmp_path / "checkpoint")
    saved = read_tensors(tmp_path / "checkpoint" / "reference.safetensors")
    frames = {f"frame_logits.{subset}" for subset in all_subsets(order)}
    assert frames & set(saved) == (frames if kind == "crosstemporal" else set())
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", variants=("fp32",))
    bundle = Bundle.open(tmp_path / "bundle")

    windows = reference(order)
    for subset in all_subsets(order):
        runner = OrtRunner(bundle.read_engine(subset, "fp32"), engine=subset, variant="fp32")
        members = subset_members(subset)
        features = {m: torch.from_numpy(windows.features[m][:5]) for m in members}
        masks = {m: torch.from_numpy(windows.masks[m][:5]) for m in members}
        with torch.no_grad():
            expected, loaded = model.answer(features, masks), again.answer(features, masks)
        feed = {f"features.{m}": features[m].numpy() for m in members}
        found = runner.run(feed | {f"mask.{m}": masks[m].numpy() for m in members})
        assert torch.equal(expected.logits, loaded.logits)
        # Sums of at most a hundred products: rounding stays below 1e-5 of the largest logit.
        tolerance = 1e-5 * float(expected.logits.abs().max())
        np.testing.assert_allclose(found["logits"], expected.logits.numpy(), atol=tolerance, rtol=0)
        assert ("frame_logits" in found) == (kind == "crosstemporal")
        if expected.frame_logits is not None:
            frames = expected.frame_logits.numpy()
            assert frames.shape == (5, LENGTHS[members[0]], len(LABELS))
            tolerance = 1e-5 * float(np.abs(frames).max())
            np.testing.assert_allclose(found["frame_logits"], frames, atol=tolerance, rtol=0)

    options = EngineOptions(variant="fp32")
    with Session(tmp_path / "bundle", media=MediaFile(RECORDING), engines=options) as session:
        for reading in session:
            if reading.subset == "+".join(order):
                break
    assert reading.subset == "+".join(order)
    assert sum(reading.probabilities.values()) == pytest.approx(1.0)
    assert tuple(reading.evidence) == order


def test_frames_are_gated_with_and_without_a_reference_for_them(tmp_path: Path) -> None:
    """A checkpoint of before has none: then base and adapters apart say what is right."""
    folder = tmp_path / "checkpoint"
    write_family(folder, "crosstemporal")
    place = folder / "reference.safetensors"
    saved = {name: np.array(array) for name, array in read_tensors(place).items()}
    frames = saved.pop("frame_logits.audio")
    place.write_bytes(bytes_from_tensors(saved))
    report = export_bundle(folder, tmp_path / "before", subsets=["audio"], variants=["fp32", "int8", "fp16"])
    assert [graph.verdict.changed_frames for graph in report.graphs if graph.kind == "engines"] == [0, 0, 0]
    frames[:, :, 0] += 1.0
    place.write_bytes(bytes_from_tensors({**saved, "frame_logits.audio": frames}))
    with pytest.raises(GateError, match=r"the engine audio \(fp32\) .* deviates"):
        export_bundle(folder, tmp_path / "wrong", subsets=["audio"], variants=["fp32"])
    place.write_bytes(bytes_from_tensors({**saved, "frame_logits.audio": frames[:, 1:]}))
    with pytest.raises(CheckpointError, match=r"'frame_logits\.audio' is float32"):
        export_bundle(folder, tmp_path / "short", subsets=["audio"], variants=["fp32"])


def test_a_checkpoint_that_no_family_fits_is_refused_with_the_choices(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "data" / "tiny_checkpoint", tmp_path / "tiny")
    path = tmp_path / "tiny" / "checkpoint.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**description, "family": "bigru"}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="'bigru'; only these are built here: mculora, crosstemporal"):
        trunk_from_checkpoint(tmp_path / "tiny")
    path.write_text(json.dumps({**description, "trunk": {"depth": 3}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="unknown option 'depth' for a mculora trunk; it has: blocks"):
        trunk_from_checkpoint(tmp_path / "tiny")
    path.write_text(json.dumps({**description, "family": "redifu", "trunk": {"width": 12}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="width is 12; it must be a multiple of twice the 4 heads"):
        trunk_from_checkpoint(tmp_path / "tiny")
    path.write_text(json.dumps({**description, "family": "crosstemporal", "trunk": {}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="the tensors do not fit the trunk"):
        trunk_from_checkpoint(tmp_path / "tiny")
