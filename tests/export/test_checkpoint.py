"""Opening a checkpoint: whole or refused by name, whatever is wrong with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeemo.bundle import bytes_from_tensors, read_tensors
from edgeemo.errors import CheckpointError, FormatVersionError, SubsetError
from edgeemo.export import Checkpoint
from edgeemo.modality import all_subsets

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
WEIGHT = "trunk.blocks.audio.0.fc1.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to break."""
    return Path(shutil.copytree(TINY, tmp_path / "checkpoint"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_tensors(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = {name: np.array(array) for name, array in read_tensors(path).items()}
    change(tensors)
    path.write_bytes(bytes_from_tensors(tensors))


def edit_base(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes base weights and tells every adapter, so that only the change itself is wrong."""
    edit_tensors(folder / "model.safetensors", change)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    for config in folder.glob("adapters/*/adapter_config.json"):
        edit_json(config, lambda data: data.update(base_sha256=digest))


def edit_graph(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


def test_the_tiny_checkpoint_opens() -> None:
    checkpoint = Checkpoint.open(TINY)
    assert checkpoint.order == ("audio", "video", "text")
    assert tuple(checkpoint.subsets) == all_subsets(checkpoint.order)
    assert set(checkpoint.adapters) == {"common", *checkpoint.subsets}
    assert checkpoint.weights[WEIGHT].shape == (8, 8)
    assert checkpoint.reference["logits.audio+video"].shape == (256, 3)
    digest = hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()
    assert checkpoint.files["model.safetensors"] == digest
    assert set(checkpoint.files) == {
        place.relative_to(TINY).as_posix() for place in TINY.rglob("*") if place.is_file()
    }
    assert "'tiny' (mculora)" in repr(checkpoint)


def test_choosing_subsets() -> None:
    checkpoint = Checkpoint.open(TINY)
    assert checkpoint.choose_subsets(["text", "video+audio", "text"]) == ("text", "audio+video")
    assert checkpoint.choose_subsets(None) == tuple(checkpoint.subsets)
    with pytest.raises(SubsetError, match=r"no subset 'audio\+smell' in .*; there are: audio, video, text"):
        checkpoint.choose_subsets(["audio+smell"])
    with pytest.raises(SubsetError, match="no subset asked for"):
        checkpoint.choose_subsets([])


def refuse(folder: Path, sentence: str, error: type[Exception] = CheckpointError) -> None:
    with pytest.raises(error, match=sentence):
        Checkpoint.open(folder)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    refuse(tmp_path, r"holds no checkpoint\.json")
    refuse(tmp_path / "absent", r"holds no checkpoint\.json")


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.0, True])
def test_unknown_format_version(folder: Path, version: object) -> None:
    edit_json(folder / "checkpoint.json", lambda data: data.update(format_version=version))
    refuse(folder, "this checkpoint has format version", FormatVersionError)


def test_missing_tensor(folder: Path) -> None:
    edit_base(folder, lambda tensors: tensors.pop("trunk.norms.audio.bias"))
    refuse(folder, r"missing tensor 'trunk\.norms\.audio\.bias' \[8\], which the graph of audio needs")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop(WEIGHT), rf"missing tensor '{WEIGHT}' \[8, 8\]"),
        (lambda tensors: tensors.pop("stem.audio.conv.bias"), r"missing tensor 'stem\.audio\.conv\.bias'"),
        (lambda tensors: tensors.update(spare=np.zeros(3, np.float32)), "extra tensor 'spare'"),
        (
            lambda tensors: tensors.update({WEIGHT: np.zeros((8, 7), np.float32)}),
            rf"'{WEIGHT}' has shape \[8, 7\]; expected \[8, 8\]",
        ),
    ],
    ids=["missing", "missing in a stem", "extra", "misshapen"],
)
def test_a_broken_base_is_named_though_its_adapters_fit_no_more(
    folder: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    edit_tensors(folder / "model.safetensors", change)
    refuse(folder, sentence)


@pytest.mark.parametrize("hop_s", [1e-9, 0.04, 61])
def test_a_hop_that_no_session_could_keep(folder: Path, hop_s: float) -> None:
    edit_json(folder / "checkpoint.json", lambda data: data.update(hop_s=hop_s))
    refuse(folder, r"'hop_s' is .*; expected 0\.05\.\.60 seconds")


@pytest.mark.parametrize("alpha", [1e42, 1e308])
def test_a_merged_weight_that_does_not_fit_is_named(folder: Path, alpha: float) -> None:
    config = folder / "adapters/audio/adapter_config.json"
    edit_json(config, lambda data: data.update(lora_alpha=alpha, alpha_pattern={}))
    checkpoint = Checkpoint.open(folder)
    with pytest.raises(CheckpointError, match=r"the weight 'trunk\..*' merged .* do not fit float32"):
        checkpoint.merged_weights("audio")


def test_missing_stem_tensor(folder: Path) -> None:
    edit_base(folder, lambda tensors: tensors.pop("stem.audio.conv.bias"))
    refuse(folder, r"missing tensor 'stem\.audio\.conv\.bias' \[4\], which the stem of audio needs")


def test_extra_tensor(folder: Path) -> None:
    edit_base(folder, lambda tensors: tensors.update({"trunk.spare": np.zeros(3, np.float32)}))
    refuse(folder, r"extra tensor 'trunk\.spare'")


def test_misshapen_tensor(folder: Path) -> None:
    edit_base(folder, lambda tensors: tensors.update({"trunk.norms.audio.bias": np.zeros(9, np.float32)}))
    refuse(folder, r"'trunk\.norms\.audio\.bias' has shape \[9\]; expected \[8\]")


def test_tensor_of_another_type(folder: Path) -> None:
    edit_base(folder, lambda tensors: tensors.update({WEIGHT: np.zeros((8, 8), np.float16)}))
    refuse(folder, r"fc1\.weight' is float16; expected float32")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_tensor_that_is_not_finite(folder: Path, number: float) -> None:
    edit_base(folder, lambda tensors: tensors[WEIGHT].__setitem__((2, 3), number))
    refuse(folder, r"'trunk\.blocks\.audio\.0\.fc1\.weight' holds 1 numbers that are not finite")


def test_adapter_that_is_not_finite(folder: Path) -> None:
    name = f"base_model.model.{WEIGHT.removesuffix('.weight')}.lora_B.weight"
    edit_tensors(
        folder / "adapters/audio/adapter_model.safetensors",
        lambda tensors: tensors[name].__setitem__((0, 0), np.nan),
    )
    refuse(folder, r"adapters/audio/.*fc1\.lora_B\.weight' holds 1 numbers that are not finite")


def test_adapter_for_another_base(folder: Path) -> None:
    config = folder / "adapters/video+text/adapter_config.json"
    edit_json(config, lambda data: data.update(base_sha256="0" * 64))
    refuse(folder, r"the adapter 'video\+text' was trained over a base with SHA-256 0000")


def test_a_base_that_changed_after_its_adapters(folder: Path) -> None:
    edit_tensors(folder / "model.safetensors", lambda tensors: tensors[WEIGHT].__setitem__((0, 0), 9))
    refuse(folder, r"the adapter 'common' was trained over a base")


def test_adapter_with_a_missing_half(folder: Path) -> None:
    edit_tensors(
        folder / "adapters/text/adapter_model.safetensors",
        lambda tensors: tensors.pop("base_model.model.trunk.inputs.text.lora_A.weight"),
    )
    refuse(folder, r"missing tensor 'base_model\.model\.trunk\.inputs\.text\.lora_A\.weight'")


def test_adapter_with_a_missing_pair(folder: Path) -> None:
    def drop(tensors: dict[str, Any]) -> None:
        for side in "AB":
            tensors.pop(f"base_model.model.trunk.inputs.text.lora_{side}.weight")

    edit_tensors(folder / "adapters/text/adapter_model.safetensors", drop)
    refuse(folder, r"missing tensor: no pair of adapter_model\.safetensors adapts 'trunk\.inputs\.text'")


def test_adapter_with_an_extra_tensor(folder: Path) -> None:
    edit_tensors(
        folder / "adapters/text/adapter_model.safetensors",
        lambda tensors: tensors.update({"base_model.model.nowhere.lora_A.weight": np.zeros((1, 4), "<f4")}),
    )
    refuse(folder, r"extra tensor 'base_model\.model\.nowhere\.lora_A\.weight'")


def test_adapter_for_an_absent_modality(folder: Path) -> None:
    target = folder / "adapters/text"
    shutil.rmtree(target)
    shutil.copytree(folder / "adapters/audio", target)
    refuse(folder, r"the adapter 'text' adapts 'trunk\.blocks\.audio.*', which is not in its graph")


def test_adapter_of_another_rank(folder: Path) -> None:
    edit_json(folder / "adapters/audio/adapter_config.json", lambda data: data.update(r=3))
    refuse(folder, r"lora_A\.weight' has shape \[2, 8\]; expected \[3, 8\] \(rank 3 over a weight")


@pytest.mark.parametrize("option", ["use_dora", "lora_bias", "an_option_of_tomorrow"])
def test_adapter_of_another_kind(folder: Path, option: str) -> None:
    edit_json(folder / "adapters/audio/adapter_config.json", lambda data: data.update({option: True}))
    refuse(folder, f"'{option}' is set")


def test_subset_that_is_none(folder: Path) -> None:
    def add(data: dict[str, Any]) -> None:
        data["subsets"]["audio+smell"] = data["subsets"]["audio"]

    edit_json(folder / "checkpoint.json", add)
    refuse(folder, r"'audio\+smell' is no subset of audio, video, text")


def test_graph_with_an_input_of_an_absent_modality(folder: Path) -> None:
    shutil.copyfile(folder / "graphs/audio+video.onnx", folder / "graphs/audio.onnx")
    refuse(folder, r"graphs/audio\.onnx: extra input 'features\.video'")


def test_graph_of_another_window(folder: Path) -> None:
    edit_json(folder / "checkpoint.json", lambda data: data["modalities"][0]["window"].update(length=5))
    refuse(folder, r"'features\.audio' has shape \['batch', 4, 4\]; expected \['batch', 5, 4\]")


def test_graph_whose_initializer_has_no_weight(folder: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "trunk.norms.audio.bias")
        for node in model.graph.node:
            for position, name in enumerate(node.input):
                if name == tensor.name:
                    node.input[position] = "trunk.norms.audio.offset"
        tensor.name = "trunk.norms.audio.offset"

    edit_graph(folder / "graphs/audio.onnx", rename)
    refuse(folder, r"missing tensor 'trunk\.norms\.audio\.offset' \[8\], which the graph of audio needs")


def test_external_data_is_never_followed(folder: Path, tmp_path: Path) -> None:
    """Graphs that point at a file outside open like any other: the location is not looked at."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x01" * 4096)

    def point(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            del tensor.external_data[:]
            tensor.external_data.add(key="location", value="../../secret")

    edit_graph(folder / "graphs/audio.onnx", point)
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.weights[WEIGHT].max() < 4


def test_external_data_in_a_node_is_refused(folder: Path) -> None:
    def plant(model: onnx.ModelProto) -> None:
        constant = next(node for node in model.graph.node if node.op_type == "Constant")
        tensor = constant.attribute[0].t
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")

    edit_graph(folder / "graphs/audio.onnx", plant)
    refuse(folder, "points to data outside the graph")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda model: setattr(model.opset_import[0], "version", 21), "opset 21"),
        (lambda model: setattr(model, "ir_version", 11), "IR 11"),
        (
            lambda model: setattr(model.graph.node[3], "domain", "com.microsoft"),
            "expected standard operators",
        ),
    ],
)
def test_graphs_of_another_standard(
    folder: Path, change: Callable[[onnx.ModelProto], object], sentence: str
) -> None:
    edit_graph(folder / "graphs/audio.onnx", change)
    refuse(folder, sentence)


def test_graph_that_is_none(folder: Path) -> None:
    (folder / "graphs/text.onnx").write_bytes(b"not a graph")
    refuse(folder, r"graphs/text\.onnx: (not an ONNX model|opset None)")


@pytest.mark.parametrize("name", ["reference.safetensors", "graphs/stem.text.onnx", "ranges.json"])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refuse(folder, f"{Path(name).name}: cannot be read")


@pytest.mark.parametrize("name", ["model.safetensors", "reference.safetensors", "checkpoint.json"])
def test_truncated_file(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    refuse(folder, f"{name}: ")


def test_a_name_that_leaves_the_folder(folder: Path) -> None:
    edit_json(
        folder / "checkpoint.json",
        lambda data: data["subsets"]["audio"].update(graph="../../graphs/audio.onnx"),
    )
    refuse(folder, "stays inside the folder")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("logits.audio"), "missing tensor 'logits.audio'"),
        (lambda t: t.pop("features.audio"), "missing tensor 'features.audio'"),
        (lambda t: t.update(spare=np.zeros(1, "<f4")), "extra tensor 'spare'"),
        (lambda t: t.update({"logits.audio": np.zeros((256, 4), "<f4")}), r"expected float32 \[256, 3\]"),
        (lambda t: t["logits.text"].__setitem__((0, 0), np.nan), "'logits.text' holds numbers that are not"),
        (lambda t: t.update({k: v[:255] for k, v in t.items() if "stem" not in k}), "255 windows; expected"),
        (lambda t: t.update({"stem.text.input": t["stem.text.input"].astype("<f4")}), "expected int64"),
    ],
)
def test_reference_that_does_not_fit(
    folder: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    edit_tensors(folder / "reference.safetensors", change)
    refuse(folder, sentence)


def test_ranges_that_are_none(folder: Path) -> None:
    edit_json(folder / "ranges.json", lambda data: data["stem.audio"].update(relu=[1.0, -1.0]))
    refuse(folder, r"'relu' must be \[lo, hi\] with lo <= hi")


def test_unknown_field(folder: Path) -> None:
    edit_json(folder / "checkpoint.json", lambda data: data.update(surprise=1))
    refuse(folder, "unknown 'surprise'; known: ")
