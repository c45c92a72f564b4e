"""The checkpoint writer: graphs without weights, names that bind, answers to check without torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
onnx = pytest.importorskip("onnx", reason="needs onnx")
ort = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from dataclasses import replace  # noqa: E402

from safetensors.numpy import load_file  # noqa: E402
from tiny_checkpoint import (  # noqa: E402
    LENGTHS,
    LOW_RANK,
    TRUNK,
    WIDTHS,
    no_ranges,
    tiny_info,
    tiny_model,
    tiny_parts,
    tiny_windows,
    write_tiny_checkpoint,
)

from edgeemo.errors import CheckpointError, TrainingError  # noqa: E402
from edgeemo.modality import all_subsets, subset_members  # noqa: E402
from edgeemo.training.checkpoints.load import trunk_from_checkpoint  # noqa: E402
from edgeemo.training.checkpoints.save import Windows, answers, save_checkpoint  # noqa: E402
from edgeemo.training.checkpoints.trace import graph_from_module  # noqa: E402
from edgeemo.training.lowrank import AdaptedTrunk  # noqa: E402
from edgeemo.training.trunks.mculora import MCULoRATrunk  # noqa: E402

SUBSETS = all_subsets(tuple(WIDTHS))
COMMITTED = Path(__file__).parents[1] / "data" / "tiny_checkpoint"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AdaptedTrunk]:
    out = tmp_path_factory.mktemp("written") / "tiny"
    return out, write_tiny_checkpoint(out)


def graph(checkpoint: Path, name: str) -> Any:
    return onnx.load(str(checkpoint / "graphs" / f"{name}.onnx"), load_external_data=False)


def merged(checkpoint: Path, subset: str) -> dict[str, np.ndarray[Any, Any]]:
    """Base weights with the common and the subset's pairs added, as a reader without torch would."""
    weights = {k: v.astype(np.float64) for k, v in load_file(checkpoint / "model.safetensors").items()}
    for adapter in ("common", subset):
        pairs = load_file(checkpoint / "adapters" / adapter / "adapter_model.safetensors")
        config = json.loads((checkpoint / "adapters" / adapter / "adapter_config.json").read_text())
        for module in config["target_modules"]:
            rank = config["rank_pattern"].get(module, config["r"])
            scale = config["alpha_pattern"].get(module, config["lora_alpha"]) / rank
            name = f"base_model.model.{module}"
            a, b = pairs[f"{name}.lora_A.weight"], pairs[f"{name}.lora_B.weight"]
            assert a.shape[0] == b.shape[1] == rank
            weights[f"{module}.weight"] = weights[f"{module}.weight"] + scale * b.astype(np.float64) @ a
    return {name: value.astype(np.float32) for name, value in weights.items()}


def run(model: Any, weights: Mapping[str, Any], feed: dict[str, Any]) -> dict[str, Any]:
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    for tensor in bound.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    session = ort.InferenceSession(bound.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


@pytest.mark.parametrize("subset", SUBSETS)
def test_merged_weights_in_the_graph_answer_as_torch_does_unmerged(
    written: tuple[Path, AdaptedTrunk], subset: str
) -> None:
    checkpoint, _ = written
    reference = load_file(checkpoint / "reference.safetensors")
    feed = {
        f"{kind}.{m}": reference[f"{kind}.{m}"].astype(np.float32)
        for m in subset_members(subset)
        for kind in ("features", "mask")
    }
    model = graph(checkpoint, subset)
    found = run(model, merged(checkpoint, subset), feed)
    expected = reference[f"logits.{subset}"]
    # Products of at most 8 terms on numbers below 10: rounding stays below 1e-5 of the largest.
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found["logits"], expected, atol=tolerance, rtol=0)
    for m in subset_members(subset):
        np.testing.assert_allclose(
            found[f"evidence.{m}"], reference[f"evidence.{subset}.{m}"], atol=tolerance, rtol=0
        )
    base = run(model, load_file(checkpoint / "model.safetensors"), feed)
    assert np.abs(base["logits"] - expected).max() > 0.01


@pytest.mark.parametrize("name", [*SUBSETS, *(f"stem.{m}" for m in WIDTHS)])
def test_graphs_hold_names_and_no_weights_and_no_notes(written: tuple[Path, AdaptedTrunk], name: str) -> None:
    checkpoint, _ = written
    model = graph(checkpoint, name)
    weights = load_file(checkpoint / "model.safetensors")
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (10, [("", 20)])
    assert model.graph.initializer
    for tensor in model.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.EXTERNAL
        assert not tensor.raw_data
        assert not tensor.float_data
        assert tuple(tensor.dims) == weights[tensor.name].shape
    content = model.SerializeToString()
    for note in (b"pkg.torch", b"site-packages", b".py"):
        assert note not in content
    assert not model.graph.value_info
    dims = [value.type.tensor_type.shape.dim for value in (*model.graph.input, *model.graph.output)]
    assert {dim[0].dim_param for dim in dims} == {"batch"}
    assert all(size.dim_value > 0 for dim in dims for size in dim[1:])


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_graph_knows_nothing_of_absent_modalities(
    written: tuple[Path, AdaptedTrunk], subset: str
) -> None:
    model = graph(written[0], subset)
    members = subset_members(subset)
    names = [tensor.name for tensor in model.graph.initializer]
    absent = [m for m in WIDTHS if m not in members]
    assert not [name for name in names for m in absent if m in name.split(".")]
    assert [value.name for value in model.graph.input] == [
        f"{kind}.{m}" for m in members for kind in ("features", "mask")
    ]
    assert [value.name for value in model.graph.output] == ["logits", *(f"evidence.{m}" for m in members)]


def test_stem_graphs_answer_as_torch_did(written: tuple[Path, AdaptedTrunk]) -> None:
    checkpoint, _ = written
    reference = load_file(checkpoint / "reference.safetensors")
    weights = load_file(checkpoint / "model.safetensors")
    for m in WIDTHS:
        found = run(graph(checkpoint, f"stem.{m}"), weights, {f"input.{m}": reference[f"stem.{m}.input"]})
        np.testing.assert_allclose(found[f"features.{m}"], reference[f"stem.{m}.output"], atol=1e-5, rtol=0)


def test_adapters_name_the_base_they_belong_to(written: tuple[Path, AdaptedTrunk]) -> None:
    checkpoint, _ = written
    digest = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    for adapter in ("common", *SUBSETS):
        config = json.loads((checkpoint / "adapters" / adapter / "adapter_config.json").read_text())
        assert config["base_sha256"] == digest


def test_the_same_model_gives_the_committed_weights_and_description(
    written: tuple[Path, AdaptedTrunk],
) -> None:
    checkpoint, _ = written
    for name in ("checkpoint.json", "model.safetensors", "adapters/audio/adapter_model.safetensors"):
        assert (checkpoint / name).read_bytes() == (COMMITTED / name).read_bytes(), name


def test_torch_reads_back_what_it_wrote(written: tuple[Path, AdaptedTrunk]) -> None:
    checkpoint, model = written
    again = trunk_from_checkpoint(checkpoint)
    windows = tiny_windows().rounded()
    for subset in SUBSETS:
        np.testing.assert_array_equal(answers(again, windows, subset)[0], answers(model, windows, subset)[0])


def test_reading_back_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is this a checkpoint folder"):
        trunk_from_checkpoint(tmp_path)
    (tmp_path / "checkpoint.json").write_text('{"family": "other"}')
    with pytest.raises(CheckpointError, match="family 'other'"):
        trunk_from_checkpoint(tmp_path)


def test_a_failed_save_leaves_the_old_checkpoint_alone(tmp_path: Path) -> None:
    out = tmp_path / "live"
    out.mkdir()
    (out / "checkpoint.json").write_text("old")

    def failing(path: Path, weights: Mapping[str, Any], batches: Iterable[Any]) -> dict[str, list[float]]:
        raise OSError("disk full")

    model, part = one_modality(), tiny_parts()[2]
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(model, out, [part], tiny_info(model), only_text(tiny_windows()), ranges_of=failing)
    assert [path.name for path in out.iterdir()] == ["checkpoint.json"]
    assert (out / "checkpoint.json").read_text() == "old"
    save_checkpoint(
        model,
        out,
        [part],
        tiny_info(model),
        only_text(tiny_windows()),
        notes={"MODEL_CARD.md": "# card"},
        ranges_of=no_ranges,
    )
    assert json.loads((out / "checkpoint.json").read_text())["model_id"] == "tiny"
    assert (out / "MODEL_CARD.md").read_text() == "# card"
    assert [path.name for path in tmp_path.iterdir()] == ["live"]


def one_modality() -> AdaptedTrunk:
    torch.manual_seed(0)
    return AdaptedTrunk(MCULoRATrunk({"text": 4}, {"text": LENGTHS["text"]}, 3, **TRUNK), LOW_RANK)


def only_text(windows: Windows) -> Windows:
    return Windows({"text": windows.features["text"]}, {"text": windows.masks["text"]})


def test_what_cannot_be_a_checkpoint_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model, parts = tiny_model(), tiny_parts()
    info, windows = tiny_info(model), tiny_windows()
    out = tmp_path / "live"
    with pytest.raises(TrainingError, match="255 reference windows"):
        save_checkpoint(model, out, parts, info, tiny_windows(255), ranges_of=no_ranges)
    with pytest.raises(TrainingError, match="the parts are"):
        save_checkpoint(model, out, parts[:2], info, windows, ranges_of=no_ranges)
    wide = [replace(parts[0], width=5), *parts[1:]]
    with pytest.raises(TrainingError, match="audio: width and length"):
        save_checkpoint(model, out, wide, info, windows, ranges_of=no_ranges)
    short = replace(info, temperatures={"audio": 1.0})
    with pytest.raises(TrainingError, match="no temperature or prior for subset video"):
        save_checkpoint(model, out, parts, short, windows, ranges_of=no_ranges)
    with torch.no_grad():
        model.trunk.inputs["audio"].weight[0, 0] = torch.nan
    with pytest.raises(TrainingError, match=re.escape("trunk.inputs.audio.weight is not finite")):
        save_checkpoint(model, out, parts, info, windows, ranges_of=no_ranges)
    assert not out.exists()


def test_a_large_constant_that_is_no_buffer_is_refused() -> None:
    class Hidden(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.linspace(-1, 1, 100)

        def forward(self, x: Any) -> Any:
            return x + self.table

    with pytest.raises(TrainingError, match="register it as a buffer"):
        graph_from_module(Hidden(), [torch.zeros(2, 100)], ["x"], ["y"])
