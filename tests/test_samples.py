"""Samples run as a user would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from new_adapters import new_adapter

from edgeemo.export import export_bundle
from edgeemo.shipped import RECORDING

PROJECT = Path(__file__).resolve().parents[1]
SAMPLES = sorted(path.name for path in (PROJECT / "samples").glob("*.py"))


def run_sample(name: str, *words: str) -> str:
    command = [sys.executable, str(PROJECT / "samples" / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_short(name: str) -> None:
    assert len((PROJECT / "samples" / name).read_text(encoding="utf8").splitlines()) < 60


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "push_from_app.py"])
def test_the_docstring_is_the_help(name: str) -> None:
    first = (PROJECT / "samples" / name).read_text(encoding="utf8").split('"""')[1].splitlines()[0]
    assert first in run_sample(name, "--help")


def test_a_recording_with_a_failure() -> None:
    output = run_sample("recognize_file.py", str(RECORDING), "--drop", "video@3-5")
    assert "from audio+video+text" in output
    assert "video is lost: no data for" in output


def test_live_sensors_that_may_not_be_there() -> None:
    output = run_sample("recognize_live.py", "--seconds", "1")
    assert re.search(r"1\.0 s  .*audio \w+, video \w+, text absent", output)


def test_pushing() -> None:
    output = run_sample("push_from_app.py")
    assert output.count("2.00 s:") == 1
    assert "video: quiet no face in view" in output


def test_exporting(tmp_path: Path) -> None:
    checkpoint = PROJECT / "samples" / "checkpoints" / "live"
    words = ["--subset", "audio", "--subset", "text+audio", "--variant", "int8"]
    output = run_sample("export_checkpoint.py", str(checkpoint), str(tmp_path / "bundle"), *words)
    assert re.search(r"^audio +int8 +[\d.]+ kB$", output, re.MULTILINE)
    assert re.search(r"^audio\+text +int8 +[\d.]+ kB$", output, re.MULTILINE)


def test_recording_readings(tmp_path: Path) -> None:
    record, converted = tmp_path / "readings.jsonl", tmp_path / "readings.xml"
    output = run_sample("record_readings.py", str(RECORDING), str(record), str(converted))
    assert "28 readings in " in output
    assert re.search(r"^\d+ of them with a signal$", output, re.MULTILINE)
    assert re.search(r"^[\d.]+ s  subset_changed: \S+ serves", output, re.MULTILINE)
    assert len(record.read_text().splitlines()) == 29
    assert converted.read_text().startswith("<?xml")


def test_a_new_adapter_for_a_running_session(tmp_path: Path) -> None:
    checkpoint = PROJECT / "samples" / "checkpoints" / "live"
    export_bundle(checkpoint, tmp_path / "bundle", subsets=["text"], variants=["int8"])
    adapter = new_adapter(tmp_path / "adapter", "text", base=checkpoint)
    words = [str(tmp_path / "bundle"), str(checkpoint), f"text={adapter}", "--undo"]
    output = run_sample("update_adapter.py", *words)
    lines = re.findall(r"^[\d.]+ s: \w+ [\d.]+ from text\.int8, bundle (\w{12})$", output, re.MULTILINE)
    before, after, again = lines
    assert before == again != after
    assert re.search(r"^text made anew in [\d.]+ s, judged by the unmerged network$", output, re.MULTILINE)
    assert output.count("reloaded: ") == 2
    assert re.search(r"^the last exchange took 0\.\d{3} ms$", output, re.MULTILINE)


def test_a_network_of_your_own(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    output = run_sample("custom_network.py", str(tmp_path / "bundle"))
    assert "<Bundle 'mine' (means) at" in output
    assert "1 engines over video in fp16, int8" in output
