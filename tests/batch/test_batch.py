"""An archive becomes one table: what a session says, row for row; nothing that was scored is ever lost."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("av", reason="needs PyAV")

from pyarrow import parquet
from short_recording import write_short_recording

from edgeemo import Session
from edgeemo.batch import Plan, Recording, find_recordings, score_archive
from edgeemo.batch.parts import Parts
from edgeemo.batch.plan import plan_from_options
from edgeemo.batch.progress import Progress, words_from_seconds
from edgeemo.batch.run import in_turn
from edgeemo.batch.table import Scored
from edgeemo.cli.main import main
from edgeemo.errors import BundleError, InputError, RecordError
from edgeemo.records import convert_record, read_sessions
from edgeemo.schemas import load_schema
from edgeemo.session import EngineOptions

WORDS = "1\n00:00:00,200 --> 00:00:02,000\nWhat a wonderful surprise!\n"
FAST = {"hop_s": 1.0}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_short_recording(tmp_path_factory.mktemp("short") / "short.mp4")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_from_options(None, engines=EngineOptions(variant="int8"), settings=FAST)


@pytest.fixture
def archive(short: Path, tmp_path: Path) -> Path:
    """Three good recordings, one of them with words, and one of each kind that is not."""
    folder = tmp_path / "archive"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("a.mp4", "deep/b.mp4", "deep/er/c.MP4"):
        shutil.copy(short, folder / name)
    (folder / "deep" / "b.srt").write_text(WORDS)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "words.mp4").write_text("these are only words")
    (folder / "cut.mp4").write_bytes(short.read_bytes()[: short.stat().st_size * 6 // 10])
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    (folder / "notes.txt").write_text("no recording")
    (folder / ".hidden.mp4").write_text("not looked at")
    return folder


def said_by_a_session(path: Path, plan: Plan) -> list[dict[str, Any]]:
    with Session(media=path, engines=plan.engines, settings=FAST) as session:
        return [reading.to_json() for reading in session]


def rows_of(table: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(table).to_pylist()
    return rows


def counting(plan: Plan, seen: list[str], *, stop_after: int = 10**9) -> Any:
    """Returns a pool that notes what it scores, and is interrupted after so many recordings."""

    def pool(recordings: Sequence[Recording]) -> Iterator[Scored]:
        for number, scored in enumerate(in_turn(plan)(recordings)):
            if number == stop_after:
                raise KeyboardInterrupt
            seen.append(Path(scored.path).name)
            yield scored

    return pool


def test_the_table_says_what_a_session_says_and_what_is_wrong(
    archive: Path, plan: Plan, tmp_path: Path
) -> None:
    table = tmp_path / "readings.parquet"
    summary = score_archive(find_recordings([str(archive)]), table, plan=plan)
    names = ["a.mp4", "cut.mp4", "deep/b.mp4", "deep/er/c.MP4", "empty.wav", "gone.mp4", "words.mp4"]
    sessions = read_sessions(table)
    rows = rows_of(table)
    first = {row["session"]: row["path"] for row in reversed(rows)}
    assert [first[number] for number in range(7)] == [str(archive / name) for name in names]
    for session, name in zip(sessions, names, strict=True):
        assert session.header.hop_s == 1.0
        if name not in ("empty.wav", "gone.mp4", "words.mp4"):
            assert list(session.readings) == said_by_a_session(archive / name, plan)
            assert len(session.readings) == 3
        else:
            assert session.readings == ()
    assert sessions[0].readings != sessions[2].readings, "the words beside one of them count"
    errors = {Path(row["path"]).name: row["error"] for row in rows if row["error"]}
    assert list(errors) == ["cut.mp4", "empty.wav", "gone.mp4", "words.mp4"]
    assert errors["empty.wav"].startswith("empty.wav cannot be read as a recording")
    assert errors["gone.mp4"] == "it cannot be read: there is no such file"
    assert len(rows) == 4 * 3 + 4
    assert (summary.recordings, summary.scored, summary.readings) == (7, 7, 12)
    assert (summary.failed, summary.damaged, summary.kept) == (3, 1, 0)
    assert summary.media_s == pytest.approx(4 * 3.0, abs=0.5)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "readings.parquet"}


def test_the_table_is_a_record_like_others(archive: Path, plan: Plan, tmp_path: Path) -> None:
    table = tmp_path / "readings.parquet"
    score_archive(find_recordings([str(archive / "deep")]), table, plan=plan)
    assert convert_record(table, tmp_path / "again.jsonl") == 6
    assert read_sessions(tmp_path / "again.jsonl") == read_sessions(table)


def test_a_recording_that_breaks_off_has_readings_and_an_error(
    archive: Path, plan: Plan, tmp_path: Path
) -> None:
    table = tmp_path / "t.parquet"
    summary = score_archive(find_recordings([str(archive / "cut.mp4")]), table, plan=plan)
    assert (summary.failed, summary.damaged, summary.readings) == (0, 1, 3)
    *readings, last = rows_of(table)
    assert [row["error"] for row in readings] == [None, None, None]
    assert (last["time_s"], last["label"]) == (None, None)
    assert re.search(r"cut\.mp4: .* ends early, at 1\.\d+ of 3\.\d+ s", last["error"])
    assert list(read_sessions(table)[0].readings) == said_by_a_session(archive / "cut.mp4", plan)


def test_a_recording_too_short_for_a_reading_says_so(plan: Plan, tmp_path: Path) -> None:
    write_short_recording(tmp_path / "blink.mp4", seconds=0.1)
    table = tmp_path / "t.parquet"
    assert score_archive(find_recordings([str(tmp_path / "blink.mp4")]), table, plan=plan).failed == 1
    assert re.search(r"has 0\.1\d s, too little for a reading every 1\.0 s", rows_of(table)[0]["error"])


def test_a_second_run_scores_what_is_missing_or_changed(
    short: Path, archive: Path, plan: Plan, tmp_path: Path
) -> None:
    table, seen = tmp_path / "readings.parquet", list[str]()
    with pytest.raises(KeyboardInterrupt):
        score_archive(
            find_recordings([str(archive)]), table, plan=plan, pool=counting(plan, seen, stop_after=2)
        )
    assert seen == ["a.mp4", "cut.mp4"]
    assert not table.exists()
    summary = score_archive(
        find_recordings([str(archive)]), table, plan=plan, pool=counting(plan, seen, stop_after=99)
    )
    assert seen[2:] == ["b.mp4", "c.MP4", "empty.wav", "words.mp4"]
    assert (summary.kept, summary.recordings) == (2, 7)
    before = rows_of(table)

    seen.clear()
    shutil.copy(short, archive / "gone.mp4.new")
    os.replace(archive / "gone.mp4.new", archive / "gone.mp4")  # it is there now
    (archive / "a.srt").write_text(WORDS)  # what is said beside it changed
    shutil.copy(short, archive / "aa.mp4")  # it is new
    (archive / "deep" / "b.mp4").unlink()  # its readings stay
    summary = score_archive(find_recordings([str(archive)]), table, plan=plan, pool=counting(plan, seen))
    assert seen == ["a.mp4", "aa.mp4", "gone.mp4"]
    assert (summary.scored, summary.kept, summary.recordings) == (3, 5, 8)
    after = rows_of(table)
    assert [row["session"] for row in after] == sorted(row["session"] for row in after)

    def of(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
        return [{**row, "session": 0} for row in rows if row["path"].endswith(f"/{name}")]

    for name in ("b.mp4", "c.MP4", "cut.mp4", "words.mp4", "empty.wav"):
        assert of(after, name) == of(before, name) != []
    sessions = read_sessions(table)
    assert list(sessions[0].readings) == said_by_a_session(archive / "a.mp4", plan)
    assert sessions[0].readings != sessions[1].readings
    assert of(after, "gone.mp4")[0]["error"] is None

    seen.clear()
    held = table.stat().st_mtime_ns
    summary = score_archive(find_recordings([str(archive)]), table, plan=plan, pool=counting(plan, seen))
    assert (seen, summary.scored, summary.recordings) == ([], 0, 8)
    assert table.stat().st_mtime_ns == held, "a complete table is left alone"


def test_what_was_made_another_way_is_refused_until_it_is_overwritten(
    short: Path, plan: Plan, tmp_path: Path
) -> None:
    table, seen = tmp_path / "t.parquet", list[str]()
    recordings = find_recordings([str(short)])
    other = replace(plan, settings={"hop_s": 3.0})
    score_archive(recordings, table, plan=plan)
    with pytest.raises(RecordError, match=r"t\.parquet was made another way \(settings .*3\.0.*--overwrite"):
        score_archive(recordings, table, plan=other)
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet"}
    with pytest.raises(KeyboardInterrupt):
        score_archive(recordings, table, plan=other, overwrite=True, pool=counting(other, seen, stop_after=0))
    assert len(rows_of(table)) == 3, "until the new one is complete, the old table is there"

    shutil.copy(short, tmp_path / "b.mp4")
    both = find_recordings([str(short), str(tmp_path / "b.mp4")])
    with pytest.raises(KeyboardInterrupt):
        score_archive(both, table, plan=other, overwrite=True, pool=counting(other, seen, stop_after=1))
    with pytest.raises(RecordError, match=r"t\.parquet\.parts holds readings that were made another way"):
        score_archive(both, table, plan=plan)
    summary = score_archive(both, table, plan=other, pool=counting(other, seen))
    assert (summary.kept, summary.scored) == (1, 1), "an overwriting run that ended early is gone on with"
    assert len(rows_of(table)) == 2


def test_another_bundle_or_table_is_never_mixed_in(short: Path, plan: Plan, tmp_path: Path) -> None:
    recordings = find_recordings([str(short)])
    with pytest.raises(BundleError, match="the run began with 000000000000; put the same bundle"):
        score_archive(recordings, tmp_path / "t.parquet", plan=replace(plan, bundle_sha256="0" * 64))
    for name, content in (("words.parquet", b"these are words"), ("cut.parquet", b"PAR1")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordError, match=r"exists and cannot be read.*--overwrite"):
            score_archive(recordings, tmp_path / name, plan=plan)
        assert (tmp_path / name).read_bytes() == content
    import pyarrow as pa

    parquet.write_table(pa.table({"a": [1]}), tmp_path / "theirs.parquet")
    with pytest.raises(RecordError, match="is no table that `edgeemo batch` made"):
        score_archive(recordings, tmp_path / "theirs.parquet", plan=plan)
    with pytest.raises(InputError, match=r"does not end in \.parquet"):
        score_archive(recordings, tmp_path / "t.csv", plan=plan)


def test_one_run_at_a_time_makes_a_table(short: Path, plan: Plan, tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    recordings = find_recordings([str(short)])
    with Parts(table) as parts:
        parts.begin(plan.identity(), overwrite=False)
        with pytest.raises(RecordError, match=rf"one run at a time.*process {os.getpid()}"):
            score_archive(recordings, table, plan=plan)
    assert score_archive(recordings, table, plan=plan).readings == 3


def test_a_part_that_the_disk_spoiled_is_scored_again(
    short: Path, plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table, seen = tmp_path / "t.parquet", list[str]()
    shutil.copy(short, tmp_path / "b.mp4")
    both = find_recordings([str(short), str(tmp_path / "b.mp4")])
    with pytest.raises(KeyboardInterrupt):
        score_archive(both, table, plan=plan, pool=counting(plan, seen, stop_after=1))
    (part,) = tmp_path.glob("t.parquet.parts/*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    (part.parent / "half.parquet.tmp").write_bytes(b"half")
    score_archive(both, table, plan=plan, pool=counting(plan, seen))
    assert "is scored again" in caplog.text
    assert seen == [seen[0], *sorted(["b.mp4", short.name], key=[seen[0]].count, reverse=True)]
    assert len(rows_of(table)) == 6


KILLED = """
import os, signal, sys
from edgeemo.batch import find_recordings, score_archive
from edgeemo.batch.plan import plan_from_options
from edgeemo.batch.run import in_turn
from edgeemo.session import EngineOptions
plan = plan_from_options(None, engines=EngineOptions(variant="int8"), settings={"hop_s": 1.0})
def pool(recordings):
    for number, scored in enumerate(in_turn(plan)(recordings)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield scored
score_archive(find_recordings([sys.argv[1]]), sys.argv[2], plan=plan, pool=pool)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_loses_what_was_under_way_and_no_more(archive: Path, plan: Plan, tmp_path: Path) -> None:
    table, seen = tmp_path / "t.parquet", list[str]()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(archive), str(table)],
        check=False,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr
    score_archive(find_recordings([str(archive)]), table, plan=plan, pool=counting(plan, seen))
    assert seen == ["b.mp4", "c.MP4", "empty.wav", "words.mp4"]
    assert [len(session.readings) for session in read_sessions(table)] == [3, 3, 3, 3, 0, 0, 0]


def run_batch(*words: str, limit_bytes: int = 0) -> subprocess.CompletedProcess[str]:
    code = "import sys; from edgeemo.cli.main import main; import edgeemo.runtimes.ort, edgeemo.batch.run; "
    if limit_bytes:
        code += (
            f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes})); "
        )
    code += "sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "batch", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_full_disk_is_said_and_costs_nothing_that_was_scored(short: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(short, tmp_path / "in" / "b.mp4")
    (tmp_path / "in" / "a.wav").write_bytes(b"")
    table = tmp_path / "t.parquet"
    words = [str(tmp_path / "in"), "--out", str(table), "--workers", "0"]
    small = run_batch(*words, "--set", "hop_s=0.1", limit_bytes=25_000)
    assert small.returncode == 1
    assert "no room left on the disk. What was scored before, 1 recordings, is kept there" in small.stderr
    assert len(list(tmp_path.glob("t.parquet.parts/*.parquet"))) == 1
    assert not list(tmp_path.glob("t.parquet.parts/*.tmp"))
    done = run_batch(*words, "--set", "hop_s=0.1", "--json")
    summary = json.loads(done.stdout)
    assert (summary["kept"], summary["scored"], summary["readings"]) == (1, 1, 30)
    size = table.stat().st_size
    tight = run_batch(*words, "--set", "hop_s=0.1", "--overwrite", limit_bytes=size - 300)
    assert tight.returncode == 1
    assert len(list(tmp_path.glob("t.parquet.parts/*.parquet"))) == 2, "there was room for each part"
    assert "t.parquet cannot be written: no room left on the disk. What was scored is kept" in tight.stderr
    assert len(rows_of(table)) == 31, "the old table is as it was"
    assert not (tmp_path / "t.parquet.tmp").exists()


def test_the_command_says_what_it_did(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    table = tmp_path / "t.parquet"
    words = ["batch", str(archive), "--out", str(table), "--workers", "0", "--set", "hop_s=1"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "12 readings of 7 recordings; 3 could not be scored; 1 damaged; 0.00 h of media in" in said.out
    assert f"{table}: 7 recordings\n" in said.out
    assert "edgeemo batch: 7 recordings to score\n" in said.err
    assert "7 of 7 recordings, " in said.err
    assert f"{archive / 'empty.wav'}: empty.wav cannot be read as a recording" in said.err
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    assert "edgeemo batch: 1 recordings to score, 6 were scored before\n" in said.err
    summary = json.loads(said.out)
    jsonschema.validate(summary, load_schema("batch"))
    assert (summary["kept"], summary["scored"], summary["failed"]) == (6, 1, 1), (
        "the dead link is tried again"
    )
    (archive / "gone.mp4").unlink()
    assert main(words) == 0
    assert f"{table} is complete: 7 recordings, nothing to score" in capsys.readouterr().out


def test_nothing_but_failures_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    words = ["batch", str(tmp_path), "--out", str(tmp_path / "t.parquet"), "--workers", "0"]
    assert main(words) == 1
    assert "1 could not be scored" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "t.parquet")) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--out", "t.parquet"], "nowhere is not there; expected a recording, a folder"),
        ([".", "--out", "t.parquet"], r"no recordings in \.: looked for names such as \*\.mp4.*--pattern"),
        (["*.mp4", "--out", "t.parquet"], r"no recordings in \*\.mp4"),
        ([".", "--out", "t.csv"], r"--out t\.csv does not end in \.parquet"),
        ([".", "--out", "t.parquet", "--workers", "two"], "'two' is no number of processes"),
        ([".", "--out", "t.parquet", "--max-size", "-1"], "'-1' is not a positive number of gigabytes"),
        ([".", "--out", "t.parquet", "--workers", "0", "--address", "auto"], "leave --address away"),
        (["s3://me:secret@bucket/a", "--out", "t.parquet", "--workers", "0"], "has credentials in it"),
        (["--out", "t.parquet"], "INPUT"),
    ],
)
def test_misuse_is_a_sentence(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["batch", *words])
    except SystemExit as end:  # how argparse ends
        code = int(end.code or 0)
    assert code == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert "secret" not in said
    assert not list(tmp_path.iterdir())


def test_engines_that_cannot_be_had_are_said_before_anything_is_scored(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", str(short), "--out", str(tmp_path / "t.parquet"), "--workers", "0"]
    assert main([*words, "--subset", "smell"]) == 2
    assert "smell" in capsys.readouterr().err
    assert main([*words, "--set", "hop_s=0"]) == 1
    assert "hop_s must be above 0" in capsys.readouterr().err
    assert main([*words[:-2], "--workers", "0", "--bundle", str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())


def test_ray_is_asked_for_by_name(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # the same command brings both
    assert main(["batch", str(short), "--out", str(tmp_path / "t.parquet")]) == 1
    assert "--workers 0 needs none" in (said := capsys.readouterr().err)
    assert "pip install 'edgeemo[ray]'" in said


def names_of(recordings: Sequence[Recording], folder: Path) -> list[str]:
    return [str(Path(recording.path).relative_to(folder)) for recording in recordings]


def test_each_recording_is_found_once_however_it_is_named(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ["a.mp4", "cut.mp4", "deep/b.mp4", "deep/er/c.MP4", "empty.wav", "gone.mp4", "words.mp4"]
    (archive / "0-twin.mp4").symlink_to(archive / "a.mp4")
    for inputs in (
        [str(archive)],
        [str(archive), str(archive / "a.mp4"), f"{archive}/deep/../a.mp4", str(archive / "*.mp4")],
        [f"{archive}/**"],
        [archive.as_uri()],
    ):
        assert names_of(find_recordings(inputs), archive) == everything
    monkeypatch.chdir(archive)
    assert names_of(find_recordings(["deep"]), archive) == ["deep/b.mp4", "deep/er/c.MP4"]
    assert names_of(find_recordings(["d*p/*.mp4", "*.wav"]), archive) == ["deep/b.mp4", "empty.wav"]
    assert names_of(find_recordings(["notes.txt"]), archive) == ["notes.txt"], "what is named is taken"
    assert names_of(find_recordings(["."], patterns=["*.txt", "b.*4"]), archive) == [
        "deep/b.mp4",
        "notes.txt",
    ]


def test_names_that_are_no_unicode_are_scored_too(short: Path, plan: Plan, tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    try:
        Path(os.fsdecode(place)).write_bytes(short.read_bytes())
    except OSError:
        pytest.skip("needs a disk that takes any name")
    (recording,) = find_recordings([str(tmp_path)])
    assert recording.path == f"{tmp_path}/caf\N{REPLACEMENT CHARACTER}.mp4"
    assert score_archive([recording], tmp_path / "t.parquet", plan=plan).readings == 3


def test_folders_and_files_without_permission_are_said(
    archive: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut = archive / "deep"
    scandir, opened = os.scandir, Path.open

    def guarded(place: Any = ".") -> Any:
        if place == str(shut):
            raise PermissionError(13, "Permission denied", str(shut))
        return scandir(place)

    def guarded_open(self: Path, *words: Any, **more: Any) -> Any:
        if self.name == "a.mp4":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *words, **more)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match="deep cannot be listed: permission denied"):
        find_recordings([str(shut)])
    recordings = find_recordings([str(archive)])
    monkeypatch.setattr(Path, "open", guarded_open)
    summary = score_archive(recordings, tmp_path / "t.parquet", plan=plan)
    errors = dict(summary.errors)
    assert errors[str(shut)] == "the folder cannot be listed: permission denied"
    assert errors[str(archive / "a.mp4")] == "it cannot be read: Permission denied"
    monkeypatch.undo()
    summary = score_archive(find_recordings([str(archive)]), tmp_path / "t.parquet", plan=plan)
    assert summary.readings == 9, "what could not be reached is tried again"


def test_readings_of_what_is_out_of_reach_now_stay(archive: Path, plan: Plan, tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    file, away = archive / "a.mp4", archive / "away.txt"
    score_archive(find_recordings([str(file)]), table, plan=plan)
    before = rows_of(table)
    file.rename(away)
    file.symlink_to(archive / "nowhere")
    summary = score_archive(find_recordings([str(file)]), table, plan=plan)
    assert summary.errors == [(str(file), "it cannot be read: there is no such file")]
    assert rows_of(table) == before
    away.replace(file)
    assert score_archive(find_recordings([str(file)]), table, plan=plan).scored == 0


def test_what_vanishes_before_its_turn_is_a_row(archive: Path, plan: Plan, tmp_path: Path) -> None:
    recordings = find_recordings([str(archive / "a.mp4"), str(archive / "deep")])
    (archive / "deep" / "b.mp4").unlink()
    summary = score_archive(recordings, tmp_path / "t.parquet", plan=plan)
    assert dict(summary.errors) == {
        str(archive / "deep/b.mp4"): "it cannot be read: No such file or directory"
    }
    assert summary.readings == 6


def test_progress_is_lines_where_nobody_sees_a_bar() -> None:
    stream = io.StringIO()
    progress = Progress(3, stream, every_s=0.0)
    for number in range(3):
        progress.add(Scored("a", "1", 5, 3600.0, error="broken" if number == 1 else ""))
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"{n} of 3 recordings" for n in (1, 2, 3)]
    assert "2.00 h of media" in lines[1]
    assert lines[1].endswith("1 with errors")
    assert "left" not in lines[2]
    assert [words_from_seconds(s) for s in (42.4, 185, 7385)] == ["42 s", "3:05 min", "2:03:05 h"]


def test_progress_is_a_bar_on_a_terminal() -> None:
    pytest.importorskip("rich", reason="needs rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress(2, stream)
    progress.start()
    progress.add(Scored("a", "1", 5, 7200.0))
    progress.stop()
    assert "1/2" in stream.getvalue()
    assert "2.00 h of media" in stream.getvalue()
