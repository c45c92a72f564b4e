"""A graph and the tensors outside it: what may be pointed to, what is refused before a backend sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from shared_weights import SHARED, expected, feed, model
from tiny_graphs import engine_bytes

from edgeemo.bundle import GraphFile
from edgeemo.bundle.outline import outline_from_model
from edgeemo.bundle.tensors import Array
from edgeemo.bundle.wire import read_fields
from edgeemo.errors import BackendError, BundleError
from edgeemo.export.share import share_tensors
from edgeemo.runtimes import OrtRunner

SHARED_MODELS = share_tensors({name: model(name) for name in ("first", "second")}, "fp32")
WEIGHTS: dict[str, Array] = {SHARED_MODELS.location: np.frombuffer(SHARED_MODELS.data, np.uint8)}


def changed(change: Callable[[onnx.ModelProto, onnx.TensorProto], None]) -> bytes:
    """Returns the first engine after ``change(model, its external initializer)``."""
    proto = onnx.load_model_from_string(SHARED_MODELS.models["first"], "protobuf")
    (tensor,) = (t for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    change(proto, tensor)
    data: bytes = proto.SerializeToString()
    return data


def set_entry(key: str, value: str) -> Callable[[onnx.ModelProto, onnx.TensorProto], None]:
    def change(_: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value

    return change


def test_the_tensors_are_views_of_the_file() -> None:
    graph = GraphFile("first", SHARED_MODELS.models["first"], WEIGHTS)
    assert list(graph.tensors) == ["shared"]
    np.testing.assert_array_equal(graph.tensors["shared"], SHARED)
    assert not graph.tensors["shared"].flags.writeable
    assert np.shares_memory(graph.tensors["shared"], WEIGHTS[SHARED_MODELS.location])
    assert "1 tensors of 3072 bytes in weights/fp32." in repr(graph)


def test_self_contained_is_the_model_with_its_numbers_inside(tmp_path: Path) -> None:
    whole = GraphFile("first", SHARED_MODELS.models["first"], WEIGHTS).self_contained()
    read = onnx.load_model_from_string(whole)
    onnx.checker.check_model(read)
    assert {t.name: numpy_helper.to_array(t).tobytes() for t in read.graph.initializer} == {
        t.name: numpy_helper.to_array(t).tobytes() for t in model("first").graph.initializer
    }
    assert read.graph.node == model("first").graph.node
    assert GraphFile("whole", whole).self_contained() == whole


@pytest.mark.parametrize("share_weights", [False, True])
@pytest.mark.parametrize("name", ["first", "second"])
def test_both_ways_of_opening_give_the_same_answers(name: str, share_weights: bool) -> None:
    graph = GraphFile(name, SHARED_MODELS.models[name], WEIGHTS)
    with OrtRunner(graph, share_weights=share_weights) as runner:
        found = runner.run(feed())["logits"]
    np.testing.assert_allclose(found, expected(name), rtol=1e-5, atol=1e-5)


def test_shared_weights_outlive_everything_but_the_runner() -> None:
    data = np.frombuffer(bytes(SHARED_MODELS.data), np.uint8)
    graph = GraphFile("first", SHARED_MODELS.models["first"], {SHARED_MODELS.location: data})
    runner = OrtRunner(graph, share_weights=True)
    del graph, data
    np.testing.assert_allclose(runner.run(feed())["logits"], expected("first"), rtol=1e-5, atol=1e-5)


def test_bytes_alone_may_point_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a file of the right name lies in the working directory, which onnxruntime would read."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / SHARED_MODELS.location
    place.parent.mkdir()
    place.write_bytes(SHARED_MODELS.data)
    with pytest.raises(BundleError, match=r"points to 'weights/fp32\..*allows no file at all"):
        OrtRunner(SHARED_MODELS.models["first"])
    with OrtRunner(_beside(tmp_path)) as runner:  # a file of the user's own choice may
        np.testing.assert_allclose(runner.run(feed())["logits"], expected("first"), rtol=1e-5, atol=1e-5)


def _beside(folder: Path) -> Path:
    path = folder / "first.onnx"
    path.write_bytes(SHARED_MODELS.models["first"])
    return path


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "/etc/passwd",
        "weights/../weights/x.bin",
        "weights/other.bin",
        "",
        "*/_ORT_MEM_ADDR_/*",
        f"./{SHARED_MODELS.location}",
        f"{SHARED_MODELS.location}/",
        SHARED_MODELS.location.upper(),
        f"{SHARED_MODELS.location}\0.bin",
    ],
)
def test_other_places_are_refused(location: str) -> None:
    with pytest.raises(BundleError, match=r"'shared' points to .* the manifest allows weights/fp32"):
        GraphFile("first", changed(set_entry("location", location)), WEIGHTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("offset", "1"),
        ("offset", "-64"),
        ("offset", "64"),
        ("offset", "9" * 30),
        ("offset", "0x0"),
        ("length", "3071"),
        ("length", "3076"),
        ("length", "0"),
        ("length", "-1"),
        ("length", "\u0663"),
    ],
)
def test_places_outside_the_file_are_refused(key: str, value: str) -> None:
    with pytest.raises(BundleError, match=r"'shared' \[24, 32\] of float32 needs 3072 bytes; it names"):
        GraphFile("first", changed(set_entry(key, value)), WEIGHTS)


def _twice(_: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    tensor.external_data.add(key="location", value="/etc/passwd")


def _checksum(_: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    tensor.external_data.add(key="checksum", value="0")


def _both(_: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    tensor.raw_data = bytes(3072)


def _larger(_: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    tensor.dims[0] = -1


def _type(_: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    tensor.data_type = TensorProto.FLOAT8E4M3FN


def _names(proto: onnx.ModelProto, _: onnx.TensorProto) -> None:
    proto.graph.initializer.add().CopyFrom(numpy_helper.from_array(SHARED, "shared"))


def _attribute(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    proto.graph.node.add(op_type="Constant", name="sneaky", output=["c"]).attribute.add(
        name="value", type=onnx.AttributeProto.TENSOR
    ).t.CopyFrom(tensor)


def _subgraph(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "branch", [], [], [tensor])
    proto.graph.node.append(helper.make_node("If", ["c"], ["z"], name="deep", then_branch=branch))


def _function(proto: onnx.ModelProto, _: onnx.TensorProto) -> None:
    proto.functions.add(name="f", domain="of.somebody")


def _sparse(proto: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    proto.graph.sparse_initializer.add().values.CopyFrom(tensor)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_twice, "names its 'location' twice"),
        (_checksum, "described by 'checksum', which is unknown"),
        (_both, "lies in the model and in 'weights/fp32"),
        (_larger, r"needs -?\d+ bytes"),
        (_type, "of type 17 cannot lie in a weights file"),
        (_names, "two of its initializers have one name"),
        (_attribute, r"the node 'sneaky' \(Constant\) points to data outside the model"),
        (_subgraph, r"the node 'deep' \(If\) points to data outside the model"),
        (_function, "holds functions, where tensors outside the model could hide"),
        (_sparse, "holds sparse tensors, where tensors outside the model could hide"),
    ],
)
def test_odd_models_are_refused(
    change: Callable[[onnx.ModelProto, onnx.TensorProto], None], sentence: str
) -> None:
    with pytest.raises(BundleError, match=sentence):
        GraphFile("first", changed(change), WEIGHTS)


def test_a_function_that_points_outside_is_refused_though_the_graph_does_not() -> None:
    proto = model("first")
    (tensor,) = (
        t
        for t in onnx.load_model_from_string(SHARED_MODELS.models["first"]).graph.initializer
        if t.data_location == TensorProto.EXTERNAL
    )
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    proto.functions.append(
        helper.make_function("of.somebody", "f", [], ["c"], [constant], [helper.make_opsetid("", 20)])
    )
    with pytest.raises(BundleError, match="holds functions"):
        GraphFile("first", proto.SerializeToString(), WEIGHTS)


def test_a_tag_that_other_readers_cut_off_is_refused() -> None:
    """Field 7 (the graph) written as 2**29 + 7: the same 32 bits in C++, another field in Python."""
    data = SHARED_MODELS.models["first"]
    (graph,) = (bytes(whole) for number, _, _, whole in read_fields(memoryview(data)) if number == 7)
    tag = (7 << 3 | 2) + (1 << 32)
    disguised = bytes([tag & 0x7F | 0x80, 0x80, 0x80, 0x80, tag >> 28]) + graph[1:]
    with pytest.raises(BundleError, match="not a protobuf message"):
        GraphFile("first", data + disguised, WEIGHTS)


def test_a_model_with_two_graphs_is_refused() -> None:
    """Readers of protocol buffers merge them, so that each part alone would look harmless."""
    data = SHARED_MODELS.models["first"]
    with pytest.raises(BundleError, match="the model holds two graphs"):
        GraphFile("first", data + data, WEIGHTS)


@given(at=st.integers(0, len(SHARED_MODELS.models["first"]) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_never_reaches_outside(at: int, byte: int) -> None:
    """Whatever one byte becomes: refused by name, or everything outside is still the listed file."""
    data = bytearray(SHARED_MODELS.models["first"])
    data[at] = byte
    try:
        graph = GraphFile("first", bytes(data), WEIGHTS)
    except BundleError:
        return
    for array in graph.tensors.values():
        assert np.shares_memory(array, WEIGHTS[SHARED_MODELS.location])
    try:
        proto = onnx.load_model_from_string(bytes(data), "protobuf")
    except Exception:  # the protobuf backends have no common class for a parse error
        return
    # Without this word there is nowhere to look, and every reader says so.
    outside = {t.name for t in proto.graph.initializer if any(e.key == "location" for e in t.external_data)}
    assert outside <= set(graph.tensors)


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_truncated_models_are_refused(cut: int) -> None:
    with pytest.raises(BundleError, match=r"first: .*(cut off|truncated)"):
        GraphFile("first", SHARED_MODELS.models["first"][:-cut], WEIGHTS)


def test_a_graph_that_no_backend_opens_says_so() -> None:
    with pytest.raises(BackendError, match="cannot open 9 bytes"):
        OrtRunner(GraphFile("none", b"not onnx!"))


def test_the_outline_agrees_with_the_onnx_package() -> None:
    data = engine_bytes(rounds=2)
    outline, proto = outline_from_model(data), onnx.load_model_from_string(data)
    assert [node.operator for node in outline.nodes] == [node.op_type for node in proto.graph.node]
    assert [node.inputs for node in outline.nodes] == [tuple(node.input) for node in proto.graph.node]
    assert [(t.name, t.shape) for t in outline.initializers] == [
        (t.name, tuple(t.dims)) for t in proto.graph.initializer
    ]
    assert {t.dtype for t in outline.initializers} == {"float32", "int64"}
    assert sum(t.stored_bytes for t in outline.initializers) == sum(
        len(t.raw_data) for t in proto.graph.initializer
    )
    assert [(v.name, v.dtype, v.shape) for v in outline.inputs] == [
        ("features.audio", "float32", ("batch", 40, 4)),
        ("mask.audio", "float32", ("batch", 40)),
    ]
    assert outline.opsets == {"ai.onnx": 20}
    assert outline.ir_version == 10
