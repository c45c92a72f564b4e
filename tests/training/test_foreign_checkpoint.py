"""Networks that are none of ours go all the way, or are refused with a sentence."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from dataclasses import replace  # noqa: E402

from foreign_networks import (  # noqa: E402
    HIDDEN,
    SUBSETS,
    THIN,
    Additive,
    Gated,
    NeedsBoth,
    StandIn,
    foreign_info,
    foreign_parts,
    foreign_windows,
    tensors,
)
from live_like import LABELS  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny_checkpoint import no_ranges  # noqa: E402

from edgeemo.bundle import Bundle  # noqa: E402
from edgeemo.errors import CheckpointError, TrainingError  # noqa: E402
from edgeemo.export import Checkpoint, export_bundle  # noqa: E402
from edgeemo.modality import subset_members  # noqa: E402
from edgeemo.runtimes import OrtRunner  # noqa: E402
from edgeemo.session import EngineOptions, Session, Settings  # noqa: E402
from edgeemo.training import load_weights, save_checkpoint  # noqa: E402
from edgeemo.training.checkpoints.foreign import network_from_module  # noqa: E402

WINDOWS = foreign_windows()


def save(out: Path, model: Any, subsets: Any = SUBSETS, **options: Any) -> Checkpoint:
    used = {m for subset in subsets for m in subset.split("+")}
    parts = [part for part in foreign_parts() if part.name in used]
    given = {} if isinstance(model, dict) else {"subsets": subsets}
    save_checkpoint(model, out, parts, foreign_info(), WINDOWS, ranges_of=no_ranges, **given, **options)
    return Checkpoint.open(out)


def engine_logits(bundle: Bundle, subset: str) -> Any:
    with OrtRunner(bundle.read_engine(subset, "fp32"), engine=subset, variant="fp32") as runner:
        members = subset_members(subset)
        feed = {f"features.{m}": WINDOWS.features[m] for m in members}
        return runner.run(feed | {f"mask.{m}": WINDOWS.masks[m] for m in members})["logits"]


def check_engines(checkpoint: Checkpoint, bundle_folder: Path, expected: dict[str, Any]) -> Bundle:
    """Exports, and compares each engine with what torch says, adapters active and unmerged."""
    export_bundle(checkpoint, bundle_folder, variants=("fp32",))
    bundle = Bundle.open(bundle_folder)
    assert set(bundle.manifest.engines) == set(expected)
    for subset, logits in expected.items():
        # Sums of at most a few dozen products: rounding stays below 1e-5 of the largest logit.
        tolerance = 1e-5 * np.abs(logits).max()
        np.testing.assert_allclose(engine_logits(bundle, subset), logits, atol=tolerance, rtol=0)
    return bundle


def torch_logits(model: Any, subset: str) -> Any:
    with torch.no_grad():
        answer = model(*tensors(WINDOWS, subset_members(subset)))
    return (answer[0] if isinstance(answer, tuple) else answer).numpy()


def readings(bundle: Path) -> list[Any]:
    every_sound = Settings(voice_activity="off")
    with Session(bundle, engines=EngineOptions(variant="fp32"), settings=every_sound) as session:
        found = []
        for tick in range(30):
            now_s = tick / 10
            hum = 0.1 * np.sin(2 * np.pi * 220 * (now_s + np.arange(1600) / 16000))
            session.push_audio(hum.astype(np.float32), rate_hz=16000, time_s=now_s)
            if tick == 15:
                session.push_text("I am so glad that you came", time_s=now_s)
            if tick % 5 == 4:
                found.append(session.read(at_s=now_s + 0.1))
    return found


def test_own_low_rank_layers_are_merged_and_run_in_a_session(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Gated(thin=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint = save(tmp_path / "checkpoint", model, adapters=THIN)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(checkpoint.adapters) == {"common", *SUBSETS}
    assert not [name for name in checkpoint.weights if "unused" in name or "up" in name or "down" in name]
    assert "trunk.fuse.weight" in checkpoint.weights
    for subset in SUBSETS:
        merged = checkpoint.merged_weights(subset)["trunk.fuse.weight"]
        assert np.abs(merged - checkpoint.weights["trunk.fuse.weight"]).max() > 0.1
    expected = {subset: torch_logits(model, subset) for subset in SUBSETS}
    bundle = check_engines(checkpoint, tmp_path / "bundle", expected)
    assert bundle.manifest.family == "gated"
    assert bundle.manifest.subsets["audio"].temperature == 1.0
    found = readings(tmp_path / "bundle")
    assert {reading.subset for reading in found} >= {"audio", "audio+text"}
    assert all(reading.evidence == {} for reading in found)
    assert found[-1].probabilities.keys() == {*LABELS}


def test_evidence_reaches_the_reading(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "checkpoint", Additive(), subsets=["text+audio"])
    assert checkpoint.adapters == {}
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", variants=("fp32",))
    last = readings(tmp_path / "bundle")[-1]
    assert last.subset == "audio+text"
    assert last.evidence.keys() == {"audio", "text"}
    assert sum(last.evidence["audio"].values()) == pytest.approx(0.0, abs=1e-5)


def test_layers_that_nobody_points_out_stay_in_the_graph(tmp_path: Path) -> None:
    model = Gated(thin=True)
    checkpoint = save(tmp_path / "checkpoint", model, subsets=["audio"])
    assert "trunk.fuse.up.audio" in checkpoint.weights
    assert "trunk.fuse.up.text" not in checkpoint.weights
    check_engines(checkpoint, tmp_path / "bundle", {"audio": torch_logits(model, "audio")})


def test_networks_trained_one_by_one(tmp_path: Path) -> None:
    models = {"text": Gated(), "audio": Gated().double()}
    checkpoint = save(tmp_path / "checkpoint", models)
    expected = {subset: torch_logits(model.float(), subset) for subset, model in models.items()}
    check_engines(checkpoint, tmp_path / "bundle", expected)


def peft_folder(folder: Path, subset: str, *, rank: int = 2, **config: Any) -> Path:
    """Writes what PEFT's ``save_pretrained`` writes for a Gated network."""
    folder.mkdir(parents=True)
    torch.manual_seed(len(subset))
    key = "base_model.model.fuse"
    pair = {
        f"{key}.lora_A.weight": torch.randn(rank, HIDDEN),
        f"{key}.lora_B.weight": torch.randn(HIDDEN, rank),
    }
    save_file(pair, folder / "adapter_model.safetensors")
    words = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": ["fuse"], "bias": "none"}
    words |= {"rank_pattern": {}, "alpha_pattern": {}, "use_dora": False, "modules_to_save": None}
    (folder / "adapter_config.json").write_text(json.dumps(words | config))
    return folder


def test_adapters_in_folders_of_pefts(tmp_path: Path) -> None:
    model = Gated()
    folders = {subset: peft_folder(tmp_path / subset, subset) for subset in ("audio", "common")}
    checkpoint = save(tmp_path / "checkpoint", model, adapters=folders, subsets=["audio", "text"])
    assert set(checkpoint.adapters) == {"audio", "common"}
    expected = {}
    for subset in ("audio", "text"):
        merged = Gated()
        merged.load_state_dict(model.state_dict())
        for name in ("common", subset) if subset in folders else ("common",):
            pair = load_weights(folders[name] / "adapter_model.safetensors")
            a, b = (pair[f"base_model.model.fuse.lora_{side}.weight"] for side in "AB")
            with torch.no_grad():
                merged.fuse.weight += 4 / 2 * b @ a
        expected[subset] = torch_logits(merged, subset)
    assert np.abs(expected["text"] - torch_logits(model, "text")).max() > 0.01
    check_engines(checkpoint, tmp_path / "bundle", expected)
    with pytest.raises(TrainingError, match="'use_dora' is set"):
        save(tmp_path / "no", model, adapters={"audio": peft_folder(tmp_path / "d", "audio", use_dora=True)})
    with pytest.raises(TrainingError, match="no subset 'smell'"):
        save(tmp_path / "no", model, adapters={"smell": folders["audio"]})


def test_peft_adapters_in_the_network(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=["enter.audio", "enter.text", "fuse"], init_lora_weights=False
    )
    model = peft.get_peft_model(Gated(), config, adapter_name="voice")
    model.add_adapter("words", replace(config, r=1, use_rslora=True))
    model.add_adapter("all", config)
    names = {"audio": ("voice", "all"), "text": ["all", "words"]}
    expected = {}
    for subset, active in names.items():
        model.base_model.set_adapter(list(active))
        expected[subset] = torch_logits(model.eval(), subset)
    checkpoint = save(tmp_path / "checkpoint", model, adapters=names, subsets=["audio", "text"])
    assert set(checkpoint.adapters) == {"common", "audio", "text"}
    assert set(checkpoint.adapters["audio"].pairs) == {"trunk.enter.audio", "trunk.fuse"}
    check_engines(checkpoint, tmp_path / "bundle", expected)

    model.base_model.set_adapter("voice")
    alone = torch_logits(model, "audio")
    model.save_pretrained(tmp_path / "saved", selected_adapters=["voice"])
    base = Gated()
    base.load_state_dict(model.unload().state_dict())
    folders = {"audio": tmp_path / "saved" / "voice"}
    checkpoint = save(tmp_path / "disk", base, adapters=folders, subsets=["audio"])
    check_engines(checkpoint, tmp_path / "bundle-disk", {"audio": alone})


@pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning")
def test_layers_that_store_their_weight_the_other_way_round(tmp_path: Path) -> None:
    """GPT-2's Conv1D, square, beside a Linear: PEFT says fan_in_fan_out for both and means the one."""
    peft = pytest.importorskip("peft", reason="needs peft")
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(4)
    base = Gated()
    base.fuse = Conv1D(HIDDEN, HIDDEN)
    torch.nn.init.normal_(base.fuse.weight)
    start = {name: value.clone() for name, value in base.state_dict().items()}
    config = peft.LoraConfig(
        r=2, target_modules=["enter.audio", "fuse", "out"], fan_in_fan_out=True, init_lora_weights=False
    )
    model = peft.get_peft_model(base, config).eval()
    model.save_pretrained(tmp_path / "adapter")
    expected = {"audio": torch_logits(model, "audio")}
    plain = Gated()
    plain.fuse = Conv1D(HIDDEN, HIDDEN)
    plain.load_state_dict(start)
    assert np.abs(torch_logits(plain, "audio") - expected["audio"]).max() > 0.1
    folders = {"audio": tmp_path / "adapter"}
    checkpoint = save(tmp_path / "checkpoint", plain, adapters=folders, subsets=["audio"])
    check_engines(checkpoint, tmp_path / "bundle", expected)


def test_peft_adapters_named_as_the_subsets(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft")
    torch.manual_seed(2)
    config = peft.LoraConfig(r=2, target_modules=["fuse"], init_lora_weights=False)
    model = peft.get_peft_model(Gated(), config, adapter_name="audio").eval()
    checkpoint = save(tmp_path / "named", model.base_model, subsets=["audio"])
    assert set(checkpoint.adapters) == {"audio"}
    check_engines(checkpoint, tmp_path / "bundle", {"audio": torch_logits(model, "audio")})
    with pytest.raises(
        TrainingError, match="no PEFT adapter 'voice' for subset audio; the network has: audio"
    ):
        save(tmp_path / "no", model, adapters={"audio": "voice"}, subsets=["audio"])
    with pytest.raises(TrainingError, match="give the names of its adapters, not folders"):
        save(tmp_path / "no", model, adapters={"audio": tmp_path}, subsets=["audio"])
    model.merge_adapter()
    with pytest.raises(TrainingError, match="fuse: an adapter is merged into the base"):
        save(tmp_path / "no", model, subsets=["audio"])
    ia3 = peft.IA3Config(target_modules=["fuse"], feedforward_modules=[])
    with pytest.raises(TrainingError, match="of PEFT's; only LoRA over Linears can be merged"):
        save(tmp_path / "no", peft.get_peft_model(Gated(), ia3), adapters={"audio": "default"})


@pytest.mark.parametrize("kind", ["branch", "fusion", "token"])
def test_a_stand_in_for_an_absent_modality_is_refused(kind: str, tmp_path: Path) -> None:
    sentence = {
        "branch": "the sub-network audio does not leave text out: trunk.enter.text.",
        "fusion": "the sub-network audio does not leave text out: trunk.out.weight",
        "token": "the sub-network audio does not leave text out: trunk.out.weight",
    }[kind]
    with pytest.raises(TrainingError, match=re.escape(sentence)):
        save(tmp_path / "no", StandIn(kind), subsets=["audio", "audio+text"])
    assert not list(tmp_path.iterdir())


def test_what_fails_or_answers_wrongly_is_refused(tmp_path: Path) -> None:
    parts, out = foreign_parts(), tmp_path / "no"

    def refused(match: str, model: Any, classes: int = len(LABELS), **options: Any) -> None:
        with pytest.raises(TrainingError, match=match):
            network_from_module(model, parts, classes, WINDOWS, subsets=["audio", "text"], **options)

    refused(
        r"fails when it is called with the features and masks of audio alone \(KeyError: 'text'\)",
        NeedsBoth(),
    )
    refused(r"returns \[256, 7\]; expected logits \(B, 6\)", Gated(), classes=6)
    refused(r"evidence of audio does not add up to its logits \(off by", Additive(wrong_by=0.1))
    thin = Gated(thin=True)
    refused("no parameter 'fuse.a' in the network", thin, adapters=[replace(THIN[0], a="fuse.a")])
    refused("no module 'fusion' in the network", thin, adapters=[replace(THIN[0], layer="fusion")])
    refused("no subset 'audio.text'", thin, adapters=[replace(THIN[0], subset="audio+text")])
    refused("do not fit a Linear of 6 inputs", thin, adapters=[replace(THIN[0], b="out.bias")])
    bent = [replace(entry, scale=2.0) for entry in THIN if entry.subset != "audio+text"]
    refused("with its adapters merged, the network of audio answers otherwise", thin, adapters=bent)
    refused("no PEFT adapter", Gated(), adapters={"audio": "voice"})
    with pytest.raises(TrainingError, match="no subset uses text"):
        network_from_module(Gated(), parts, len(LABELS), WINDOWS, subsets=["audio"])
    with pytest.raises(TrainingError, match="unknown modality 'smell'"):
        network_from_module({"smell": Gated()}, parts, len(LABELS), WINDOWS)
    with pytest.raises(TrainingError, match=r"text: the reference windows have features \(256, 32, 4\)"):
        network_from_module(Gated(), [parts[0], replace(parts[1], width=5)], len(LABELS), WINDOWS)
    with pytest.raises(TrainingError, match="the stem of audio makes"):
        save_checkpoint(Gated(), out, [replace(parts[0], stride=4), parts[1]], foreign_info(), WINDOWS)
    assert not out.exists()


class Harmful:
    """A pickle that runs a program when it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (str(self.trace),)


def test_a_file_that_would_run_a_program_is_not_opened(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    torch.save({"weight": torch.zeros(1), "more": Harmful(trace)}, tmp_path / "evil.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Harmful(trace)))
    for name, reason in (("evil.pt", "os.makedirs"), ("old.pt", "Unsupported operand")):
        sentence = rf"{name} is damaged or holds more than weights \(.*{reason}.*it is not opened"
        with pytest.raises(CheckpointError, match=sentence):
            load_weights(tmp_path / name)
    assert not trace.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert trace.exists()


def test_weights_are_read(tmp_path: Path) -> None:
    state = Gated().state_dict()
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"model": state, "epoch": 3}, tmp_path / "more.pt")
    save_file(state, tmp_path / "safe.safetensors")
    for found in (
        load_weights(tmp_path / "plain.pt"),
        load_weights(tmp_path / "more.pt", key="model"),
        load_weights(tmp_path / "safe.safetensors"),
    ):
        assert found.keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in found.items())
    with pytest.raises(CheckpointError, match=r"is no state dict.*it has: model, epoch"):
        load_weights(tmp_path / "more.pt")
    with pytest.raises(CheckpointError, match="no entry 'weights'; it has: model, epoch"):
        load_weights(tmp_path / "more.pt", key="weights")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_weights(tmp_path / "none.pt")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("these are no weights")
        with pytest.raises(CheckpointError, match=name):
            load_weights(tmp_path / name)


def test_importing_the_package_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import edgeemo.training as t; dir(t); t.CheckpointInfo\n"
        "try: t.save_checkpoint\n"
        "except ImportError as reason: print(reason)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "training needs torch, which is not installed here. Install it with: pip install 'edgeemo[train]'"
    )
