"""All passes together keep every answer, on the live checkpoint and on the other families."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

import onnx

from edgeemo.errors import InputError
from edgeemo.export import Checkpoint
from edgeemo.export.dialect import DIALECTS, check_operators
from edgeemo.export.graph import bind_weights, bytes_from_model
from edgeemo.export.passes.pipeline import optimize, optimize_all
from edgeemo.modality import subset_members
from edgeemo.runtimes import OrtRunner

LIVE = Path(__file__).parents[2] / "samples" / "checkpoints" / "live"
# Reordered sums of at most a few hundred fp32 products.
TOLERANCE = 1e-5


def random_feed(model: onnx.ModelProto, batch: int = 3) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs; the first window has one valid position, the second a gap."""
    rng = np.random.default_rng(11)
    feed: dict[str, np.ndarray[Any, Any]] = {}
    for value in model.graph.input:
        shape = [batch, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])]
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            feed[value.name] = rng.integers(0, 5, shape)
        elif value.name.startswith("mask."):
            feed[value.name] = np.ones(shape, np.float32)
            feed[value.name][0, 1:] = 0
            feed[value.name][1, 1] = 0
        else:
            feed[value.name] = rng.normal(size=shape).astype(np.float32)
    return feed


def assert_same_answers(before: onnx.ModelProto, after: onnx.ModelProto, batch: int = 3) -> None:
    feed = random_feed(before, batch)
    with OrtRunner(bytes_from_model(before)) as old, OrtRunner(bytes_from_model(after)) as new:
        assert [spec.name for spec in old.outputs] == [spec.name for spec in new.outputs]
        expected, found = old.run(feed), new.run(feed)
    for name, want in expected.items():
        assert np.abs(want).max() > 0
        np.testing.assert_allclose(found[name], want, atol=TOLERANCE * float(np.abs(want).max()), rtol=0)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(LIVE)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("subset", ["video", "audio+video+text"])
def test_engines_keep_their_answers_with_fewer_nodes(
    checkpoint: Checkpoint, subset: str, dialect: str
) -> None:
    bound = bind_weights(checkpoint.engine_graphs[subset], checkpoint.merged_weights(subset))
    optimized, reports = optimize(bound, dialect)
    check_operators(optimized, dialect, subset)
    assert_same_answers(bound, optimized)
    assert reports[0].nodes_before == len(bound.graph.node)
    assert reports[-1].nodes_after == len(optimized.graph.node) < 0.65 * len(bound.graph.node)
    assert reports[-1].bytes_after == optimized.ByteSize() < bound.ByteSize()
    for last, following in pairwise(reports):
        assert (last.nodes_after, last.bytes_after) == (following.nodes_before, following.bytes_before)
    names = [node.name for node in optimized.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("modality", ["audio", "video", "text"])
def test_stems_keep_their_answers_and_the_names_that_ranges_have(
    checkpoint: Checkpoint, modality: str, dialect: str
) -> None:
    bound = bind_weights(checkpoint.stem_graphs[modality], checkpoint.weights)
    optimized, _ = optimize(bound, dialect)
    check_operators(optimized, dialect, modality)
    assert_same_answers(bound, optimized, batch=2)
    convolved = [node for node in optimized.graph.node if node.op_type == "Conv"]
    assert {name for node in convolved for name in (node.input[0], node.output[0])} <= set(
        checkpoint.ranges[modality]
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_graph_gives_the_same_bytes_and_is_not_changed(checkpoint: Checkpoint, dialect: str) -> None:
    bound = bind_weights(checkpoint.engine_graphs["video"], checkpoint.merged_weights("video"))
    before = bytes_from_model(bound)
    first, second = (bytes_from_model(optimize(bound, dialect)[0]) for _ in range(2))
    assert first == second != before
    assert bytes_from_model(bound) == before


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_weight_that_subsets_share_stays_the_same_in_all_of_them(
    checkpoint: Checkpoint, dialect: str
) -> None:
    """Without adapters every weight is shared: the tri-modal engine holds each tensor of the others."""
    whole, *others = (
        optimize(bind_weights(checkpoint.engine_graphs[subset], checkpoint.weights), dialect)[0]
        for subset in ("audio+video+text", "audio", "video+text")
    )
    held = {tensor.name: tensor.raw_data for tensor in whole.graph.initializer}
    for model in others:
        tensors = {
            tensor.name: tensor.raw_data
            for tensor in model.graph.initializer
            if tensor.name.startswith("trunk.")
        }
        assert tensors
        assert {name: held.get(name) for name in tensors} == tensors


@pytest.mark.parametrize("kind", ["crosstemporal", "redifu-difference", "redifu-dual"])
def test_trunks_of_other_families_keep_their_answers(kind: str) -> None:
    pytest.importorskip("torch", reason="needs torch")
    from tiny_trunks import tiny_trunk

    from edgeemo.training.checkpoints.trace import graph_from_trunk, weights_from_module

    trunk = tiny_trunk(kind)
    weights = weights_from_module(trunk, "trunk")
    bound = bind_weights(graph_from_trunk(trunk, subset_members("audio+text")), weights)
    own = {name for name in weights if ".fusion." in name}
    for dialect, (optimized, _) in optimize_all(bound, DIALECTS, own=own).items():
        check_operators(optimized, dialect, kind)
        assert_same_answers(bound, optimized)


def test_blocks_are_put_together_only_where_the_subset_owns_them(checkpoint: Checkpoint) -> None:
    bound = bind_weights(checkpoint.engine_graphs["video+text"], checkpoint.weights)
    own = {f"{module}.weight" for module in checkpoint.adapters["video+text"].pairs}
    together, _ = optimize(bound, DIALECTS[0], own=own)
    apart, _ = optimize(bound, DIALECTS[0])
    assert_same_answers(bound, together)
    assert len(together.graph.node) < len(apart.graph.node)


def test_an_unknown_dialect_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="unknown dialect 'tflite'; there are: onnxruntime, standard"):
        optimize(checkpoint.engine_graphs["audio"], "tflite")
