"""State dicts of somebody else's become weights and adapters of a checkpoint, by a name map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from foreign_networks import (  # noqa: E402
    SCALE,
    SUBSETS,
    Gated,
    foreign_info,
    foreign_parts,
    foreign_windows,
    tensors,
)
from tiny_checkpoint import no_ranges  # noqa: E402

from edgeemo.bundle import Bundle  # noqa: E402
from edgeemo.errors import CheckpointError  # noqa: E402
from edgeemo.export import export_bundle  # noqa: E402
from edgeemo.modality import subset_members  # noqa: E402
from edgeemo.runtimes import OrtRunner  # noqa: E402
from edgeemo.training import convert_weights, save_checkpoint  # noqa: E402
from edgeemo.training.checkpoints.name_map import filled, matched  # noqa: E402

MAP = """
ignore = ["optimizer.**", "epoch"]
keep = ["order", "unused.*"]

[weights]
"net.proj_*.*" = "enter.*.*"
"net.gate_w" = { name = "gate.weight", transpose = true }
"net.gate_b" = "gate.bias"
"net.fuse_and_bias" = ["fuse.weight", "fuse_rest"]
"net.fuse.bias" = "fuse.bias"
"net.cls.*" = "out.*"
"""


def theirs(thin: Any) -> dict[str, Any]:
    """The state of a `Gated` under names of somebody else's."""
    state = {
        "net.gate_w": thin.gate.weight.T,
        "net.gate_b": thin.gate.bias,
        "net.fuse.weight": thin.fuse.core.weight,
        "net.fuse.bias": thin.fuse.core.bias,
        "net.cls.weight": thin.out.weight.half(),
        "net.cls.bias": thin.out.bias,
        "epoch": torch.tensor(7),
        "optimizer.state.0.step": torch.tensor(1.0),
    }
    for m in ("audio", "text"):
        state[f"net.proj_{m}.weight"] = thin.enter[m].weight
        state[f"net.proj_{m}.bias"] = thin.enter[m].bias
    for name in (*SUBSETS, "all"):
        word = name.replace("+", "_")
        state[f"lora.fuse.{word}.down"] = thin.fuse.down[name]  # (in, r)
        state[f"lora.fuse.{word}.up"] = thin.fuse.up[name]  # (out, r)
    return {name: value.detach().clone() for name, value in state.items()}


def name_map(folder: Path, **changes: str) -> Path:
    text = MAP.replace(
        '"net.fuse_and_bias" = ["fuse.weight", "fuse_rest"]\n', '"net.fuse.weight" = "fuse.weight"\n'
    )
    for name in ("common", *SUBSETS):
        word = "all" if name == "common" else name.replace("+", "_")
        strength = "alpha = 3" if name == "text" else f"scale = {SCALE}"  # rank 2: 3 / 2
        text += f'\n[adapters."{name}"]\n{strength}\n[adapters."{name}".modules]\n'
        text += f'"*" = ["lora.*.{word}.down", "lora.*.{word}.up"]\n'
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "names.toml"
    path.write_text(text)
    return path


def test_a_state_dict_goes_all_the_way_to_engines(tmp_path: Path) -> None:
    """Base and pairs under other names, transposed, in half precision: the engines answer as the network."""
    torch.manual_seed(5)
    thin = Gated(thin=True).eval()
    thin.out.weight.data = thin.out.weight.data.half().float()
    torch.save({"model": theirs(thin)}, tmp_path / "mculora.pt")
    network = Gated()
    folders = convert_weights(
        tmp_path / "mculora.pt", name_map(tmp_path), network, tmp_path / "adapters", key="model"
    )
    assert folders == {name: tmp_path / "adapters" / name for name in ("common", *SUBSETS)}
    save_checkpoint(
        network,
        tmp_path / "checkpoint",
        foreign_parts(),
        foreign_info(),
        foreign_windows(),
        adapters=folders,
        subsets=SUBSETS,
        ranges_of=no_ranges,
    )
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", variants=("fp32",))
    bundle = Bundle.open(tmp_path / "bundle")
    windows = foreign_windows()
    for subset in SUBSETS:
        members = subset_members(subset)
        with torch.no_grad():
            expected = thin(*tensors(windows, members)).numpy()
        feed = {f"features.{m}": windows.features[m] for m in members}
        feed |= {f"mask.{m}": windows.masks[m] for m in members}
        with OrtRunner(bundle.read_engine(subset, "fp32"), engine=subset, variant="fp32") as runner:
            found = runner.run(feed)["logits"]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def refused(tmp_path: Path, match: str, change: Any = None, **map_changes: str) -> None:
    state = theirs(Gated(thin=True))
    if change is not None:
        change(state)
    torch.save(state, tmp_path / "other.pt")
    network = Gated()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=match):
        convert_weights(
            tmp_path / "other.pt", name_map(tmp_path, **map_changes), network, tmp_path / "adapters"
        )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not (tmp_path / "adapters").exists()


def test_names_without_a_match_are_listed_on_both_sides(tmp_path: Path) -> None:
    refused(
        tmp_path,
        r"names without a match\. In the file, 3: net\.fuse\.bias, spare\.0, spare\.1\. In the network, 1: "
        r"fuse\.bias\. Map them, or list them under 'ignore' \(theirs\) or 'keep' \(ours\)",
        lambda state: state.update({"spare.0": torch.zeros(1), "spare.1": torch.zeros(1)}),
        **{'"net.fuse.bias" = "fuse.bias"\n': ""},
    )
    refused(
        tmp_path,
        r"no tensor of the file is called 'net\.clf\.\*'; there are: net\.gate_w, ",
        **{"cls": "clf"},
    )
    refused(
        tmp_path,
        r"'net\.cls\.weight' becomes 'exit\.weight', which the network does not",
        **{"out.*": "exit.*"},
    )
    refused(
        tmp_path,
        r"two tensors of the file become 'enter\.audio\.bias'",
        **{'"fuse.bias"': '"enter.audio.bias"'},
    )
    refused(tmp_path, r"gate\.bias is replaced and to be kept", **{'"order"': '"order", "gate.*"'})


@pytest.mark.parametrize(
    ("match", "old", "new"),
    [
        (
            r"'net\.gate_w' becomes 'gate\.weight' with shape \[6, 1\].*has \[1, 6\].*transpose",
            ", transpose = true",
            "",
        ),
        (r"adapters: common: needs either 'alpha' or 'scale'.*look it up", "scale = 1.5", ""),
        (r"'alpha' must be a number, found the text 'strong'", "alpha = 3", 'alpha = "strong"'),
        (r"'scale' is -1.5; expected more than 0", "scale = 1.5", "scale = -1.5"),
        (
            r"'lora\.fuse\.all\.down' is there and its B, 'lora\.fuse\.all\.high', is not",
            "all.up",
            "all.high",
        ),
        (r"no tensor of the file is called 'lora\.\*\.all\.low'", "all.down", "all.low"),
        (
            r"adapter 'common': the network has no linear layer 'fused\.fuse'",
            '"*" = ["lora',
            '"fused.*" = ["lora',
        ),
        (r"need the same number of stars", '"enter.*.*"', '"enter.*"'),
        (r"names\.toml: not TOML", "[weights]", "[weights"),
        (r"names\.toml: unknown 'ignored'; known: ", "ignore =", "ignored ="),
        (r"'weights' is missing", "[weights]", "[weight]"),
    ],
)
def test_what_a_map_gets_wrong_is_named(tmp_path: Path, match: str, old: str, new: str) -> None:
    refused(tmp_path, match, **{old: new})


def test_what_a_file_gets_wrong_is_named(tmp_path: Path) -> None:
    def another_rank(state: dict[str, Any]) -> None:
        state["lora.fuse.text.up"] = torch.zeros(6, 3)

    def broken(state: dict[str, Any]) -> None:
        state["lora.fuse.text.up"][0, 0] = float("nan")

    refused(
        tmp_path,
        r"adapter 'text': .*down' \[6, 2\] and .*up' \[6, 3\] do not fit 'fuse' with 6",
        another_rank,
    )
    refused(tmp_path, r"other\.pt: 'lora\.fuse\.text\.up' holds numbers that are not finite", broken)
    with pytest.raises(CheckpointError, match=r"names\.yaml: cannot be read"):
        convert_weights(tmp_path / "other.pt", tmp_path / "names.yaml", Gated(), tmp_path / "adapters")


def test_one_tensor_may_be_split_and_a_map_may_be_json(tmp_path: Path) -> None:
    """The fused projection of torch's MultiheadAttention, and a network without adapters."""
    network = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in "qkv"})
    fused = torch.nn.MultiheadAttention(4, 2)
    torch.nn.init.normal_(fused.in_proj_bias)
    state = {name: value for name, value in fused.state_dict().items() if name.startswith("in_proj")}
    torch.save(state, tmp_path / "fused.pt")
    names = {f"in_proj_{part}": [f"{name}.{part}" for name in "qkv"] for part in ("weight", "bias")}
    (tmp_path / "names.json").write_text(json.dumps({"weights": names}))
    assert convert_weights(tmp_path / "fused.pt", tmp_path / "names.json", network, tmp_path) == {}
    assert torch.equal(network["k"].weight, fused.in_proj_weight[4:8])
    assert torch.equal(network["v"].bias, fused.in_proj_bias[8:])
    names["in_proj_bias"] = [f"{name}.bias" for name in "qkvxy"]
    (tmp_path / "names.json").write_text(json.dumps({"weights": names}))
    with pytest.raises(CheckpointError, match="cannot be split into 5 equal parts"):
        convert_weights(tmp_path / "fused.pt", tmp_path / "names.json", network, tmp_path)


def test_stars() -> None:
    assert matched("a.*.b.**", "a.1.b.c.d") == ("1", "c.d")
    assert matched("a.*.b", "a.1.2.b") is None
    assert matched("a.*", "aXb") is None
    assert filled("x.**.y.*", ("c.d", "1")) == "x.c.d.y.1"
