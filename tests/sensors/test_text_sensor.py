from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from edgeemo.errors import InputError
from edgeemo.sensors import CallableText, Chunk, LiveSensor, Patience, StdinText, TextQueue
from edgeemo.sensors.text import MOST_CHARS


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"still not so after 10 s: {what}")


def words_of(sensor: LiveSensor, count: int) -> list[str]:
    chunks: list[Chunk] = []

    def enough() -> bool:
        chunks.extend(sensor.poll(0.01))
        return len(chunks) >= count

    wait_for(enough, f"{count} texts")
    return [chunk.text for chunk in chunks]


def test_pushed_words_come_out_with_their_times() -> None:
    now_s = 3.0
    with TextQueue() as queue:
        queue.start(lambda: now_s)
        queue.push(" hello ")
        queue.push("earlier", time_s=1.0)
        queue.push("later", time_s=5.5)
        queue.push(" \n\t ")
        chunks = queue.poll()
        assert [(c.modality, c.text, c.time_s) for c in chunks] == [
            ("text", "hello", 3.0),
            ("text", "earlier", 3.0),
            ("text", "later", 5.5),
        ]
        assert queue.poll() == []
        status = queue.status
        assert (status.state, status.chunks, status.drops, status.last_data_s) == ("running", 3, 0, 5.5)
    assert queue.status.state == "absent"
    assert queue.status.why == "pushed text is closed: it takes no words"


def test_pushes_that_cannot_be_used_are_refused_and_nothing_is_lost() -> None:
    queue = TextQueue()
    with pytest.raises(InputError, match=r"between start\(\) and close\(\)"):
        queue.push("too soon")
    queue.start(lambda: 0.0)
    queue.push("kept")
    with pytest.raises(InputError, match="must be a str, got bytes"):
        queue.push(b"bytes")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="text of 10001 characters; at most 10000"):
        queue.push("x" * (MOST_CHARS + 1))
    with pytest.raises(InputError, match="finite time"):
        queue.push("when?", time_s=float("nan"))
    assert [c.text for c in queue.poll()] == ["kept"]


def test_a_full_queue_loses_the_oldest_and_counts_them() -> None:
    queue = TextQueue(capacity=3)
    queue.start(lambda: 0.0)
    for number in range(5):
        queue.push(str(number))
    assert [c.text for c in queue.poll()] == ["2", "3", "4"]
    assert queue.status.drops == 2


def test_lines_of_a_pipe_arrive_as_they_are_written() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as stream, StdinText(stream, name="pipe") as sensor:
        sensor.start(time.monotonic)
        wait_for(lambda: sensor.status.state == "running", "the pipe is open")
        os.write(writing, "schön\n\n".encode())
        assert words_of(sensor, 1) == ["schön"]
        os.write(writing, b"two ha")
        os.write(writing, b"lves\r\nthree\nno line end \xff")
        os.close(writing)
        assert words_of(sensor, 3) == ["two halves", "three", "no line end \ufffd"]
        wait_for(lambda: sensor.status.why == "pipe has ended", "the end is told")
        assert sensor.status.state == "lost"


def test_closing_does_not_wait_for_a_line() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as stream:
        sensor = StdinText(stream)
        sensor.start(time.monotonic)
        wait_for(lambda: sensor.status.state == "running", "the pipe is open")
        sensor.close()
        wait_for(lambda: not any("standard input" in t.name for t in threading.enumerate()), "no thread left")
    os.close(writing)


def test_an_enormous_line_keeps_its_end() -> None:
    sensor = StdinText(io.StringIO("a" * 50_000 + " the end\nnext\n"))
    sensor.start(time.monotonic)
    first, second = words_of(sensor, 2)
    assert first.endswith("aaa the end")
    assert len(first) == MOST_CHARS
    assert second == "next"
    assert sensor.status.drops == 1


def test_nothing_is_lost_when_lines_come_faster_than_they_are_taken() -> None:
    sensor = StdinText(io.StringIO("".join(f"{n}\n" for n in range(2000))))
    sensor.start(time.monotonic)
    time.sleep(0.1)
    assert words_of(sensor, 2000) == [str(n) for n in range(2000)]
    assert sensor.status.drops == 0


def test_a_program_that_still_waits_for_input_ends_cleanly() -> None:
    program = (
        "import time; from edgeemo.sensors import StdinText\n"
        "s = StdinText(); s.start(time.monotonic)\n"
        "while s.status.state != 'running': time.sleep(0.01)\n"
    )
    reading, writing = os.pipe()
    ended = subprocess.run([sys.executable, "-c", program], stdin=reading, capture_output=True, check=False)
    os.close(reading)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_function_is_asked_for_words_and_may_fail() -> None:
    answers: list[str | Exception | None] = ["one", None, "", ConnectionError("recogniser away"), "two"]

    def recogniser() -> str | None:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    with CallableText(recogniser, interval_s=0.001, name="recogniser") as sensor:
        sensor.patience = Patience(deadline_s=None, first_wait_s=0.05)
        sensor.start(time.monotonic)
        assert words_of(sensor, 1) == ["one"]
        wait_for(lambda: sensor.status.why == "recogniser failed: recogniser away", "the failure is told")
        assert sensor.status.state == "lost"
        assert words_of(sensor, 1) == ["two"]
        assert (sensor.status.state, sensor.status.reconnects) == ("running", 1)
