"""The page of the comparison: every method and subset, sizes of real engines, pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_mosi import write_tiny_mosi

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("matplotlib", reason="needs matplotlib")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
pytest.importorskip("onnxscript", reason="needs onnxscript")

from benchmarks.methods.__main__ import main  # noqa: E402
from benchmarks.methods.results import (  # noqa: E402
    SUBSETS,
    Comparison,
    collect_results,
    conditions_by_panel,
)
from benchmarks.methods.tables import best_family, write_tables  # noqa: E402
from edgeemo.datasets.mosi import MODALITIES, read_mosi  # noqa: E402
from edgeemo.errors import TrainingError  # noqa: E402
from edgeemo.training.config import MethodConfig, Schedule  # noqa: E402
from edgeemo.training.methods import method_result, networks_of, run_network  # noqa: E402
from edgeemo.training.methods.disturb import DISTURBANCES  # noqa: E402
from edgeemo.training.methods.networks import answer_subset, new_network  # noqa: E402
from edgeemo.training.methods.selection import Rule  # noqa: E402
from edgeemo.training.methods.size import MethodSize, _engine_bytes, method_size  # noqa: E402

CONFIG = MethodConfig(
    trunk={"width": 8, "blocks": 1}, schedule=Schedule(epochs=2, steps=1, batch=6, patience=0)
)
WIDTHS = {"audio": 5, "video": 4, "text": 6}


def compared(folder: Path) -> Comparison:
    write_tiny_mosi(folder / "data")
    data = (read_mosi(folder / "data", "train"), read_mosi(folder / "data", "dev"))
    configs = {
        method: replace(CONFIG, method=method, family="") for method in ("mculora", "modality_dropout")
    }
    results = {
        method: method_result(
            method,
            [
                {
                    network.name: run_network(network, config, seed, data, folder / network.name / f"{seed}")
                    for network in networks_of(config, MODALITIES)
                }
                for seed in (0, 1)
            ],
            Rule(),
        )
        for method, config in configs.items()
    }
    sizes = dict.fromkeys(configs, MethodSize(12345, 678, 7, 999, 555))
    counts = dict.fromkeys(("train_videos", "train_utterances", "dev_videos", "dev_utterances"), 4)
    return Comparison(configs, (0, 1), results, sizes, 0.6, counts)


def test_the_page_has_every_method_and_subset(tmp_path: Path) -> None:
    comparison = compared(tmp_path)
    paths = write_tables(comparison, tmp_path / "results", command="the command")
    assert [path.name for path in paths] == [
        "methods.md",
        "methods.json",
        "subsets.png",
        "confusion.png",
        "robustness.png",
    ]
    page = paths[0].read_text()
    assert "the command" in page
    assert all(f"| {subset} " in page for subset in SUBSETS)
    assert page.count("| mculora |") >= 8
    assert "mculora minus (a) modality dropout" in page
    assert "12,345" in page
    content = json.loads(paths[1].read_text())
    figures = content["methods"]["mculora"]["by_seed"]["text"]
    assert len(figures["accuracy"]) == 2
    mean = comparison.mean_and_deviation("mculora", "accuracy")[0]
    assert mean[2] == pytest.approx(np.mean(figures["accuracy"]))
    assert mean[-1] == pytest.approx(np.mean(mean[:-1]))
    assert f"{100 * mean[2]:.1f} ±" in page
    assert best_family(comparison) == "mculora"


def test_missing_rates_go_from_all_to_single_modalities(tmp_path: Path) -> None:
    comparison = compared(tmp_path)
    rates = comparison.at_missing_rates("mculora", "accuracy")
    mean = comparison.mean_and_deviation("mculora", "accuracy")[0]
    assert len(rates) == 7
    assert min(mean) <= min(rates) <= max(rates) <= max(mean)
    assert sum(len(panel) for panel in conditions_by_panel().values()) == len(DISTURBANCES)


def run_command(folder: Path, settings: str, *more: str) -> int:
    (folder / "zeros.toml").write_text(f'method = "zeros"\n{settings}')
    write_tiny_mosi(folder / "data")
    words = ["--data", str(folder / "data"), "--out", str(folder / "out"), "--configs", str(folder)]
    words += ["--results", str(folder / "results"), "--methods", "zeros", "--seeds", "0", "--threads", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["methods", *words, *more])
        return main()


SETTINGS = "[schedule]\nepochs = 1\nsteps = 1\n[trunk]\nblocks = 1\nwidth = "


def test_the_command_trains_once_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(tmp_path, SETTINGS + "8") == 0
    record = tmp_path / "out" / "zeros" / "seed0" / "record.npz"
    before = record.stat().st_mtime_ns
    page = (tmp_path / "results" / "methods.md").read_text()
    assert "| (d) zeros |" in page
    assert "mculora" not in page.split("## Size")[0]
    assert run_command(tmp_path, SETTINGS + "8") == 0
    assert record.stat().st_mtime_ns == before
    capsys.readouterr()
    assert run_command(tmp_path, SETTINGS + "16") == 1
    assert "holds a run with another config" in capsys.readouterr().err


def test_baselines_take_the_trunk_of_another_family(tmp_path: Path) -> None:
    (tmp_path / "redifu.toml").write_text('method = "redifu"\n[trunk]\nwidth = 8\nheads = 2\n')
    assert run_command(tmp_path, SETTINGS + "8", "--trunk", "redifu") == 0
    assert (tmp_path / "out" / "on-redifu" / "zeros" / "seed0" / "record.npz").is_file()
    content = json.loads((tmp_path / "results" / "on-redifu" / "methods.json").read_text())
    assert content["methods"]["zeros"]["config"]["trunk"] == {"width": 8, "heads": 2}
    assert "--trunk redifu --methods zeros" in content["command"]


def test_runs_of_other_settings_are_not_reported(tmp_path: Path) -> None:
    assert run_command(tmp_path, SETTINGS + "8", "--train-only") == 0
    data = (read_mosi(tmp_path / "data", "train"), read_mosi(tmp_path / "data", "dev"))
    other = replace(CONFIG, method="zeros", family="")
    with pytest.raises(TrainingError, match="other settings than those of zeros"):
        collect_results({"zeros": other}, [0], data, tmp_path / "out")


def test_an_unknown_option_of_the_trunk_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(tmp_path, "[trunk]\nwidths = 3\n") == 1
    assert "unknown option 'widths'" in capsys.readouterr().err


def test_an_engine_of_a_subset_has_its_adapters_merged() -> None:
    config = replace(CONFIG, method="mculora")
    (network,) = networks_of(config, MODALITIES)
    model = new_network(network, config, widths=WIDTHS, length=7, classes=2, seed=0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".b"):
                parameter.normal_()
    plain, small = _engine_bytes(model, "text")
    features = {"text": torch.randn(2, 7, 6)}
    mask = torch.ones(2, 7)
    expected = answer_subset(model, network, "text", features, mask).logits.detach().numpy()
    feed = {"features.text": features["text"].numpy(), "mask.text": mask.numpy()}
    for engine, tolerance in ((plain, 1e-4), (small, 0.1)):
        session = onnxruntime.InferenceSession(engine, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], feed)
        assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()


def test_the_size_of_one_network_for_all_subsets() -> None:
    wide = replace(CONFIG, method="zeros", family="", trunk={"width": 48, "blocks": 1})
    size = method_size(wide, WIDTHS, 7)
    assert (size.engines, size.adapter_parameters) == (1, 0)
    assert size.fp32_bytes > 4 * size.parameters > 2 * size.int8_bytes
