"""`edgeemo inspect`: where every byte goes, what an engine is made of, what differs between two bundles."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shared_weights import SHARED, model
from tiny_bundle import write_bundle
from tiny_graphs import engine_bytes

from edgeemo.bundle import Bundle, BundleWriter, Manifest
from edgeemo.bundle.compare import compare_bundles
from edgeemo.bundle.initializers import initializers_of
from edgeemo.bundle.outline import outline_from_model
from edgeemo.bundle.precision import precision_map
from edgeemo.bundle.sizes import measure_sizes, together
from edgeemo.cli.main import main
from edgeemo.export.share import share_tensors


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """One engine in two variants that share a tensor, and a stem that shares none."""
    return write_sharing(tmp_path / "bundle")


def write_sharing(folder: Path, *, temperature: float = 1.0, sign: float = 1.0) -> Bundle:
    plain = write_bundle(folder.with_name(f"{folder.name}.plain"), {"fp32": engine_bytes(sign=sign)})
    shared = share_tensors({"fp32": model("first"), "int8": model("second")}, "both")
    with BundleWriter(folder) as writer:
        weights, entry = writer.add_weights("both", shared.data)
        files = {weights: entry}
        engines = {}
        for variant, data in shared.models.items():
            engines[variant], entry = writer.add_graph(f"audio.{variant}", data)
            files[engines[variant]] = entry
        (stem,) = plain.manifest.stems["audio"].values()
        files[stem] = writer.add_file(stem, plain.read_file(stem))
        old: Manifest = plain.manifest
        return writer.commit(
            replace(
                old,
                engines={"audio": engines},
                files=files,
                weights=dict.fromkeys(engines.values(), (weights,)),
                subsets={"audio": replace(old.subsets["audio"], temperature=temperature)},
            )
        )


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["inspect", *words]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(printed(capsys, *words, "--json"))


def test_every_byte_of_the_folder_is_accounted_for(bundle: Bundle) -> None:
    (bundle.path / "notes.txt").write_text("mine")
    sizes = measure_sizes(bundle)
    on_disk = sum(place.stat().st_size for place in bundle.path.rglob("*") if place.is_file())
    assert sizes.total == on_disk
    assert sizes.listed == sum(entry.bytes for entry in bundle.manifest.files.values())
    assert sizes.foreign == 4
    for graph in sizes.graphs:
        assert graph.structure + sum(graph.tensors.values()) == graph.file_bytes
        assert graph.file_bytes == (bundle.path / graph.file).stat().st_size
    (weights,) = sizes.weights
    assert sizes.weights[weights] == SHARED.nbytes
    assert sizes.users[weights] == 2
    shared = {(graph.kind, graph.variant): graph.shared for graph in sizes.graphs}
    assert shared == {("stem", "fp32"): 0, ("engine", "fp32"): 3072, ("engine", "int8"): 3072}


def test_what_is_kept_to_roll_back_to_is_counted_apart(bundle: Bundle) -> None:
    before = measure_sizes(bundle)
    assert before.rollback == 0
    write_sharing(bundle.path, sign=-1.0)
    after = measure_sizes(Bundle.open(bundle.path))
    old_stem = bundle.manifest.files[bundle.manifest.stems["audio"]["fp32"]].bytes
    previous = (bundle.path / "manifest.previous.json").stat().st_size
    assert after.rollback == old_stem + previous
    assert after.foreign == 0


def test_engines_together_count_what_they_share_once(bundle: Bundle) -> None:
    sizes = measure_sizes(bundle)
    engine = next(graph for graph in sizes.graphs if (graph.kind, graph.variant) == ("engine", "int8"))
    assert together(sizes, bundle, "int8") == (engine.file_bytes + 3072, engine.alone)
    assert abs(engine.alone - engine.file_bytes - 3072) < 100
    assert together(sizes, bundle, "fp16") is None


def test_inspect_shows_where_the_bytes_go(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, str(bundle.path))
    (weights,) = measure_sizes(bundle).weights
    assert f"{weights}" in text
    assert "shared by 2 graphs" in text
    assert "1 int8 engines take" in text
    document = as_json(capsys, str(bundle.path))
    assert document["sizes"]["total"] == measure_sizes(bundle).total
    assert document["together"]["int8"]["ratio"] == pytest.approx(1.0, abs=0.05)
    assert document["weights"] == {file: [weights] for file in bundle.manifest.weights}


def test_inspect_an_engine(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    (document,) = as_json(capsys, str(bundle.path), "--engine", "audio", "--variant", "int8")
    assert document["graph"] == "engine audio"
    assert document["inputs"] == [{"name": "features.audio", "dtype": "float32", "shape": ["batch", 24]}]
    assert document["outputs"][0]["name"] == "logits"
    assert document["operators"] == {"MatMul": {"float32": 2}}
    assert document["shared_bytes"] == 3072
    by_name = {tensor["name"]: tensor for tensor in document["tensors"]}
    assert by_name["shared"]["shared"] is True
    assert by_name["own"]["shared"] is False
    assert by_name["own"]["used_by"] == ["MatMul"]
    text = printed(capsys, str(bundle.path), "--engine", "audio")
    assert text.count("engine audio, ") == 2
    assert "features.audio float32 (batch, 24)" in text
    assert "stem of audio, fp32" in printed(capsys, str(bundle.path), "--engine", "stem.audio")


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (["--engine", "video"], "unknown modality 'video'", 2),
        (["--engine", "stem.video"], "unknown modality 'video'", 2),
        (["--engine", "audio", "--variant", "fp16"], "no variant 'fp16'; it has: fp32, int8", 1),
        (["--variant", "int8"], "name it with --engine S", 2),
        (["--diff", "a", "b"], "takes two bundles and nothing else", 2),
    ],
)
def test_what_cannot_be_shown_is_said(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str, code: int
) -> None:
    assert main(["inspect", str(bundle.path), *words]) == code
    assert sentence in capsys.readouterr().err


def test_a_damaged_weights_file_is_named(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    (name,) = measure_sizes(bundle).weights
    place = bundle.path / name
    place.write_bytes(bytes([place.read_bytes()[0] ^ 1]) + place.read_bytes()[1:])
    assert main(["inspect", str(bundle.path)]) == 1
    assert f"{place.name}: SHA-256 is" in capsys.readouterr().err


def test_equal_bundles_have_no_difference(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_sharing(tmp_path / "other")
    assert compare_bundles(bundle, other).none
    assert "no difference: 3 graphs are equal" in printed(capsys, "--diff", str(bundle.path), str(other.path))


def test_sharing_alone_is_no_difference(bundle: Bundle, tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "whole") as writer:
        files, engines = {}, {}
        for variant in ("fp32", "int8"):
            whole = bundle.read_engine("audio", variant).self_contained()
            engines[variant], entry = writer.add_graph(f"audio.{variant}", whole)
            files[engines[variant]] = entry
        (stem,) = bundle.manifest.stems["audio"].values()
        files[stem] = writer.add_file(stem, bundle.read_file(stem))
        manifest = replace(bundle.manifest, engines={"audio": engines}, files=files, weights={})
        assert compare_bundles(bundle, writer.commit(manifest)).none


def test_a_difference_is_told_down_to_the_tensor(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_sharing(tmp_path / "other", temperature=2.0, sign=0.5)
    changes = compare_bundles(bundle, other)
    assert [(c.field, c.before, c.after) for c in changes.fields] == [
        ("subsets: audio: temperature", 1.0, 2.0)
    ]
    (graph,) = changes.graphs
    assert (graph.graph, graph.variant, graph.operators) == ("stem of audio", "fp32", {})
    assert (graph.tensors_changed, graph.tensors_same) == (1, 2)
    assert graph.largest_change == pytest.approx(0.5)
    text = printed(capsys, "--diff", str(bundle.path), str(other.path))
    assert "subsets: audio: temperature: 1.0 -> 2.0" in text
    assert "by up to 50 % of the largest number" in text
    document = as_json(capsys, "--diff", str(bundle.path), str(other.path))
    assert document["equal"] is False
    assert document["graphs"][0]["tensors_changed"] == 1


def test_graphs_that_come_and_go_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_bundle(tmp_path / "one", {"fp32": engine_bytes(), "int8": engine_bytes(sign=-1)})
    two = write_bundle(tmp_path / "two", {"fp32": engine_bytes(rounds=1)})
    text = printed(capsys, "--diff", str(one.path), str(two.path))
    assert "engine audio, int8: gone" in text
    assert "Softmax: 0 -> 1 nodes" in text
    assert "tensors new: big, first, ones, zero" in text
    assert "engine audio, int8: new" in printed(capsys, "--diff", str(two.path), str(one.path))


def quantized_model() -> bytes:
    """One product between Q/DQ pairs, one of MatMulInteger, one in fp16, one in fp32."""
    weight = np.ones((4, 4), np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dx"]),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["dw"]),
        helper.make_node("MatMul", ["dx", "dw"], ["a"]),
        helper.make_node("DynamicQuantizeLinear", ["a"], ["b8", "bs", "bz"]),
        helper.make_node("MatMulInteger", ["b8", "w8", "bz"], ["c32"]),
        helper.make_node("Cast", ["c32"], ["c"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["c", "w16"], ["d"]),
        helper.make_node("Cast", ["d"], ["e"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["e", "w32"], ["y"]),
    ]
    tensors = {
        "scale": np.float32(0.1),
        "zero": np.int8(0),
        "w8": weight,
        "w16": weight.astype(np.float16),
        "w32": weight.astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def test_the_precision_of_each_operator_and_weight() -> None:
    found = precision_map(outline_from_model(quantized_model()))
    assert found.operators == {
        "MatMul": {"int8": 1, "float16": 1, "float32": 1},
        "MatMulInteger": {"int8": 1},
    }
    assert found.moving == {
        "QuantizeLinear": 1,
        "DequantizeLinear": 2,
        "DynamicQuantizeLinear": 1,
        "Cast": 2,
    }
    weights = {weight.tensor.name: (weight.tensor.dtype, weight.operators) for weight in found.weights}
    assert weights == {
        "w8": ("int8", ("MatMul", "MatMulInteger")),
        "w16": ("float16", ("MatMul",)),
        "w32": ("float32", ("MatMul",)),
    }


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int64, np.int32])
@pytest.mark.parametrize("raw", [True, False])
def test_numbers_are_read_as_the_onnx_package_reads_them(kind: type, raw: bool) -> None:
    array: NDArray[Any] = np.array([[-3, 2, 1], [0, 7, -128]]).astype(kind)
    tensor = (
        numpy_helper.from_array(array, "w")
        if raw
        else helper.make_tensor("w", helper.np_dtype_to_tensor_dtype(array.dtype), [2, 3], array.flatten())
    )
    proto = onnx.load_model_from_string(engine_bytes())
    proto.graph.initializer.append(tensor)
    found = initializers_of(proto.SerializeToString())["w"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_a_device_needs_numpy_alone(bundle: Bundle) -> None:
    """No onnx, no onnxruntime: they are as good as absent in this process."""
    program = (
        "import sys; sys.modules.update(onnx=None, onnxruntime=None, onnxscript=None)\n"
        "from edgeemo.cli.main import main\n"
        f"path = {str(bundle.path)!r}\n"
        "for words in ([path], [path, '--engine', 'audio'], ['--diff', path, path]):\n"
        "    assert main(['inspect', *words]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no difference" in done.stdout
