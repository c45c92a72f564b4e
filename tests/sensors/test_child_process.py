"""Devices in child processes: whatever a driver does, the session goes on and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from odd_sensors import OddSensor, frame_of

from edgeemo.sensors import Chunk
from edgeemo.sensors.connections.clock_map import ClockMap
from edgeemo.sensors.connections.wire import (
    Kind,
    Message,
    WireError,
    chunk_from_message,
    message_from_chunk,
    read_message,
    write_message,
)

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"still not so after 30 s: {what}")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def hear(sensor: OddSensor, count: int, heard: list[Chunk] | None = None) -> list[Chunk]:
    chunks = [] if heard is None else heard

    def enough() -> bool:
        chunks.extend(sensor.poll(0.01))
        return len(chunks) >= count

    wait_for(enough, f"{count} chunks; {sensor.status}")
    return chunks


def test_chunks_and_losses_come_through_with_times_on_the_session_clock(tmp_path: Path) -> None:
    start_s = time.monotonic() - 1000.0
    with OddSensor("none", marks=str(tmp_path), kind="frames") as sensor:
        sensor.start(lambda: time.monotonic() - start_s)
        before_s = time.monotonic() - start_s
        chunks = hear(sensor, 9)
        for number, chunk in zip((1, 2, 3, 5, 6, 7, 9, 10, 11), chunks, strict=False):
            np.testing.assert_array_equal(chunk.array, frame_of(number))
            assert chunk.array.flags.writeable
        times = [chunk.time_s for chunk in chunks]
        assert times == sorted(set(times))
        assert before_s < times[0] < times[-1] <= time.monotonic() - start_s
        status = sensor.status
        assert (status.state, status.reconnects) == ("running", 0)
        assert status.drops >= 2
        assert status.overflows == 2 * status.drops
        assert sensor.pids[0] != os.getpid()


@pytest.mark.parametrize("fault", ["hang", pytest.param("hold", marks=POSIX)])
def test_a_driver_that_blocks_for_ever_is_killed_and_tried_again(tmp_path: Path, fault: str) -> None:
    with OddSensor(fault, marks=str(tmp_path), faulty=2, kind="frames") as sensor:
        sensor.start(time.monotonic)
        hear(sensor, 3)
        wait_for(lambda: sensor.status.state == "lost", "the hang is noticed")
        assert sensor.status.why.startswith("no data from odd for")
        hear(sensor, 12)
        wait_for(lambda: sensor.status.state == "running", "it runs again")
        assert sensor.status.reconnects == 2
        opened = [pid for pid in sensor.pids if pid]
        assert len(set(opened)) == 3
        wait_for(lambda: not any(map(is_alive, opened[:2])), "the hung processes are gone")
    wait_for(lambda: not is_alive(opened[2]), "the last one too")


@pytest.mark.parametrize("fault", ["hang", pytest.param("hold", marks=POSIX), "open", "close"])
def test_closing_while_it_hangs_leaves_no_process_and_waits_for_none(tmp_path: Path, fault: str) -> None:
    sensor = OddSensor(fault, marks=str(tmp_path))
    sensor.start(time.monotonic)
    wait_for(lambda: len(sensor.pids) > 0, "it is open")
    pid = sensor.pids[0]
    if fault in ("hang", "hold"):
        hear(sensor, 3)
        time.sleep(0.2)
    sensor.close()
    assert not is_alive(pid)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgeemo odd")]
    assert sensor.status.why == "odd is closed: nothing is read from it"


def test_a_device_that_can_be_closed_is(tmp_path: Path) -> None:
    sensor = OddSensor("none", marks=str(tmp_path))
    sensor.start(time.monotonic)
    hear(sensor, 1)
    sensor.close()
    assert sensor.pids[-1] == 0  # the device's own close was called


@POSIX
def test_a_crash_in_the_driver_is_a_status_and_a_reconnect(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with OddSensor("crash", marks=str(tmp_path), faulty=1) as sensor:
        sensor.start(time.monotonic)
        hear(sensor, 3)
        wait_for(lambda: "SIGSEGV" in sensor.status.why or sensor.status.reconnects > 0, "the crash is told")
        hear(sensor, 6)
        assert sensor.status.reconnects == 1
    assert capfd.readouterr() == ("", "")  # nothing of it on the application's terminal


@POSIX
def test_the_status_says_how_a_child_died_and_what_it_said(tmp_path: Path) -> None:
    with OddSensor("crash", marks=str(tmp_path)) as sensor:
        sensor.start(time.monotonic)
        wait_for(lambda: "SIGSEGV" in sensor.status.why, "the crash is told")
        assert sensor.status.why == "odd: its process was ended by SIGSEGV; it said: the driver's last line"


def test_errors_and_ends_are_told_as_in_a_thread(tmp_path: Path) -> None:
    with OddSensor("raise", marks=str(tmp_path)) as sensor:
        sensor.start(time.monotonic)
        wait_for(lambda: sensor.status.why == "odd failed: the cable is gone", "the error is told")
    with OddSensor("end", marks=str(tmp_path)) as sensor:
        sensor.start(time.monotonic)
        wait_for(lambda: sensor.status.why == "it has ended", "the end is told")
        assert sensor.status.state == "lost"
        opened = len(sensor.pids)
        time.sleep(0.3)
        sensor.poll()
        assert len(sensor.pids) == opened


def test_a_full_queue_that_blocks_loses_nothing_and_is_not_called_silent(tmp_path: Path) -> None:
    with OddSensor("flood", marks=str(tmp_path), policy="block", capacity=8, after=10**9) as sensor:
        sensor.start(time.monotonic)
        heard = hear(sensor, 1)
        time.sleep(1.5)  # longer than the deadline and than reopen_s
        assert sensor.status.state == "running"
        hear(sensor, 400, heard)
        assert [int(chunk.text) for chunk in heard] == list(range(1, len(heard) + 1))
        assert (sensor.status.drops, sensor.status.reconnects) == (0, 0)


def test_a_recipe_that_cannot_be_followed_is_told(tmp_path: Path) -> None:
    with OddSensor("none", marks=str(tmp_path / "nowhere")) as sensor:
        sensor.start(time.monotonic)
        wait_for(lambda: "No such file or directory" in sensor.status.why, "the reason is told")


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def test_starting_and_closing_again_and_again_leaks_nothing(tmp_path: Path) -> None:
    sensor = OddSensor("hang", marks=str(tmp_path), after=2)
    counts = []
    for number in range(12):
        sensor.start(time.monotonic)
        if number % 3:
            hear(sensor, 1)
        if number % 4 == 3:
            sensor.reopen()
            hear(sensor, 1)
        sensor.close()
        counts.append((_open_files(), threading.active_count()))
    assert counts[0] == counts[-1]
    wait_for(lambda: not any(is_alive(pid) for pid in sensor.pids if pid), "no process is left")


PROGRAM = """
import sys, time, threading
from odd_sensors import OddSensor
sensor = OddSensor(sys.argv[1], marks=sys.argv[2], after=3)
starter = threading.Thread(target=lambda: sensor.start(time.monotonic))  # need not live on
starter.start()
starter.join()
interrupts = 0
print("ready", flush=True)
while True:
    try:
        for chunk in sensor.poll(0.1):
            print(chunk.text, flush=True)
    except KeyboardInterrupt:
        interrupts += 1
        print("interrupt", sensor.status.reconnects, flush=True)
"""


def run_program(fault: str, marks: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, fault, str(marks)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@POSIX
@pytest.mark.parametrize("fault", ["none", "hang", "hold"])
def test_the_child_ends_when_the_parent_is_killed(tmp_path: Path, fault: str) -> None:
    program = run_program(fault, tmp_path)
    assert program.stdout is not None
    assert [program.stdout.readline() for _ in range(4)] == ["ready\n", "1\n", "2\n", "3\n"]
    (child,) = (int(mark.read_text()) for mark in tmp_path.iterdir())
    assert is_alive(child)
    program.kill()
    program.wait()
    program.stdout.close()
    if fault == "hold" and sys.platform != "linux":
        os.kill(child, signal.SIGKILL)  # only Linux ends it there
    wait_for(lambda: not is_alive(child), "the child has gone with its parent")


def test_a_program_that_never_closes_its_sensor_ends_cleanly(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom odd_sensors import OddSensor\n"
        "sensor = OddSensor('hang', marks=sys.argv[1], after=2)\nsensor.start(time.monotonic)\n"
        "while not sensor.poll(0.1): pass\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    (child,) = (int(mark.read_text()) for mark in tmp_path.iterdir())
    wait_for(lambda: not is_alive(child), "its child has ended too")


@POSIX
def test_the_terminals_interrupt_does_not_reach_the_child(tmp_path: Path) -> None:
    program = run_program("none", tmp_path)
    assert program.stdout is not None
    assert [program.stdout.readline() for _ in range(3)] == ["ready\n", "1\n", "2\n"]
    os.killpg(program.pid, signal.SIGINT)
    lines = [program.stdout.readline() for _ in range(20)]
    assert "interrupt 0\n" in lines
    numbers = [int(line) for line in lines if line.strip().isdigit()]
    assert numbers == sorted(numbers)
    program.kill()
    program.wait()
    program.stdout.close()


def _pipe() -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    return FileIO(reading, "r"), FileIO(writing, "w")


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk("audio", 1.5, np.linspace(-1, 1, 800, dtype=np.float32), 16000),
        Chunk("video", 2.5, np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::2]),
        Chunk("text", 3.5, "schön"),
        Chunk("physio", 4.5, np.zeros((0, 3), np.float64)),
    ],
    ids=lambda chunk: chunk.modality,
)
def test_every_chunk_survives_the_wire(chunk: Chunk) -> None:
    reading, writing = _pipe()
    with reading, writing:
        write_message(writing, message_from_chunk(chunk, drops=3, overflows=1))
        message = read_message(reading)
        assert message is not None
        got = chunk_from_message(message, message.time_s)
        assert (message.drops, message.overflows) == (3, 1)
        assert (got.modality, got.time_s, got.rate_hz) == (chunk.modality, chunk.time_s, chunk.rate_hz)
        np.testing.assert_array_equal(np.asarray(got.data), np.asarray(chunk.data))


def test_what_breaks_off_is_the_end_and_what_is_no_message_is_refused() -> None:
    reading, writing = _pipe()
    with reading:
        with writing:
            write_message(writing, Message(Kind.LOSSES, drops=1))
            writing.write(b"eemo\x02")
        assert read_message(reading) is not None
        assert read_message(reading) is None
    for junk in (b"x" * 64, b"eemo" + b"\xff" * 60):
        reading, writing = _pipe()
        with reading, writing:
            writing.write(junk)
            with pytest.raises(WireError, match="not a message"):
                read_message(reading)


def test_a_shape_that_does_not_fit_its_bytes_is_refused() -> None:
    reading, writing = _pipe()
    with reading, writing:
        message = message_from_chunk(Chunk("video", 0.0, np.zeros((2, 2, 3), np.uint8)))
        message.meta["shape"] = [2, 3, 3]
        write_message(writing, message)
        with pytest.raises(WireError, match=r"12 bytes for uint8 of shape \(2, 3, 3\)"):
            read_message(reading)


def test_times_stay_even_while_the_clock_is_looked_at_late_and_follow_it_when_it_jumps() -> None:
    now_s, ahead_s, slow_s = 0.0, 0.0, 0.0

    def monotonic() -> float:
        nonlocal now_s
        now_s += slow_s
        return now_s

    times = ClockMap(lambda: now_s - 100.0 + ahead_s, monotonic)
    assert times.time_s(0.0) == -100.0
    slow_s = 0.03  # interrupted between two looks
    assert [times.time_s(t) for t in (1.0, 2.0)] == [-99.0, -98.0]
    slow_s, ahead_s = 0.0, 5.0
    assert times.time_s(3.0) == -92.0
