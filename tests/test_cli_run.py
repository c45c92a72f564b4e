"""`edgeemo run` and `edgeemo demo`, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from live_like import ORDER, make_weights, write_live_like

from edgeemo.cli.demo import RECORDING
from edgeemo.cli.main import COMMANDS


def edgeemo(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeemo", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def test_run_prints_one_reading_a_line() -> None:
    done = edgeemo("run", "--media", str(RECORDING), "--drop", "video@3-5", "--json", "--variant", "int8")
    assert done.returncode == 0, done.stderr
    readings = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(readings) == 28
    assert readings[7]["time_s"] == 4.0
    assert readings[7]["subset"] == "audio+text"
    assert readings[7]["states"]["video"]["state"] == "lost"
    assert readings[4]["engine"] == "audio+video+text.int8"


def test_run_reads_words_from_stdin() -> None:
    words = ("--mic", "none", "--camera", "none", "--text", "stdin", "--seconds", "1.5", "--json")
    done = edgeemo("run", *words, stdin="I am so happy\n")
    assert done.returncode == 0, done.stderr
    readings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [reading["subset"] for reading in readings][-1] == "text"


def test_watch_takes_over_a_bundle_that_changes(tmp_path: Path) -> None:
    folder = write_live_like(tmp_path / "bundle").path
    words = ("--mic", "none", "--camera", "none", "--text", "stdin", "--json", "--variant", "fp32", "--watch")
    command = [sys.executable, "-m", "edgeemo", "run", "--bundle", str(folder), *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin
        assert run.stdout
        assert run.stderr
        first = json.loads(run.stdout.readline())
        heads = make_weights(0) | {f"head.{name}": make_weights(1)[f"head.{name}"] for name in ORDER}
        state = write_live_like(folder, weights=heads).manifest_sha256
        assert f"edgeemo run: {state[:12]} of {folder} serves; new: audio, " in run.stderr.readline()
        (folder / "manifest.json").unlink()
        assert "the engines in use go on" in run.stderr.readline()
        second = json.loads(run.stdout.readline())
        run.terminate()
    assert first["time_s"] == 0.5
    assert second["time_s"] % 0.5 == 0


def test_demo_prints_a_timeline() -> None:
    done = edgeemo("demo")
    assert done.returncode == 0, done.stderr
    assert "28 readings" in done.stdout
    assert "no data for" in done.stdout
    assert "audio+video+text" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "--media", "no-such-file.mp4"), 1, "no such media file"),
        (("run", "--media", str(RECORDING), "--drop", "video@5-3"), 2, "must come after the start"),
        (("run", "--drop", "video@3-5"), 2, "--media"),
        (("run", "--mic", "none", "--camera", "none"), 2, "every sensor is switched off"),
        (("run", "--media", str(RECORDING), "--bundle", "nowhere"), 1, "nowhere"),
        (("run", "--media", str(RECORDING), "--subset", "smell"), 2, "this model has"),
        (("run", "--media", str(RECORDING), "--mic", "3"), 2, "leave --mic"),
        (("run", "--seconds", "-1"), 2, "positive number of seconds"),
        (("run", "--seconds", "nan"), 2, "positive number of seconds"),
        (("dance",), 2, "invalid choice"),
    ],
)
def test_mistakes_are_explained(words: tuple[str, ...], code: int, message: str) -> None:
    done = edgeemo(*words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = edgeemo(command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: edgeemo {command}")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m edgeemo run --media {RECORDING} --json | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["time_s"] == 0.5
    assert "Traceback" not in done.stderr


def test_a_terminal_without_our_signs_is_no_error() -> None:
    command = [sys.executable, "-m", "edgeemo", "demo"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "28 readings" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "edgeemo", "demo"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_version() -> None:
    assert edgeemo("--version").stdout.startswith("edgeemo 0.")
