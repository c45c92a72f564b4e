"""``edgeemo export`` from the command line: variants, recipes, labelled data, what is left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgeemo.cli.commands.export as command
from edgeemo.bundle import Bundle, bytes_from_tensors, read_tensors
from edgeemo.cli.main import main
from edgeemo.errors import DatasetError
from edgeemo.export import LabelledResult

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"


def test_it_exports_and_what_it_made_can_be_inspected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "bundle")
    words = ["export", str(TINY), "--out", out, "--subset", "text"]
    assert main([*words, "--variant", "int8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["engines"]["text"]["int8"]["bytes"] > 1000
    assert printed["engines"]["text"]["int8"]["method"] == "dynamic"
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "engine text int8" in shown
    assert "engine text fp16" in shown
    assert set(Bundle.open(out).manifest.engines["text"]) == {"int8", "fp16"}
    assert main(["inspect", out]) == 0
    shown = capsys.readouterr().out
    assert "licence of the weights: CC0-1.0" in shown
    assert main(["inspect", str(TINY), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "checkpoint"
    assert document["parameters"]["adapter audio"] == 135
    assert main(["inspect", str(tmp_path)]) == 1
    assert "is neither a bundle (no manifest.json) nor a checkpoint" in capsys.readouterr().err


def test_what_was_tuned_is_obeyed_to_the_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned, again = tmp_path / "tuned", tmp_path / "again"
    words = ["export", str(TINY), "--subset", "audio", "--variant", "int8", "--variant", "int8-trt"]
    assert main([*words, "--out", str(tuned), "--tune"]) == 0
    recipe = Bundle.open(tuned).manifest.recipe
    assert recipe is not None
    shutil.copy(tuned / recipe, tmp_path / "recipe.toml")
    assert main([*words, "--out", str(again), "--recipe", str(tmp_path / "recipe.toml")]) == 0
    assert (again / "manifest.json").read_bytes() == (tuned / "manifest.json").read_bytes()
    for name in Bundle.open(tuned).manifest.files:
        assert (again / name).read_bytes() == (tuned / name).read_bytes(), name
    assert main([*words, "--out", str(tmp_path / "plain")]) == 0
    assert Bundle.open(tmp_path / "plain").manifest.recipe is None
    # Engines by a recipe and engines without one do not mix.
    capsys.readouterr()
    assert main(["export", str(TINY), "--subset", "text", "--out", str(tuned)]) == 1
    assert "holds engines made by another recipe" in capsys.readouterr().err


def test_bad_words_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(TINY), "--out", str(tmp_path / "out")]
    assert main([*words, "--subset", "smell"]) == 2
    assert "there are: audio, video, text" in capsys.readouterr().err
    assert main([*words, "--allow-drop", "smell"]) == 2
    assert main([*words, "--recipe", str(tmp_path / "nowhere.toml")]) == 1
    assert "nowhere.toml: cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--recipe", "x", "--tune"])
    assert "not allowed with argument" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_subset_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers of one subset that are not this network's: the others ship where that is allowed."""
    broken = Path(shutil.copytree(TINY, tmp_path / "broken"))
    tensors = {
        name: np.array(array) for name, array in read_tensors(broken / "reference.safetensors").items()
    }
    tensors["logits.video"] = np.roll(tensors["logits.video"], 1, axis=1)
    (broken / "reference.safetensors").write_bytes(bytes_from_tensors(tensors))
    out = tmp_path / "out"
    words = ["export", str(broken), "--out", str(out), "--subset", "audio", "--subset", "video"]
    assert main([*words, "--variant", "int8"]) == 1
    assert "the engine video (int8) changes" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--variant", "int8", "--allow-drop", "video"]) == 0
    shown = capsys.readouterr().out
    assert "left out: video (int8): the engine video (int8) changes" in shown
    assert "left out: video (fp32): the engine video (fp32)" in shown
    bundle = Bundle.open(out)
    bundle.verify()
    assert set(bundle.manifest.engines) == {"audio"}
    assert set(bundle.manifest.stems) == {"audio"}
    report = bundle.report()
    assert report is not None
    assert "changes" in str(report["dropped"])
    assert main([*words[:-4], "--subset", "video", "--variant", "int8", "--allow-drop", "video"]) == 1
    assert "no engine is left to ship" in capsys.readouterr().err


def measured(loss: float) -> Callable[..., list[LabelledResult]]:
    """Stands for a data set on which int8 loses accuracy."""

    def measure(folders: object, split: str, bundle: Bundle, variants: object) -> list[LabelledResult]:
        return [
            LabelledResult("words dev", "text", variant, 1000, 0.6 - loss * (variant == "int8"), 0.5, 0.1)
            for variant in bundle.manifest.engines["text"]
        ]

    return measure


@pytest.mark.parametrize("loss", [0.004, 0.02])
def test_accuracy_on_labelled_data_is_judged_and_reported(
    loss: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_measure", measured(loss))
    out = tmp_path / "out"
    words = ["export", str(TINY), "--out", str(out), "--subset", "text", "--variant", "int8", "--data", "x"]
    if loss < 0.005:
        assert main(words) == 0
        assert f"words dev: text (int8) accuracy {0.6 - loss:.1%}" in capsys.readouterr().out
        report = Bundle.open(out).report()
        assert report is not None
        engines = report["engines"]
        assert isinstance(engines, dict)
        assert engines["text"]["int8"]["labelled"]["words dev"]["uar"] == 0.5
        return
    assert main(words) == 1
    assert "has an accuracy of 58.0% on words dev (n = 1000), fp32 60.0%" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--allow-drop", "text"]) == 0
    assert set(Bundle.open(out).manifest.engines["text"]) == {"fp32"}  # the last good variant


def test_folders_of_data_sets_are_found(tmp_path: Path, tiny_export: Path) -> None:
    bundle = Bundle.open(tiny_export)
    for name in ("words", "other", "more"):
        (tmp_path / "sets" / name).mkdir(parents=True)
    for name in ("words", "more"):
        (tmp_path / "sets" / name / "dev.tsv").write_text("text\tlabels7\n")
    found = command._data_sets([tmp_path / "sets", tmp_path / "sets" / "words"], bundle)
    assert [place.name for place in found] == ["more", "words", "words"]
    with pytest.raises(DatasetError, match="other is no known layout"):
        command._data_sets([tmp_path / "sets" / "other"], bundle)


def test_a_non_commercial_licence_is_said(
    tiny_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(tiny_export, tmp_path / "bundle"))
    manifest = bundle / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"non_commercial": false', b'"non_commercial": true'))
    assert main(["inspect", str(bundle)]) == 0
    assert "NOT FOR COMMERCIAL USE" in capsys.readouterr().out
