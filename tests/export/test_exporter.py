"""The whole export: every engine right, absent modalities absent, the same bytes again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import edgeemo.export.provenance as provenance_module
from edgeemo.bundle import Bundle, BundleWriter, bytes_from_tensors, read_tensors
from edgeemo.errors import ExportError, GateError, InputError, SubsetError
from edgeemo.export import Checkpoint, export_bundle
from edgeemo.export.graph import bind_weights, bytes_from_model, fold_graph
from edgeemo.modality import all_subsets, subset_members
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
ORDER = ("audio", "video", "text")
SUBSETS = all_subsets(ORDER)
INT8 = ("int8",)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(TINY)


@pytest.fixture(scope="module")
def exported(tiny_export: Path) -> Bundle:
    """The whole tiny bundle in all variants; tests that change it copy it."""
    return Bundle.open(tiny_export)


@pytest.fixture(scope="module")
def simple(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The whole tiny bundle in one variant: made in a moment."""
    return Bundle.open(export_bundle(TINY, tmp_path_factory.mktemp("simple") / "b", variants=INT8).bundle)


@pytest.fixture
def bundle(simple: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(simple.path, tmp_path / "bundle"))


def whole_model(bundle: Bundle, subset: str, variant: str) -> onnx.ModelProto:
    """One engine with the tensors that it shares."""
    return onnx.load_model_from_string(bundle.read_engine(subset, variant).self_contained())


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that is covered by hashes, and the manifest itself."""
    return {
        place.relative_to(folder).as_posix(): place.read_bytes()
        for place in folder.rglob("*")
        if place.is_file() and place.name not in (".lock", "report.json")
    }


def feed_of(reference: Any, subset: str) -> dict[str, NDArray[np.float32]]:
    return {
        f"{kind}.{m}": np.asarray(reference[f"{kind}.{m}"], dtype=np.float32)
        for m in subset_members(subset)
        for kind in ("features", "mask")
    }


def test_the_bundle_is_whole(exported: Bundle) -> None:
    exported.verify()
    manifest = exported.manifest
    assert tuple(manifest.engines) == SUBSETS
    assert set(manifest.stems) == set(ORDER)
    for variants in (*manifest.engines.values(), *manifest.stems.values()):
        assert set(variants) == {"fp32", "int8", "fp16", "int8-trt"}
    assert manifest.subsets["audio+video+text"].temperature == pytest.approx(1.6)
    assert manifest.modality("audio").stem.left_context == 2
    assert manifest.provenance.checkpoint["model.safetensors"]
    assert {"numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript"} == set(manifest.provenance.packages)
    assert not (exported.path / "manifest.previous.json").exists()


@pytest.mark.parametrize("subset", SUBSETS)
def test_engines_give_the_answers_of_the_training_framework(
    exported: Bundle, checkpoint: Checkpoint, subset: str
) -> None:
    """fp32: to rounding. The reference was computed with base, common and subset adapter unmerged."""
    expected = checkpoint.reference[f"logits.{subset}"]
    with OrtRunner(exported.read_engine(subset, "fp32")) as runner:
        assert {spec.name for spec in runner.inputs} == set(feed_of(checkpoint.reference, subset))
        assert {spec.name for spec in runner.outputs} == {
            "logits",
            *(f"evidence.{m}" for m in subset_members(subset)),
        }
        found = runner.run(feed_of(checkpoint.reference, subset))
    assert np.abs(found["logits"] - expected).max() <= 1e-5 * np.abs(expected).max()
    for m in subset_members(subset):
        np.testing.assert_allclose(
            found[f"evidence.{m}"],
            checkpoint.reference[f"evidence.{subset}.{m}"],
            atol=1e-5 * float(np.abs(expected).max()),
        )


@pytest.mark.parametrize("subset", SUBSETS)
def test_engines_differ_from_the_base(checkpoint: Checkpoint, subset: str) -> None:
    """Without its adapters the network answers otherwise, so the agreement above is theirs."""
    plain = fold_graph(bind_weights(checkpoint.engine_graphs[subset], checkpoint.weights))
    with OrtRunner(bytes_from_model(plain)) as runner:
        base = runner.run(feed_of(checkpoint.reference, subset))["logits"]
    expected = checkpoint.reference[f"logits.{subset}"]
    assert np.abs(base - expected).max() > 1e-2 * np.abs(expected).max()


def test_engines_are_the_unmerged_network_in_torch(exported: Bundle) -> None:
    """On new windows, with base, common and subset pairs as separate branches; and not the base alone."""
    torch = pytest.importorskip("torch", reason="needs torch")
    from edgeemo.training.checkpoints.load import trunk_from_checkpoint

    model = trunk_from_checkpoint(TINY).eval()
    rng = np.random.default_rng(5)
    for subset in SUBSETS:
        members = subset_members(subset)
        shapes = {m: (32, model.trunk.lengths[m], model.trunk.widths[m]) for m in members}
        features = {m: rng.normal(size=shape).astype(np.float32) for m, shape in shapes.items()}
        masks = {m: np.ones(shape[:2], np.float32) for m, shape in shapes.items()}
        with torch.no_grad():
            tensors = ({m: torch.from_numpy(a) for m, a in group.items()} for group in (features, masks))
            arguments = list(tensors)
            unmerged = model(*arguments)[0].numpy()
            base = model.trunk(*arguments)[0].numpy()
        feed = {f"features.{m}": a for m, a in features.items()} | {f"mask.{m}": a for m, a in masks.items()}
        with OrtRunner(exported.read_engine(subset, "fp32")) as runner:
            found = runner.run(feed)["logits"]
        assert np.abs(found - unmerged).max() <= 1e-5 * np.abs(unmerged).max(), subset
        assert np.abs(found - base).max() > 1e-2 * np.abs(base).max(), subset


def holds(array: NDArray[Any], part: NDArray[Any]) -> bool:
    """Whether a matrix is a block of another one: passes put small ones together."""
    down, across = array.shape[0] - part.shape[0], array.shape[1] - part.shape[1]
    return any(
        np.array_equal(array[i : i + part.shape[0], j : j + part.shape[1]], part)
        for i in range(down + 1)
        for j in range(across + 1)
    )


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_no_engine_knows_an_absent_modality(exported: Bundle, checkpoint: Checkpoint, variant: str) -> None:
    """Neither by name nor by number: no weight of an absent branch is in the graph, transposed or not."""
    weights = {
        name: array
        for name, array in checkpoint.weights.items()
        if name.startswith("trunk.") and array.ndim == 2 and "positions" not in name
    }
    for subset in SUBSETS:
        model = onnx.load_model_from_string(exported.read_engine(subset, variant).self_contained())
        absent = set(ORDER) - set(subset_members(subset))
        names = {value.name for value in (*model.graph.input, *model.graph.output)}
        assert not [name for name in names if name.split(".")[-1] in absent]
        tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        assert not [name for name in tensors if set(name.split(".")) & absent]
        if variant == "fp32":
            merged = checkpoint.merged_weights(subset)
            held = [array for array in tensors.values() if array.ndim == 2]
            for name in weights:
                present = any(holds(array, part) for array in held for part in (merged[name], merged[name].T))
                assert present == (not set(name.split(".")) & absent), (subset, name)


def test_the_seven_engines_have_weights_of_their_own(exported: Bundle) -> None:
    """Each engine's input projection is another matrix, and no two files are alike."""
    held: dict[str, bytes] = {}
    for subset in SUBSETS:
        model = onnx.load_model_from_string(exported.read_engine(subset, "fp32").self_contained())
        for tensor in model.graph.initializer:
            if tensor.name == "trunk.inputs.audio.weight.transposed":
                held[subset] = tensor.raw_data
    assert len(held) == 4
    assert len(set(held.values())) == 4
    hashes = [exported.manifest.files[files["fp32"]].sha256 for files in exported.manifest.engines.values()]
    assert len(set(hashes)) == 7


def test_graphs_keep_to_the_standard(exported: Bundle) -> None:
    for subset in SUBSETS:
        model = onnx.load_model_from_string(exported.read_engine(subset, "fp32").self_contained())
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == 10
        assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [
            ("", 20)
        ]
        assert not model.graph.value_info
        assert not [node for node in model.graph.node if node.metadata_props or node.doc_string]
        assert not [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        assert "Constant" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("modality", ORDER)
def test_stems_give_the_answers_of_the_training_framework(
    exported: Bundle, checkpoint: Checkpoint, modality: str
) -> None:
    feed = {f"input.{modality}": checkpoint.reference[f"stem.{modality}.input"]}
    expected = checkpoint.reference[f"stem.{modality}.output"]
    with OrtRunner(exported.read_stem(modality, "fp32")) as runner:
        found = runner.run(feed)[f"features.{modality}"]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_bundle_brings_windows_to_check_a_device_with(exported: Bundle) -> None:
    reference = exported.reference()
    assert len(reference["logits.audio"]) == 16
    with OrtRunner(exported.read_engine("audio+text", "fp32")) as runner:
        found = runner.run(feed_of(reference, "audio+text"))["logits"]
    np.testing.assert_allclose(found, reference["logits.audio+text"], atol=1e-4)


def test_the_report_belongs_to_the_manifest(bundle: Path) -> None:
    report: Any = Bundle.open(bundle).report()
    assert set(report["engines"]) == set(SUBSETS)
    entry = report["engines"]["audio+video"]["int8"]
    assert entry["changed"] <= 0.02
    assert entry["decided"] > 100
    assert entry["latency_ms"] > 0
    assert entry["passes"][0].startswith("fold: ")
    assert report["machine"]["cpu"]
    (bundle / "report.json").write_text(json.dumps({**report, "manifest_sha256": "0" * 64}))
    assert Bundle.open(bundle).report() is None
    Bundle.open(bundle).verify()


def test_the_same_checkpoint_gives_the_same_bytes(exported: Bundle, tmp_path: Path) -> None:
    """In another process with another hash seed, in another folder."""
    code = (
        "import sys; from edgeemo.export import VARIANTS, export_bundle; "
        "export_bundle(sys.argv[1], sys.argv[2], variants=VARIANTS)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(TINY), str(tmp_path / "again")],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "12345"},
    )
    assert contents(tmp_path / "again") == contents(exported.path)


def test_partial_exports_add_up_to_the_whole(simple: Bundle, checkpoint: Checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    first = export_bundle(checkpoint, out, subsets=["text"], variants=["int8"])
    opened = Bundle.open(out)
    assert opened.manifest.order == ("text",)
    assert opened.manifest.engines.keys() == opened.manifest.stems.keys() == {"text"}
    assert set(opened.reference()) == {
        *("features.text", "mask.text", "logits.text", "evidence.text.text"),
        *("stem.text.input", "stem.text.output"),
    }
    assert [graph.variant for graph in first.graphs] == ["int8", "int8"]
    second = export_bundle(checkpoint, out, subsets=["video+audio"], variants=INT8)
    assert Bundle.open(out).manifest.order == ORDER
    assert set(Bundle.open(out).manifest.engines) == {"text", "audio+video"}
    assert len(second.kept) == 2
    report: Any = Bundle.open(out).report()
    assert set(report["engines"]) == {"text", "audio+video"}
    export_bundle(checkpoint, out, variants=INT8)
    whole = contents(out)
    whole.pop("manifest.previous.json")
    kept = {name: whole[name] for name in contents(simple.path)}
    assert kept == contents(simple.path)
    Bundle.open(out).verify()


def altered(folder: Path) -> Path:
    """Another checkpoint: the same network with another temperature."""
    data = json.loads((TINY / "checkpoint.json").read_text())
    data["subsets"]["audio"]["temperature"] = 3.0
    shutil.copytree(TINY, folder)
    (folder / "checkpoint.json").write_text(json.dumps(data))
    return folder


def test_a_partial_export_never_mixes_checkpoints(bundle: Path, tmp_path: Path) -> None:
    other = altered(tmp_path / "other")
    with pytest.raises(
        ExportError, match=r"made from another checkpoint; .* would lose those for video, text"
    ):
        export_bundle(other, bundle, subsets=["audio"], variants=INT8)
    assert Bundle.open(bundle).manifest.subsets["audio"].temperature == 1.0
    export_bundle(other, bundle, variants=INT8)
    replaced = Bundle.open(bundle)
    replaced.verify()
    assert replaced.manifest.subsets["audio"].temperature == 3.0
    assert (bundle / "manifest.previous.json").exists()


def test_a_damaged_bundle_is_replaced_whole_or_not_at_all(bundle: Path, simple: Bundle) -> None:
    place = bundle / simple.manifest.engines["audio"]["int8"]
    place.write_bytes(b"damaged")
    with pytest.raises(ExportError, match="holds a bundle that cannot be read"):
        export_bundle(TINY, bundle, subsets=["text"], variants=INT8)
    export_bundle(TINY, bundle, variants=INT8)
    Bundle.open(bundle).verify()
    assert contents(bundle) == contents(simple.path)


def test_a_checkpoint_is_no_place_for_a_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(TINY, folder)
    before = contents(folder)
    with pytest.raises(ExportError, match="holds a checkpoint; choose another folder"):
        export_bundle(folder, folder, variants=INT8)
    assert contents(folder) == before


def test_a_failing_gate_names_the_engine_and_leaves_the_bundle(bundle: Path, tmp_path: Path) -> None:
    """Reference answers that are not this network's: the first engine that shows it fails the export."""
    other = altered(tmp_path / "other")
    tensors = {name: np.array(array) for name, array in read_tensors(other / "reference.safetensors").items()}
    tensors["logits.video"][7] += 0.01 * np.abs(tensors["logits.video"]).max()
    (other / "reference.safetensors").write_bytes(bytes_from_tensors(tensors))
    before = contents(bundle)
    with pytest.raises(
        GateError,
        match=r"the engine video \(fp32\) on the reference windows deviates .* by 1\.\d+e-02 of the largest",
    ):
        export_bundle(other, bundle, variants=["fp32"])
    assert contents(bundle) == before
    Bundle.open(bundle).verify()


def test_bad_requests(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(SubsetError, match=r"no subset 'smell' .*; there are: audio, video"):
        export_bundle(checkpoint, tmp_path / "out", subsets=["smell"])
    with pytest.raises(InputError, match="unknown variant 'fp8'; this exporter makes: fp32, int8, fp16"):
        export_bundle(checkpoint, tmp_path / "out", variants=["fp8"])
    with pytest.raises(InputError, match="unknown variant \\(none given\\)"):
        export_bundle(checkpoint, tmp_path / "out", variants=[])
    assert not (tmp_path / "out").exists()


def test_two_exporters_at_once(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out"), pytest.raises(ExportError, match="being written by another process"):
        export_bundle(checkpoint, tmp_path / "out", subsets=["text"])


def test_progress_counts_every_step(checkpoint: Checkpoint, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    export_bundle(
        checkpoint,
        tmp_path / "out",
        subsets=["text"],
        variants=["fp32"],
        progress=lambda done, steps, what: calls.append((done, steps, what)),
    )
    assert calls == [
        (0, 3, "stem of text"),
        (1, 3, "engine text"),
        (2, 3, "writing"),
        (3, 3, "done"),
    ]


def test_other_package_versions_are_another_bundle(
    bundle: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_module, "EXPORTER_VERSION", "0")
    with pytest.raises(ExportError, match="made from other package versions"):
        export_bundle(checkpoint, bundle, subsets=["text"])


def test_importing_the_exporter_loads_nothing_heavy() -> None:
    code = (
        "import sys, edgeemo.export\n"
        "owned = {'onnx', 'onnxruntime', 'onnxscript', 'torch', 'safetensors', 'filelock'}\n"
        "heavy = owned & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert edgeemo.export.export_bundle and edgeemo.export.Checkpoint\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_command(package: str) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        "import edgeemo.errors\n"
        "try:\n"
        "    from edgeemo.export import export_bundle\n"
        "    export_bundle('nowhere', 'nowhere')\n"
        "except edgeemo.errors.MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert package in done.stdout
    assert "pip install 'edgeemo[" in done.stdout
