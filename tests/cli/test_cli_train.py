"""``edgeemo train`` on features of MOSI: settings, progress to pictures, resuming, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_mosi import write_tiny_mosi

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("rich", reason="needs rich")

from edgeemo.cli.main import main

TINY = """
[trunk]
width = 8
blocks = 1
[schedule]
epochs = 2
steps = 2
batch = 4
"""


def command(folder: Path, settings: str, family: str = "mculora") -> list[str]:
    write_tiny_mosi(folder / "data" / "mosi_trimodal")
    (folder / "run.toml").write_text(settings, encoding="utf-8")
    out, config = str(folder / "out"), str(folder / "run.toml")
    return ["train", family, "--data", str(folder / "data"), "--out", out, "--config", config]


def test_a_family_trains_to_figures_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = command(tmp_path, TINY)
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "audio+video+text" in shown
    assert "mean of seven" in shown
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["config"]["trunk"]["width"] == 8
    assert len(results["subsets"]) == 7
    for name in ("subsets", "confusion", "curves"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "mculora" / "weights.safetensors").stat().st_size > 1000

    before = (tmp_path / "out" / "mculora" / "record.npz").stat().st_mtime_ns
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-9:] == shown.splitlines()[-9:]
    assert (tmp_path / "out" / "mculora" / "record.npz").stat().st_mtime_ns == before


def test_a_baseline_is_a_config_of_its_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path, 'method = "zeros"\n' + TINY)) == 0
    assert "zeros, seed 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "family", "message"),
    [
        ("[schedule]\nepoch = 3", "mculora", "unknown key 'epoch' at [schedule]; valid keys are epochs"),
        ('method = "zeros"', "redifu", "is for family mculora, and the command says redifu"),
        ("", "live", "live takes no --config"),
        ("[trunk]\ndepth = 3", "mculora", "unknown option 'depth' at [trunk] of a mculora trunk; it has"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: str, family: str, message: str
) -> None:
    assert main(command(tmp_path, settings, family)) == (2 if family == "live" else 1)
    assert message in capsys.readouterr().err
