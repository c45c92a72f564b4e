"""Samples run as a user would run them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from new_adapters import new_adapter

from edgeemo.export import export_bundle
from edgeemo.shipped import RECORDING

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = (PROJECT / "samples", *(PROJECT / "samples" / name for name in ("new_modality", "speech")))
FILES = sorted(path.relative_to(FOLDERS[0]).as_posix() for folder in FOLDERS for path in folder.glob("*.py"))
PARTS = {"new_modality/heart_model.py", "speech/recognizers.py", "speech/sphinx.py"}  # of other samples
PROGRAMS = [name for name in FILES if name not in PARTS]
NEEDS = {"new_modality/train_heart.py": "torch"}
HEART_RATE = PROJECT / "samples" / "new_modality" / "heart_rate.csv"


def run_sample(name: str, *words: str) -> str:
    command = [sys.executable, str(PROJECT / "samples" / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", FILES)
def test_samples_are_short(name: str) -> None:
    assert len((PROJECT / "samples" / name).read_text(encoding="utf8").splitlines()) < 60


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "make_" not in name])
def test_the_docstring_is_the_help(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs {NEEDS[name]}")
    first = (PROJECT / "samples" / name).read_text(encoding="utf8").split('"""')[1].splitlines()[0]
    assert first in run_sample(name, "--help")


def test_a_recording_with_a_failure() -> None:
    output = run_sample("recognize_file.py", str(RECORDING), "--drop", "video@3-5")
    assert "from audio+video+text" in output
    assert "video is lost: no data for" in output


def test_live_sensors_that_may_not_be_there() -> None:
    output = run_sample("recognize_live.py", "--seconds", "1")
    assert re.search(r"\d\.\d s  .*audio \w+, video \w+, text absent", output)


def test_what_there_is_to_listen_and_look_with() -> None:
    output = run_sample("recognize_live.py", "--list-devices")
    for kind in ("microphones", "cameras", "media files", "text", "test patterns"):
        assert re.search(rf"^{kind}: .+$", output, re.MULTILINE)


def test_a_game_is_never_held_up() -> None:
    output = run_sample("push_from_app.py", str(RECORDING), "--seconds", "3")
    assert re.search(r"^180 ticks, the slowest took [\d.]+ of 16\.7 ms; last: happy$", output, re.MULTILINE)


def test_asyncio() -> None:
    output = run_sample("recognize_async.py", str(RECORDING), "--seconds", "2")
    assert re.search(r"^ +2\.\d s  happy +from .*video", output, re.MULTILINE)
    (beats,) = re.findall(r"^(\d+) beats of the other task meanwhile; \d+ readings left out$", output, re.M)
    assert int(beats) > 5  # of about 200 on a quiet machine: it ran beside the readings


def test_a_rehearsed_failure() -> None:
    words = ["--drop", "video@2-4", "--drop", "audio@9-11"]
    output = run_sample("rehearse_failure.py", str(RECORDING), *words)
    assert "  2.5 s  audio live    video lost    text live    -> audio+text\n" in output
    assert "video@2-4: out 0.5 s later, in again 0.3 s later" in output
    assert "audio@9-11: out 0.5 s later, in again 1.0 s later" in output


def test_a_bundle_is_looked_into(tiny_export: Path) -> None:
    shipped = run_sample("inspect_bundle.py")
    assert re.search(r"^  audio  through log_mel, 40 features over 4 s$", shipped, re.MULTILINE)
    assert re.search(r"^  engine audio\+video\+text +fp16 \d+ kB, int8 \d+ kB$", shipped, re.MULTILINE)
    assert re.search(r"^  engine ", run_sample("inspect_bundle.py", str(tiny_export)), re.MULTILINE)


def test_backends_side_by_side() -> None:
    output = run_sample("compare_backends.py", "--subset", "text")
    assert output.startswith("text of live, 16 windows")
    cpu = re.findall(r"^cpu +(\w+) +agrees, p50 [\d.]+ ms, p95 [\d.]+ ms; .*0 labels", output, re.MULTILINE)
    assert cpu == ["fp16", "int8"]
    assert len(output.splitlines()) == 1 + 2 * 6


def test_a_modality_of_your_own(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch")
    bundle = str(tmp_path / "bundle")
    output = run_sample("new_modality/train_heart.py", bundle)
    assert "3 engines over heart_rate, text in fp16, int8" in output
    lines = run_sample("new_modality/read_heart.py", bundle, str(HEART_RATE), "--drop", "25-31").splitlines()
    shown = [[*re.split(r"  +", line.strip())[:2], line.split(" from ")[1].split()[0]] for line in lines]
    subsets = {at_s: subset for at_s, _, subset in shown}
    assert subsets["2.5 s"] == "heart_rate"
    assert subsets["8.5 s"] == "heart_rate+text"
    assert subsets["25.0 s"] == "text"
    assert subsets["29.5 s"] == "nothing"
    assert subsets["33.5 s"] == "heart_rate"
    labels = [label for _, label, subset in shown if subset != "nothing"]
    assert labels[0] == labels[-1] == "calm"
    assert "excited" in labels
    taken_away = "heart rate lost taken away from 25 to 31 s, to rehearse a failure"
    assert sum(taken_away in line for line in lines) == 2


def test_the_made_up_heart_rate_is_made_by_its_program(tmp_path: Path) -> None:
    run_sample("new_modality/make_heart_rate.py", str(tmp_path / "heart_rate.csv"))
    assert (tmp_path / "heart_rate.csv").read_bytes() == HEART_RATE.read_bytes()


def test_a_speech_recogniser_gives_the_words(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx")
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng")
    said = tmp_path / "said.wav"
    speak = ["espeak-ng", "-v", "en-us+f3", "-s", "130", "-w", str(said), "I am happy to see you."]
    subprocess.run(speak, check=True, timeout=60)
    output = run_sample("speech/recognize_speech.py", str(said), "--engine", "pocketsphinx")
    assert re.fullmatch(r" +\d\.\d s  .*happy to see you.*: happy, from audio\+text\n", output)


@pytest.mark.parametrize("engine", ["vosk", "sherpa"])
def test_a_recogniser_without_its_model_says_so(engine: str) -> None:
    command = [
        sys.executable,
        str(PROJECT / "samples" / "speech" / "recognize_speech.py"),
        "--engine",
        engine,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"{engine} needs --model FOLDER" in done.stderr


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
