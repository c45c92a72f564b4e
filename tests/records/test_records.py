"""Records of readings are whole after kills and full disks, their owner's alone, never overwritten."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from some_readings import HEADER, some_reading, some_readings

from edgeemo.errors import FormatVersionError, InputError, MissingDependencyError, RecordError
from edgeemo.records import convert_record, open_recorder, read_records, read_sessions
from edgeemo.records.jsonl import JsonlRecorder
from edgeemo.session import State, Status
from edgeemo.session.reading_json import reading_from_json

TESTS = Path(__file__).parent


def write(path: Path, count: int, *, append: bool = False) -> None:
    with open_recorder(path, HEADER, append=append) as recorder:
        for reading in some_readings(count):
            recorder.write(reading)
        assert recorder.written == count


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write(tmp_path / name, 20)
    assert read_records(tmp_path / name) == [reading.to_json() for reading in some_readings(20)]
    (session,) = read_sessions(tmp_path / name)
    assert session.header == HEADER
    assert reading_from_json(session.readings[4]) == some_reading(4)
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_line_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    with open_recorder(tmp_path / "a.jsonl", HEADER) as recorder:
        recorder.write(some_reading(0))
        assert read_records(tmp_path / "a.jsonl") == [some_reading(0).to_json()]


def test_appending_goes_on_behind_a_header_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, 3, append=True)
    write(path, 2, append=True)
    assert [len(session.readings) for session in read_sessions(path)] == [3, 2]


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from some_readings import HEADER, some_reading
from edgeemo.records import open_recorder
recorder = open_recorder({path!r}, HEADER)
for number in range(10**9):
    recorder.write(some_reading(number))
    if number == 50:
        print("running", flush=True)
"""


@pytest.mark.parametrize("suffix", [".jsonl", ".xml"])
def test_a_kill_loses_at_most_the_line_that_is_being_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    code = KILLED.format(tests=str(TESTS), path=str(path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "running\n"
        child.send_signal(signal.SIGKILL)
    kept = path if suffix == ".jsonl" else path.with_name("a.xml.journal.jsonl")
    readings = read_records(kept)
    assert len(readings) > 50
    assert readings == [some_reading(number).to_json() for number in range(len(readings))]
    if suffix == ".xml":
        with pytest.raises(RecordError, match=r"a\.xml\.journal\.jsonl is there.*edgeemo records .* --out"):
            open_recorder(path, HEADER)
        assert convert_record(kept, path) == len(readings)
        assert path.read_text().rstrip().endswith("</emotionml>")


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_torn_last_line_is_left_out_and_cut_off_before_more_is_appended(
    tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    write(path, 4)
    os.truncate(path, path.stat().st_size - cut)
    assert read_records(path) == [reading.to_json() for reading in some_readings(3)]
    assert "cut off" in caplog.text
    write(path, 2, append=True)
    assert [len(session.readings) for session in read_sessions(path)] == [3, 2]


def test_a_tail_of_zeros_after_a_power_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, 4)
    with path.open("ab") as file:
        file.write(bytes(200_000))
    assert len(read_records(path)) == 4
    write(path, 1, append=True)
    assert [len(session.readings) for session in read_sessions(path)] == [4, 1]


def test_a_record_that_is_broken_inside_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"time_s": 1.0, \n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(RecordError, match=r"a\.jsonl, line 3: neither"):
        read_records(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b'{"time_s": 1.0}\n', "first line is no header"),
        (b"\x00\xff\n", "neither a reading nor a header"),
        (b'{"edgeemo_record": 1}\n', "header of a record is broken"),
    ],
)
def test_other_files_are_no_records(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_records(path)
    if content and b"record" not in content:
        with pytest.raises(RecordError, match="no record of edgeemo, so nothing is appended"):
            open_recorder(path, HEADER, append=True)
        assert path.read_bytes() == content


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(HEADER.to_json() | {"edgeemo_record": 2}) + "\n")
    with pytest.raises(FormatVersionError, match="a record of format 2; this edgeemo knows 1"):
        read_records(path)
    with pytest.raises(FormatVersionError, match="format 2"):
        open_recorder(path, HEADER, append=True)


def test_what_parquet_needs_is_said_before_a_session_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeemo\[parquet\]'"):
        open_recorder(tmp_path / "a.parquet", HEADER)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.xml"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(RecordError, match="exists already"):
            open_recorder(tmp_path / name, HEADER)
        assert (tmp_path / name).read_text() == "precious"
    write(tmp_path / "b.jsonl", 1)
    with pytest.raises(RecordError, match="exists already"):
        convert_record(tmp_path / "b.jsonl", tmp_path / "a.xml")


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"nowhere.a\.jsonl cannot be written: there is no such folder"):
        open_recorder(tmp_path / "nowhere" / "a.jsonl", HEADER)
    with pytest.raises(InputError, match=r"ends in none of \.jsonl, \.parquet"):
        open_recorder(tmp_path / "a.csv", HEADER)
    with pytest.raises(InputError, match=r"only \.jsonl records can be gone on with"):
        open_recorder(tmp_path / "a.xml", HEADER, append=True)
    if os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(RecordError, match="permission denied"):
            open_recorder(tmp_path / "a.jsonl", HEADER)


def test_two_sessions_do_not_write_one_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with (
        open_recorder(path, HEADER),
        pytest.raises(RecordError, match="being written by another session"),
    ):
        open_recorder(path, HEADER, append=True)
    write(tmp_path / "a.jsonl", 1, append=True)


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from some_readings import HEADER, some_reading
from edgeemo.errors import RecordError
from edgeemo.records import open_recorder
recorder = open_recorder({path!r}, HEADER)
def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
allow(5000)
for number in range(20):
    try:
        recorder.write(some_reading(number))
    except RecordError as error:
        message = str(error)
allow(10**9)
lost = recorder.lost
recorder.write(some_reading(99))
recorder.close()
print(recorder.written, lost, message)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_full_disk_is_said_and_costs_nothing_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    code = FULL.format(tests=str(TESTS), path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    written, lost, message = done.stdout.split(" ", 2)
    assert "no room left on the disk" in message
    assert f"The {int(written) - 1} readings before are kept" in message
    assert int(lost) > 0
    assert int(written) + int(lost) == 21
    readings = read_records(path)
    assert len(readings) == int(written)
    assert readings[-1]["time_s"] == some_reading(99).time_s, "it goes on once there is room again"


def test_a_conversion_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 3)
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b"junk\n")
    with pytest.raises(RecordError, match="line 5"):
        convert_record(tmp_path / "a.jsonl", tmp_path / "b.xml")
    with pytest.raises(RecordError, match="no such folder"):
        convert_record(tmp_path / "a.jsonl", tmp_path / "nowhere" / "b.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_file_that_cannot_be_finished_leaves_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    recorder = open_recorder(path, HEADER)
    recorder.write(some_reading(0))
    (tmp_path / "a.xml.tmp").mkdir()
    with pytest.raises(RecordError, match=r"The readings are in .*a\.xml\.journal\.jsonl; `edgeemo records"):
        recorder.close()
    (tmp_path / "a.xml.tmp").rmdir()
    assert convert_record(tmp_path / "a.xml.journal.jsonl", path) == 1


def test_closing_twice_is_fine_and_writing_afterwards_is_not(tmp_path: Path) -> None:
    before = threading.active_count()
    recorder = JsonlRecorder(tmp_path / "a.jsonl", HEADER, sync_every_s=0.01)
    for number in range(100):
        recorder.write(some_reading(number))
    recorder.close()
    recorder.close()
    assert threading.active_count() == before
    with pytest.raises(RecordError, match="is closed"):
        recorder.write(some_reading(0))


def test_a_thread_forces_lines_to_the_disk_and_its_trouble_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Event()
    fails = threading.Event()
    fsync = os.fsync

    def spy(file: int) -> None:
        synced.set()
        if fails.is_set():
            fails.clear()
            raise OSError(errno.EIO, "Input/output error")
        fsync(file)

    monkeypatch.setattr("os.fsync", spy)
    recorder = JsonlRecorder(tmp_path / "a.jsonl", HEADER, sync_every_s=0.01)
    synced.clear()
    recorder.write(some_reading(0))
    assert synced.wait(60), "nobody called write again, and yet the line was forced to the disk"
    fails.set()
    recorder.write(some_reading(1))
    deadline = time.monotonic() + 60
    while fails.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    while recorder._unsynced is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(RecordError, match="Input/output error"):
        recorder.write(some_reading(2))
    recorder.write(some_reading(3))
    recorder.close()
    assert len(read_records(tmp_path / "a.jsonl")) == recorder.written == 3


def test_parquet_comes_and_goes_as_other_kinds(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write(tmp_path / "a.jsonl", 10)
    write(tmp_path / "a.jsonl", 5, append=True)
    assert convert_record(tmp_path / "a.jsonl", tmp_path / "a.parquet") == 15
    assert convert_record(tmp_path / "a.parquet", tmp_path / "b.jsonl") == 15
    assert read_sessions(tmp_path / "b.jsonl") == read_sessions(tmp_path / "a.jsonl")
    convert_record(tmp_path / "a.jsonl", tmp_path / "a.xml")
    convert_record(tmp_path / "a.parquet", tmp_path / "b.xml")
    assert (tmp_path / "a.xml").read_bytes() == (tmp_path / "b.xml").read_bytes()


CRAMPED = """
import resource, sys
sys.path.insert(0, {tests!r})
from some_readings import HEADER, some_reading
from edgeemo.errors import RecordError
from edgeemo.records import open_recorder
recorder = open_recorder({path!r}, HEADER)
for number in range(20):
    recorder.write(some_reading(number))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
try:
    recorder.close()
except RecordError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
@pytest.mark.parametrize("name", ["a.xml", "a.parquet"])
def test_a_disk_that_is_too_full_to_finish_leaves_the_journal(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    code = CRAMPED.format(tests=str(TESTS), path=str(tmp_path / name))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert f"{name} cannot be written: no room left on the disk. The readings are in " in done.stdout
    (journal,) = tmp_path.iterdir()
    assert convert_record(journal, tmp_path / name) == 20


def test_texts_that_are_not_unicode_are_recorded_all_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    status = Status(State.LOST, "camera \udce9 is gone", 0.0)
    for name in ("a.jsonl", "a.parquet", "a.xml"):
        with open_recorder(tmp_path / name, HEADER) as recorder:
            recorder.write(replace(some_reading(0), states={"video": status}))
    assert read_records(tmp_path / "a.jsonl")[0]["states"]["video"]["why"] == status.why
    assert read_records(tmp_path / "a.parquet")[0]["states"]["video"]["why"] == "camera ? is gone"


def test_a_parquet_record_is_a_plain_table_for_others(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "a.parquet", 6)
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column("label").to_pylist()[2] == "no signal"
    assert table.column("probabilities").to_pylist()[:3:2] == [
        {"neutral": 0.1, "happy": 0.8, "angry": 0.1},
        None,
    ]
    assert table.column("states").to_pylist()[2]["audio"]["state"] == "lost"
    assert table.column("contradiction").null_count == 4


def test_an_empty_session_is_a_record_too(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 0)
    assert read_records(tmp_path / "a.jsonl") == []
    write(tmp_path / "a.xml", 0)
    if "pyarrow" in sys.modules:
        write(tmp_path / "a.parquet", 0)
        assert read_sessions(tmp_path / "a.parquet") == read_sessions(tmp_path / "a.jsonl")
