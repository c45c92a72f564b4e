"""`edgeemo run` and `edgeemo demo`, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from live_like import ORDER, make_weights, write_live_like

from edgeemo.cli.main import COMMANDS
from edgeemo.cli.show.timeline import line_from_reading
from edgeemo.records import read_records
from edgeemo.session import Reading
from edgeemo.shipped import RECORDING


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
    assert first["time_s"] % 0.5 == 0
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
        (("run", "--drop", "smell@3-5"), 2, "unknown modality 'smell'; there are: audio, video, text"),
        (("run", "--media", str(RECORDING), "--append"), 2, "name it with --record"),
        (("run", "--media", str(RECORDING), "--record", "a.csv"), 1, "ends in none of .jsonl, .parquet"),
        (("run", "--media", str(RECORDING), "--record", "no/a.jsonl"), 1, "there is no such folder"),
        (("run", "--media", str(RECORDING), "--record", "a.xml", "--append"), 1, "only .jsonl records"),
        (("records", "nothing.jsonl", "--out", "a.xml"), 1, "nothing.jsonl cannot be read"),
        (("run", "--mic", "none", "--camera", "none"), 2, "every sensor is switched off"),
        (("run", "--media", str(RECORDING), "--bundle", "nowhere"), 1, "nowhere"),
        (("run", "--media", str(RECORDING), "--subset", "smell"), 2, "this model has"),
        (("run", "--media", str(RECORDING), "--mic", "3"), 2, "leave --mic"),
        (("run", "--seconds", "-1"), 2, "positive number of seconds"),
        (("run", "--seconds", "nan"), 2, "positive number of seconds"),
        (("dance",), 2, "there is no command 'dance'"),
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


MEDIA = ("run", "--media", str(RECORDING), "--json", "--variant", "int8")


def test_readings_are_recorded_as_they_are_printed(tmp_path: Path) -> None:
    record = tmp_path / "session.jsonl"
    done = edgeemo(*MEDIA, "--record", str(record))
    assert done.returncode == 0, done.stderr
    assert f"28 readings in {record}" in done.stderr
    assert read_records(record) == [json.loads(line) for line in done.stdout.splitlines()]
    again = edgeemo(*MEDIA, "--record", str(record))
    assert again.returncode == 1
    assert "exists already; give another name, or --append" in again.stderr
    assert edgeemo(*MEDIA, "--record", str(record), "--append", "--seconds", "2").returncode == 0
    assert len(read_records(record)) == 32
    made = edgeemo("records", str(record), "--out", str(tmp_path / "session.xml"))
    assert made.stdout == f"32 readings in {tmp_path / 'session.xml'}\n"
    assert (tmp_path / "session.xml").read_text().count('expressed-through="voice face') > 0


@pytest.mark.parametrize("suffix", [".jsonl", ".xml"])
def test_a_record_is_whole_after_sigterm(tmp_path: Path, suffix: str) -> None:
    record = tmp_path / f"session{suffix}"
    words = ("--mic", "none", "--camera", "none", "--text", "stdin", "--json", "--record", str(record))
    command = [sys.executable, "-m", "edgeemo", "run", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin
        assert run.stdout
        run.stdin.write("I am so happy\n")
        run.stdin.flush()
        while json.loads(run.stdout.readline())["subset"] != "text":
            pass
        run.terminate()
        _, said = run.communicate(timeout=60)
    assert f"readings in {record}" in said
    assert [path.name for path in tmp_path.iterdir()] == [record.name]
    if suffix == ".jsonl":
        assert read_records(record)[-1]["subset"] == "text"
    else:
        assert 'expressed-through="text"' in record.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_full_disk_stops_the_record_and_not_the_readings(tmp_path: Path) -> None:
    record = tmp_path / "session.jsonl"
    code = "import resource, sys; from edgeemo.cli.main import main; import edgeemo.runtimes.ort; "
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *MEDIA, "--record", str(record)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    readings = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(readings) == 28
    assert done.stderr.count("no room left on the disk") == 1
    assert "readings go on" in done.stderr
    kept = read_records(record)
    assert 0 < len(kept) < 28
    assert kept == readings[: len(kept)]


def test_contradictions_are_shown() -> None:
    smile = {"neutral": 0.05, "happy": 0.9, "angry": 0.05}
    anger = {"neutral": 0.05, "happy": 0.05, "angry": 0.9}
    reading = Reading(
        time_s=1.0,
        label="happy",
        states={},
        probabilities=smile,
        modality_probabilities={"audio": anger, "video": smile},
        contradiction=0.8,
        subset="audio+video",
    )
    assert line_from_reading(reading).endswith("≠ audio angry, video happy")
    assert "≠" not in line_from_reading(replace(reading, contradiction=0.6))
