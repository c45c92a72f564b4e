"""Tensors that several graphs share: stored once, the same numbers, the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shared_weights import SHARED, expected, feed, model

from edgeemo.bundle import GraphFile
from edgeemo.errors import ExportError
from edgeemo.export.share import ALIGNMENT, SharedModels, share_tensors
from edgeemo.runtimes import OrtRunner


def opened(shared: SharedModels, name: str, existing: dict[str, bytes] | None = None) -> GraphFile:
    files = {**(existing or {}), **({shared.location: shared.data} if shared.data else {})}
    wanted = {place: np.frombuffer(files[place], np.uint8) for place in shared.locations[name]}
    return GraphFile(name, shared.models[name], wanted)


def tensors_of(model_bytes: bytes) -> dict[str, tuple[int, tuple[int, ...], bytes]]:
    proto = onnx.load_model_from_string(model_bytes)
    return {
        t.name: (t.data_type, tuple(t.dims), numpy_helper.to_array(t).tobytes())
        for t in proto.graph.initializer
    }


def holding(tensors: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """A model that does nothing but hold tensors."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_what_two_engines_have_is_stored_once_and_they_answer_as_before() -> None:
    models = {name: model(name) for name in ("first", "second")}
    shared = share_tensors(models, "fp16")
    assert shared.data == SHARED.tobytes()
    assert shared.location.startswith("weights/fp16.")
    assert shared.locations == dict.fromkeys(models, (shared.location,))
    for name, proto in models.items():
        assert len(shared.models[name]) < proto.ByteSize() - 2900
        assert tensors_of(opened(shared, name).self_contained()) == tensors_of(proto.SerializeToString())
        with OrtRunner(opened(shared, name)) as runner:
            np.testing.assert_allclose(runner.run(feed())["logits"], expected(name), rtol=1e-5, atol=1e-5)


def test_the_given_models_are_not_changed() -> None:
    models = {name: model(name) for name in ("first", "second")}
    before = {name: proto.SerializeToString() for name, proto in models.items()}
    share_tensors(models, "fp32")
    assert {name: proto.SerializeToString() for name, proto in models.items()} == before


def test_one_bit_of_difference_keeps_them_apart() -> None:
    other = SHARED.copy()
    other[3, 4] = np.nextafter(other[3, 4], np.float32(9))
    shared = share_tensors({"first": model("first"), "second": model("second", other)}, "fp32")
    assert shared.data == b""
    assert shared.location == ""
    assert shared.locations == {"first": (), "second": ()}
    assert opened(shared, "second").self_contained() == shared.models["second"]


def test_names_do_not_matter_but_type_and_shape_do() -> None:
    ones = np.ones((32, 32), np.float32)
    models = {
        "a": holding({"w": ones}),
        "b": holding({"v": ones}),
        "c": holding({"w": ones.reshape(64, 16)}),
        "d": holding({"w": ones.view(np.int32)}),
    }
    shared = share_tensors(models, "fp32")
    assert len(shared.data) == ones.nbytes
    assert [name for name, places in shared.locations.items() if places] == ["a", "b"]
    assert list(opened(shared, "b").tensors) == ["v"]


def test_tensors_are_aligned_and_small_ones_stay_where_they_are() -> None:
    tensors = {f"t{size}": np.arange(size, dtype=np.uint8) for size in (4, 60, 200, 250)}
    shared = share_tensors({name: holding(tensors) for name in "abcdefg"}, "int8")
    graph = opened(shared, "a")
    start = np.frombuffer(shared.data, np.uint8)
    assert set(graph.tensors) == {"t200", "t250"}
    for array in opened(shared, "a").tensors.values():
        assert shared.data.find(array.tobytes()) % ALIGNMENT == 0
    assert start.nbytes == 256 + 250
    assert tensors_of(graph.self_contained()) == tensors_of(holding(tensors).SerializeToString())


def test_numbers_in_typed_fields_are_found_too() -> None:
    typed = holding({})
    typed.graph.initializer.append(helper.make_tensor("w", TensorProto.INT8, [512], [*range(-128, 128)] * 2))
    raw = holding({"w": np.tile(np.arange(-128, 128, dtype=np.int8), 2)})
    shared = share_tensors({"a": typed, "b": raw, "c": raw}, "int8")
    assert len(shared.data) == 512
    assert opened(shared, "a").tensors["w"].tolist() == [*range(-128, 128)] * 2


def test_no_file_is_made_for_next_to_nothing_nor_for_one_model() -> None:
    small = holding({"t": np.arange(300, dtype=np.uint8)})
    assert share_tensors({"a": small, "b": small}, "int8").data == b""
    twice = holding({name: np.arange(1000, dtype=np.float32) for name in ("t", "u")})
    assert share_tensors({"a": twice}, "int8").data == b""


def test_the_same_models_give_the_same_bytes() -> None:
    models = {name: model(name) for name in ("first", "second")}
    assert share_tensors(models, "fp32") == share_tensors(models, "fp32")


def test_what_an_existing_file_holds_is_pointed_to() -> None:
    """An engine that is made anew finds its unadapted tensors where the others have them."""
    old = share_tensors({name: model(name) for name in ("first", "second")}, "int8")
    files = {old.location: old.data}
    new = share_tensors({"first": model("first")}, "int8", files)
    assert new.data == b""
    assert new.models["first"] == old.models["first"]
    assert new.locations == {"first": (old.location,)}
    opened(new, "first", files)


def test_new_shared_tensors_go_into_a_second_file() -> None:
    old = share_tensors({name: model(name) for name in ("first", "second")}, "int8")
    extra = np.arange(1000, dtype=np.float32)
    grown = {}
    for name in ("first", "second"):
        grown[name] = model(name)
        grown[name].graph.initializer.append(numpy_helper.from_array(extra, "extra"))
    new = share_tensors(grown, "int8", {old.location: old.data})
    assert new.data == extra.tobytes()
    assert new.locations["first"] == tuple(sorted((old.location, new.location)))
    tensors = opened(new, "first", {old.location: old.data}).tensors
    np.testing.assert_array_equal(tensors["shared"], SHARED)
    np.testing.assert_array_equal(tensors["extra"], extra)


def test_a_model_that_shares_already_is_refused() -> None:
    shared = share_tensors({name: model(name) for name in ("first", "second")}, "fp32")
    again = {name: onnx.load_model_from_string(data) for name, data in shared.models.items()}
    with pytest.raises(ExportError, match="'shared' of 'first' already lies outside its model"):
        share_tensors(again, "fp32")


@given(
    pool=st.lists(
        st.tuples(st.sampled_from(["f2", "f4", "i1", "i8"]), st.integers(0, 300), st.integers(0, 3)),
        min_size=1,
        max_size=6,
        unique=True,
    ),
    picks=st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=5),
)
def test_sharing_never_changes_a_number_and_never_grows_a_bundle(
    pool: list[tuple[str, int, int]], picks: list[set[int]]
) -> None:
    arrays = [
        np.random.default_rng(seed).integers(0, 100, size).astype(np.dtype(kind)) for kind, size, seed in pool
    ]
    models = {
        str(i): holding({f"t{j}": arrays[j] for j in sorted(pick) if j < len(arrays)})
        for i, pick in enumerate(picks)
    }
    shared = share_tensors(models, "fp32")
    for name, proto in models.items():
        assert tensors_of(opened(shared, name).self_contained()) == tensors_of(proto.SerializeToString())
    before = sum(proto.ByteSize() for proto in models.values())
    assert len(shared.data) + sum(map(len, shared.models.values())) <= before
