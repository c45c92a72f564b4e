"""Recordings in buckets, from a real S3 server: fetched, scored as files are, nothing left behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("av", reason="needs PyAV")

from pyarrow import fs
from short_recording import write_short_recording

from edgeemo import Session
from edgeemo.batch import Plan, find_recordings, score_archive
from edgeemo.batch.leftovers import own_folder
from edgeemo.batch.plan import plan_from_options
from edgeemo.errors import InputError
from edgeemo.records import read_sessions
from edgeemo.session import EngineOptions

SERVER = ("moto==5.2.5", "flask", "flask-cors")
WORDS = "1\n00:00:00,200 --> 00:00:02,000\nWhat a wonderful surprise!\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an S3 server on this machine, which lives in a virtual environment of its own."""
    folder = tmp_path_factory.mktemp("s3")
    venv.create(folder)
    programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python")]
    done = subprocess.run([*pip, "install", "--quiet", *SERVER], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs {SERVER[0]} from a package index: {done.stderr[-300:]}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    command = [str(programs / "moto_server"), "-H", "127.0.0.1", "-p", str(number)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with socket.socket() as knock:
                    if knock.connect_ex(("127.0.0.1", number)) == 0:
                        break
                time.sleep(0.1)
            yield number
        finally:
            server.kill()


@pytest.fixture
def options(port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    return f"endpoint_override=http://127.0.0.1:{port}&region=us-east-1"


@pytest.fixture
def bucket(options: str, tmp_path: Path) -> Iterator[str]:
    """The address of a bucket with two good recordings, one with words, and a broken one."""
    short = write_short_recording(tmp_path / "short.mp4")
    files, _ = fs.FileSystem.from_uri(
        f"s3://clips?{options}&allow_bucket_creation=true&allow_bucket_deletion=true"
    )
    files.create_dir("clips")
    for name, content in (
        ("clips/day/a.mp4", short.read_bytes()),
        ("clips/day/a.srt", WORDS.encode()),
        ("clips/b.mp4", short.read_bytes()),
        ("clips/broken.mp4", b"these are only words"),
        ("clips/notes.txt", b"no recording"),
    ):
        with files.open_output_stream(name) as stream:
            stream.write(content)
    yield "s3://clips"
    files.delete_dir("clips")


@pytest.fixture
def plan() -> Plan:
    return plan_from_options(None, engines=EngineOptions(variant="int8"), settings={"hop_s": 1.0})


def test_a_bucket_is_scored_as_a_folder_is(
    bucket: str, options: str, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    table = tmp_path / "t.parquet"
    recordings = find_recordings([f"{bucket}?{options}"])
    assert [recording.path for recording in recordings] == [
        "s3://clips/b.mp4",
        "s3://clips/broken.mp4",
        "s3://clips/day/a.mp4",
    ]
    summary = score_archive(recordings, table, plan=plan)
    assert (summary.readings, summary.failed) == (6, 1)
    path, error = summary.errors[0]
    assert path == "s3://clips/broken.mp4"
    assert error.startswith("broken.mp4 cannot be read as a recording")
    assert not list(copies.iterdir()), "no copy stays"
    without, with_words = tmp_path / "b.mp4", tmp_path / "a.mp4"  # sentences name the file
    for copy in (without, with_words):
        copy.write_bytes((tmp_path / "short.mp4").read_bytes())
    with_words.with_suffix(".srt").write_text(WORDS)
    plain, broken, worded = read_sessions(table)
    for session, file in ((plain, without), (worded, with_words)):
        with Session(media=file, engines=plan.engines, settings={"hop_s": 1.0}) as expected:
            assert [reading.to_json() for reading in expected] == list(session.readings)
    assert broken.readings == ()
    assert plain.readings != worded.readings
    assert score_archive(find_recordings([f"{bucket}?{options}"]), table, plan=plan).scored == 0


def test_parts_of_a_bucket_are_named_by_pattern_and_by_name(bucket: str, options: str) -> None:
    def found(address: str, *patterns: str) -> list[str]:
        recordings = find_recordings([f"{address}?{options}"], patterns=patterns)
        return [recording.path.removeprefix("s3://clips/") for recording in recordings]

    assert found(f"{bucket}/day") == ["day/a.mp4"]
    assert found(f"{bucket}/*/*.mp4") == ["day/a.mp4"]
    assert found(f"{bucket}/*.mp4") == ["b.mp4", "broken.mp4"]
    assert found(f"{bucket}/**.mp4") == ["b.mp4", "broken.mp4", "day/a.mp4"]
    assert found(f"{bucket}/notes.txt") == ["notes.txt"], "what is named is taken"
    assert found(bucket, "b*.mp4") == ["b.mp4", "broken.mp4"]


def test_what_cannot_be_fetched_is_a_row_that_is_tried_again(
    bucket: str, options: str, plan: Plan, tmp_path: Path
) -> None:
    table = tmp_path / "t.parquet"
    (recording,) = find_recordings([f"{bucket}/b.mp4?{options}"])
    summary = score_archive([recording], table, plan=replace(plan, most_bytes=1000))
    assert "at most 0.0 GB are fetched (--max-size)" in summary.errors[0][1]
    gone = replace(recording, path="s3://clips/gone.mp4", place=f"{bucket}/gone.mp4?{options}")
    summary = score_archive([recording, gone], table, plan=plan)
    assert (summary.scored, summary.readings, summary.failed) == (2, 3, 1)
    assert summary.errors[0][0] == "s3://clips/gone.mp4"
    assert summary.errors[0][1].startswith("it cannot be read: ")


def test_buckets_that_are_not_there_are_said(options: str, bucket: str) -> None:
    with pytest.raises(InputError, match="s3://nothing is not there, or these credentials do not show it"):
        find_recordings([f"s3://nothing?{options}"])
    with pytest.raises(InputError, match=r"no recordings in s3://clips/\*\.wav"):
        find_recordings([f"{bucket}/*.wav?{options}"])


def test_copies_that_a_killed_process_left_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"edgeemo-batch-fetched-{ended.pid}-x").mkdir()
    (tmp_path / "edgeemo-batch-fetched-1-x").mkdir()
    (tmp_path / "somebody-elses").mkdir()
    mine = own_folder("fetched")
    assert {path.name for path in tmp_path.iterdir()} == {
        Path(mine).name,
        "edgeemo-batch-fetched-1-x",
        "somebody-elses",
    }
