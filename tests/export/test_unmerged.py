"""The unmerged graph: base and adapters apart give the answers of the training framework."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeemo.errors import ExportError
from edgeemo.export import Checkpoint
from edgeemo.export.adapters.merge import Adapter, LowRankPair, merge_adapters
from edgeemo.export.adapters.unmerged import unmerged_answers, unmerged_graph
from edgeemo.export.graph import bind_weights, bytes_from_model
from edgeemo.modality import all_subsets
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
SUBSETS = all_subsets(("audio", "video", "text"))

Arrays = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(TINY)


@pytest.mark.parametrize("subset", SUBSETS)
def test_base_and_branches_answer_as_in_training(checkpoint: Checkpoint, subset: str) -> None:
    adapters = [checkpoint.adapters[name] for name in ("common", subset)]
    graph = checkpoint.engine_graphs[subset]
    found = unmerged_answers(graph, checkpoint.weights, adapters, subset, checkpoint.reference)
    expected = {name: checkpoint.reference[name] for name in found}
    assert set(found) == {f"logits.{subset}", *(f"evidence.{subset}.{m}" for m in subset.split("+"))}
    scale = np.abs(expected[f"logits.{subset}"]).max()
    for name, array in found.items():
        assert np.abs(array - expected[name]).max() <= 1e-5 * scale, name
    # Each adapter is needed for that.
    for left in ([], adapters[:1], adapters[1:]):
        other = unmerged_answers(graph, checkpoint.weights, left, subset, checkpoint.reference)
        assert np.abs(other[f"logits.{subset}"] - expected[f"logits.{subset}"]).max() > 1e-3 * scale


def test_the_weights_stay_those_of_the_base(checkpoint: Checkpoint) -> None:
    adapters = [checkpoint.adapters[name] for name in ("common", "audio")]
    model = unmerged_graph(checkpoint.engine_graphs["audio"], checkpoint.weights, adapters)
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    adapted = [f"{module}.weight" for adapter in adapters for module in adapter.pairs]
    for name in set(adapted) & set(found):
        np.testing.assert_array_equal(found[name], checkpoint.weights[name])


def graph_of(*nodes: onnx.NodeProto, shape: tuple[int, ...], width: int = 4) -> onnx.ModelProto:
    """A graph from x to y over the weight ``layer.weight``, which waits for its numbers."""
    weight = TensorProto(name="layer.weight", data_type=TensorProto.FLOAT, dims=shape)
    weight.data_location = TensorProto.EXTERNAL
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


TRANSPOSE = node("Transpose", "layer.weight", "t", perm=[1, 0])
USES = {
    "a linear layer": graph_of(TRANSPOSE, node("MatMul", "x t", "y"), shape=(3, 4)),
    "stored the other way round": graph_of(node("MatMul", "x layer.weight", "y"), shape=(4, 3)),
    "Gemm": graph_of(node("Gemm", "x layer.weight", "y", transB=1, alpha=0.5), shape=(3, 4)),
    "Gemm, not transposed": graph_of(node("Gemm", "x layer.weight", "y"), shape=(4, 3)),
    "used twice": graph_of(
        TRANSPOSE,
        node("MatMul", "x t", "h"),
        node("Gemm", "h layer.weight", "y", transB=1),
        shape=(4, 4),
    ),
    "a left factor": graph_of(
        node("Transpose", "x", "xt", perm=[1, 0]), node("MatMul", "layer.weight xt", "y"), shape=(3, 4)
    ),
    "a sum": graph_of(node("Add", "x layer.weight", "y"), shape=(1, 4)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("adapters", [1, 2])
def test_whatever_the_weight_is_used_for(use: str, adapters: int) -> None:
    graph = USES[use]
    rng = np.random.default_rng(7)
    rows, columns = graph.graph.initializer[0].dims
    weights = {"layer.weight": rng.standard_normal((rows, columns)).astype(np.float32)}
    added = [
        Adapter(
            name,
            {
                "layer": LowRankPair(
                    rng.standard_normal((2, columns)).astype(np.float32),
                    rng.standard_normal((rows, 2)).astype(np.float32),
                    scale=0.5 + number,
                )
            },
        )
        for number, name in enumerate(("common", "audio")[:adapters])
    ]
    feed = {"x": rng.standard_normal((5, 4)).astype(np.float32)}

    def answer(model: onnx.ModelProto) -> NDArray[np.float32]:
        with OrtRunner(bytes_from_model(model)) as runner:
            found: NDArray[np.float32] = runner.run(feed)["y"]
            return found

    merged = answer(bind_weights(graph, merge_adapters(weights, added)))
    unmerged = answer(unmerged_graph(graph, weights, added))
    base = answer(unmerged_graph(graph, weights, []))
    assert np.abs(unmerged - merged).max() <= 1e-5 * np.abs(merged).max()
    assert np.abs(base - merged).max() > 1e-2 * np.abs(merged).max()


def test_a_weight_that_is_not_there_is_named() -> None:
    with pytest.raises(ExportError, match=r"'layer\.weight' .* found none"):
        unmerged_graph(USES["Gemm"], {}, [])
