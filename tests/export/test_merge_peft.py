"""A plain ONNX model merged with a PEFT adapter answers as PEFT's own merge does."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
peft = pytest.importorskip("peft", reason="needs peft")
pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

import onnx  # noqa: E402
from tiny_bert import (  # noqa: E402
    EXPORTERS,
    export,
    onnx_answer,
    shared_network,
    tiny_bert,
    tiny_gpt2,
    torch_answer,
)

from edgeemo.cli.main import main  # noqa: E402
from edgeemo.errors import CheckpointError, InputError  # noqa: E402
from edgeemo.export import merge_peft  # noqa: E402

# PEFT and transformers warn about each other.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")

HIDDEN = "last_hidden_state"
TOLERANCE = 1e-5  # of the largest value
ENCODER = ["query", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny BERT as each exporter writes it."""
    folder = tmp_path_factory.mktemp("bases")
    return {name: export(tiny_bert(), folder / f"{name}.onnx", name, HIDDEN) for name in EXPORTERS}


def adapted(base: Any, folder: Path, answer: str = HIDDEN, **words: Any) -> Any:
    """Saves a random adapter over ``base`` and returns PEFT's merged answer."""
    torch.manual_seed(3)
    words = {"r": 4, "lora_alpha": 6, "target_modules": ENCODER, "init_lora_weights": False} | words
    model = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**words))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(folder)
    return torch_answer(model.merge_and_unload(), answer)


def check(merged: Path, base: Path, expected: Any) -> None:
    largest = float(np.abs(expected).max())
    assert float(np.abs(onnx_answer(merged) - expected).max()) <= TOLERANCE * largest
    assert float(np.abs(onnx_answer(base) - expected).max()) > 100 * TOLERANCE * largest


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    "words",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"query": 2, r"layer\.1\..*\.value": 3}, "alpha_pattern": {"1.output.dense": 1}},
        {
            "use_rslora": True,
            "rank_pattern": {r"^encoder\.layer\.0\.attention\.self\.query": 7},
            "alpha_pattern": {"encoder.layer.0.attention.self.query": 11, "value": 2},
        },
        {"target_modules": r"encoder\.layer\.\d\.attention\.self\.(query|key)"},
        {"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": "layer"},
    ],
    ids=["plain", "rslora", "patterns", "rslora and patterns", "expression", "some layers"],
)
def test_the_merged_model_is_pefts(
    bases: dict[str, Path], tmp_path: Path, exporter: str, words: dict[str, Any]
) -> None:
    expected = adapted(tiny_bert(), tmp_path / "adapter", **words)
    report = merge_peft(bases[exporter], tmp_path / "adapter", tmp_path / "merged.onnx")
    check(tmp_path / "merged.onnx", bases[exporter], expected)
    assert {entry.found_by for entry in report.weights} == {"name" if exporter == "names" else "scope"}
    assert {entry.stored for entry in report.weights} == {"out, in" if exporter == "names" else "in, out"}
    assert all(entry.change > 0.01 for entry in report.weights)
    assert report.bytes == (tmp_path / "merged.onnx").stat().st_size


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_conv1d_layers_that_store_their_weight_the_other_way_round(tmp_path: Path, exporter: str) -> None:
    """GPT-2: c_attn (24, 72) and the square attn.c_proj (24, 24), whose shape says nothing."""
    base = export(tiny_gpt2(), tmp_path / "base.onnx", exporter, HIDDEN)
    words: dict[str, Any] = {
        "target_modules": ["c_attn", "attn.c_proj", "mlp.c_proj"],
        "fan_in_fan_out": True,
    }
    expected = adapted(tiny_gpt2(), tmp_path / "adapter", **words)
    report = merge_peft(base, tmp_path / "adapter", tmp_path / "merged.onnx")
    check(tmp_path / "merged.onnx", base, expected)
    assert [entry.stored for entry in report.weights] == ["in, out"] * 3


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(("head", "fresh"), [("sequence", False), ("token", True)])
def test_a_head_that_was_trained_whole_takes_the_place_of_the_bases(
    tmp_path: Path, exporter: str, head: str, fresh: bool
) -> None:
    """A fresh head has a bias of zeros, which exporters leave out of the graph, or store once for all."""
    model = tiny_bert(head)
    if fresh:
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
    base = export(model, tmp_path / "base.onnx", exporter, "logits")
    words: dict[str, Any] = {"task_type": "SEQ_CLS", "target_modules": ["query"]}
    expected = adapted(model, tmp_path / "adapter", "logits", **words, modules_to_save=["classifier"])
    report = merge_peft(base, tmp_path / "adapter", tmp_path / "merged.onnx")
    check(tmp_path / "merged.onnx", base, expected)
    assert sorted(entry.rank for entry in report.weights) == [0, 0, 4, 4]
    used = {name for node in onnx.load(tmp_path / "merged.onnx").graph.node for name in node.input}
    assert not [name for name in used if name.endswith("classifier.bias")]


@pytest.mark.parametrize("exporter", ["names", "folded"])
@pytest.mark.parametrize("targets", [["twin"], ["twice"], ["twice", "twin"]], ids="+".join)
def test_a_weight_that_the_exporter_stored_once_changes_for_its_module_alone(
    tmp_path: Path, exporter: str, targets: list[str]
) -> None:
    network = shared_network()
    base = export(network, tmp_path / "base.onnx", exporter, HIDDEN)
    expected = adapted(network, tmp_path / "adapter", target_modules=targets)
    merge_peft(base, tmp_path / "adapter", tmp_path / "merged.onnx")
    check(tmp_path / "merged.onnx", base, expected)
    model = onnx.load(tmp_path / "merged.onnx")
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used


@pytest.mark.parametrize("exporter", ["names", "folded"])
def test_a_head_that_is_an_embedding_too_leaves_the_embedding_alone(tmp_path: Path, exporter: str) -> None:
    """PEFT's unmerged answer is the truth here: its own merge changes the embedding with the head."""
    network = shared_network()
    base = export(network, tmp_path / "base.onnx", exporter, HIDDEN)
    config = peft.LoraConfig(r=2, target_modules=["head"], init_lora_weights=False)
    model = peft.get_peft_model(copy.deepcopy(network), config)
    model.save_pretrained(tmp_path / "adapter")
    merge_peft(base, tmp_path / "adapter", tmp_path / "merged.onnx")
    check(tmp_path / "merged.onnx", base, torch_answer(model, HIDDEN))


def test_names_that_do_not_tell_two_calls_from_two_modules_are_refused(tmp_path: Path) -> None:
    network = shared_network()
    base = export(network, tmp_path / "base.onnx", "renamed", HIDDEN)
    adapted(network, tmp_path / "adapter", target_modules=["twice"])
    with pytest.raises(CheckpointError, match=r"twice \(its weight .* whether that is this module"):
        merge_peft(base, tmp_path / "adapter", tmp_path / "merged.onnx")
    assert not (tmp_path / "merged.onnx").exists()


def test_the_same_files_give_the_same_bytes(bases: dict[str, Path], tmp_path: Path) -> None:
    adapted(tiny_bert(), tmp_path / "adapter")
    for name in ("one.onnx", "two.onnx"):
        merge_peft(bases["names"], tmp_path / "adapter", tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_modules_that_the_graph_lacks_are_listed_and_may_be_skipped_by_name(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    """As where PEFT adapted the pooler too, and only the hidden states were exported."""
    from transformers import BertModel

    torch.manual_seed(0)
    whole = BertModel(tiny_bert().config)
    whole.load_state_dict(tiny_bert().state_dict(), strict=False)
    expected = adapted(whole, tmp_path / "adapter", target_modules=["query", "dense"])
    merged = tmp_path / "merged.onnx"
    with pytest.raises(
        CheckpointError,
        match=r"1 of the adapter's 9 modules are not in the graph by name: pooler\.dense\. "
        r"The graph has: model\.encoder\.layer\.0\.attention\.output\.dense.*skip by name",
    ):
        merge_peft(bases["renamed"], tmp_path / "adapter", merged)
    merge_peft(bases["renamed"], tmp_path / "adapter", merged, skip=["pooler.dense"])
    check(merged, bases["renamed"], expected)
    query = "encoder.layer.0.attention.self.query"
    with pytest.raises(InputError, match=f"'{query}' is in the graph; only these can be skipped: pooler"):
        merge_peft(bases["names"], tmp_path / "adapter", merged, skip=[query])
    with pytest.raises(InputError, match="'smell' is no module of the adapter"):
        merge_peft(bases["names"], tmp_path / "adapter", merged, skip=["pooler.dense", "smell"])


def test_a_model_without_any_names_is_refused_with_the_list(bases: dict[str, Path], tmp_path: Path) -> None:
    """Names of nodes gone, weights renamed: what some optimizers leave."""
    adapted(tiny_bert(), tmp_path / "adapter", target_modules=["query"])
    model = onnx.load(bases["renamed"])
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(
        CheckpointError,
        match=r"2 of the adapter's 2 modules are not in the graph by name: encoder\.layer\.0\.attention\.self"
        r"\.query, encoder\.layer\.1\.attention\.self\.query\. The graph has: no named linear layer",
    ):
        merge_peft(tmp_path / "bare.onnx", tmp_path / "adapter", tmp_path / "merged.onnx")


def test_merging_twice_or_into_an_adapted_model_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    adapted(tiny_bert(), tmp_path / "adapter")
    adapted(tiny_bert(), tmp_path / "other", lora_alpha=1)
    merge_peft(bases["names"], tmp_path / "adapter", tmp_path / "merged.onnx")
    merge_peft(tmp_path / "merged.onnx", tmp_path / "other", tmp_path / "both.onnx")
    for name in ("merged.onnx", "both.onnx"):
        with pytest.raises(CheckpointError, match="is merged into this model already"):
            merge_peft(tmp_path / name, tmp_path / "adapter", tmp_path / "twice.onnx")
    model = peft.get_peft_model(tiny_bert(), peft.LoraConfig(target_modules=["query"]))
    branches = export(model.base_model.model, tmp_path / "branches.onnx", "names", HIDDEN)
    with pytest.raises(CheckpointError, match=r"holds an adapter's own branch.*export the base model"):
        merge_peft(branches, tmp_path / "adapter", tmp_path / "twice.onnx")
    with pytest.raises(InputError, match="is the model itself"):
        merge_peft(branches, tmp_path / "adapter", branches)


def test_the_command(bases: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = adapted(tiny_bert(), tmp_path / "adapter", target_modules=["query"])
    words = ["merge", str(bases["folded"]), str(tmp_path / "adapter"), "--out", str(tmp_path / "merged.onnx")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "model.encoder.layer.1.attention.self.query  scope     in, out     4     1.5" in shown
    assert f"{tmp_path / 'merged.onnx'}: 2 weights merged, " in shown
    check(tmp_path / "merged.onnx", bases["folded"], expected)
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == (tmp_path / "merged.onnx").stat().st_size
    assert [entry["rank"] for entry in report["weights"]] == [4, 4]
    assert main([*words, "--skip", "pooler.dense"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("edgeemo merge: 'pooler.dense' is no module of the adapter")
    with pytest.raises(SystemExit) as usage:
        main(words[:-2])
    assert usage.value.code == 2
