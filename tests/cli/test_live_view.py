"""The live picture of `edgeemo run`: in a real pseudo-terminal, at many sizes, and where there is none."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich", reason="needs rich")

from rich.console import Console

from edgeemo.cli.show.first_run import nothing_here
from edgeemo.cli.show.live_frame import Frame, Moment, draw_frame, letters_of
from edgeemo.session import Event, EventKind, Reading, State, Status
from edgeemo.shipped import RECORDING

pyte = pytest.importorskip("pyte", reason="needs pyte")

LABELS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
REPLAY = ("run", "--media", str(RECORDING), "--pace", "real")


@dataclass
class Terminal:
    """What a program left on a terminal of its own, and how it ended."""

    screen: Any
    written: bytes
    code: int

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def in_terminal(
    *words: str,
    columns: int = 100,
    rows: int = 30,
    end: Callable[[str], bool] | None = None,
    stop: int = signal.SIGINT,
    environment: dict[str, str] | None = None,
    program: str | None = None,
) -> Terminal:
    """Runs edgeemo in a pseudo-terminal and stops it once `end` holds of what the screen shows."""
    place, inside = pty.openpty()
    fcntl.ioctl(place, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    settings = {"TERM": "xterm-256color", **(environment or {})}
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM")}
    child = subprocess.Popen(
        [sys.executable, *(("-m", "edgeemo", *words) if program is None else ("-c", program))],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=kept | settings,
        start_new_session=True,
    )
    os.close(inside)
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    written, deadline, stopped = b"", time.monotonic() + 60, False
    while time.monotonic() < deadline:
        if select.select([place], [], [], 0.05)[0]:
            try:
                data = os.read(place, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            written += data
            stream.feed(data)
        if end is not None and not stopped and end("\n".join(screen.display)):
            child.send_signal(stop)
            stopped = True
    else:
        child.kill()
    os.close(place)
    return Terminal(screen, written, child.wait(timeout=10))


def test_a_session_is_a_picture_and_ctrl_c_leaves_the_terminal_sane() -> None:
    seen = in_terminal(*REPLAY, end=lambda text: "mood happy" in text)
    assert seen.code == 130
    assert not seen.screen.cursor.hidden
    assert seen.lines[seen.screen.cursor.y - 1].startswith("╰")
    assert seen.screen.cursor.x == 0
    assert "edgeemo  model live" in seen.text
    assert "● audio live" in seen.text
    assert "engine audio+video+text.int8 on cpu" in seen.text
    bars = next(line for line in seen.lines if line.startswith("│ happy  ") and "█" in line)
    assert "%" in bars
    assert "emotion  ····" in seen.text
    assert "valence ───" in seen.text
    assert "audio+video+text serves" in seen.text
    assert seen.text.count("╭") == seen.text.count("╰") == 1  # drawn in one place, again and again


def test_sigterm_ends_it_as_well() -> None:
    seen = in_terminal(*REPLAY, end=lambda text: "engine " in text, stop=signal.SIGTERM)
    assert seen.code == 143
    assert not seen.screen.cursor.hidden


def test_a_recording_that_ends_leaves_its_last_picture() -> None:
    seen = in_terminal(*REPLAY, "--seconds", "1.5")
    assert seen.code == 0
    assert re.search(r"0:00:0[1-9]\.\d", seen.text)
    assert not seen.screen.cursor.hidden


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ((*REPLAY, "--plain"), {}),
        (REPLAY, {"TERM": "dumb"}),
        (REPLAY, {"PYTHONIOENCODING": "ascii"}),
        (("run", "--media", str(RECORDING)), {}),
    ],
)
def test_lines_where_a_picture_is_not_wanted(words: tuple[str, ...], environment: dict[str, str]) -> None:
    seen = in_terminal(*words, "--seconds", "1", environment=environment, columns=200)
    assert seen.code == 0
    assert b"\x1b" not in seen.written
    assert "╭" not in seen.text
    assert "emotion   confidence" in seen.text
    assert len(re.findall(r"^ +\d+\.\ds  ", seen.text, re.MULTILINE)) == 2


def test_no_colour_where_none_is_wanted() -> None:
    plain = in_terminal(*REPLAY, "--seconds", "2.5", environment={"NO_COLOR": "1"})
    colours = {cell.fg for line in plain.screen.buffer.values() for cell in line.values()}
    assert colours == {"default"}
    strip = next(line for line in plain.lines if line.startswith("│ emotion")).removeprefix("│ emotion")
    assert "h" in strip
    assert "█" not in strip
    coloured = in_terminal(*REPLAY, "--seconds", "1")
    assert len({cell.fg for line in coloured.screen.buffer.values() for cell in line.values()}) > 2


def test_a_terminal_that_takes_nothing_holds_up_no_reading(tmp_path: Path) -> None:
    """As after Ctrl-S: what is drawn waits, and readings are made and kept all the same."""
    place, inside = pty.openpty()
    record = tmp_path / "a.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-m", "edgeemo", *REPLAY, "--seconds", "4", "--record", str(record)],
        stdin=inside,
        stdout=inside,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(inside)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not record.exists() or len(record.read_bytes().splitlines()) < 9):
        time.sleep(0.1)
    assert len(record.read_bytes().splitlines()) == 9  # a header and eight readings
    waiting = 0
    while select.select([place], [], [], 1.0)[0]:  # as after Ctrl-Q
        try:
            waiting += len(os.read(place, 65536))
        except OSError:
            break
    os.close(place)
    assert child.wait(timeout=30) == 0
    assert waiting > 4000  # there was a picture, which had to wait


def test_what_is_written_to_stderr_stands_above_the_picture() -> None:
    program = (
        "import os, sys, time, logging, subprocess\n"
        "from edgeemo import Session\n"
        "from edgeemo.cli.show.view import show_view\n"
        "logging.basicConfig(stream=sys.stderr, format='%(message)s')\n"
        "with Session() as session:\n"
        "    def readings():\n"
        "        for number in range(4):\n"
        "            time.sleep(0.3)\n"
        "            session.push_text('I am so happy')\n"
        "            yield session.read()\n"
        "            print(f'said {number}', file=sys.stderr)\n"
        "            logging.warning('logged %d', number)\n"
        "            os.write(2, b'from C %d\\n' % number)\n"
        "            subprocess.run(['sh', '-c', f'echo from a child {number} >&2'])\n"
        "    show_view(readings(), session, lambda reading: '')\n"
        "print('after', file=sys.stderr)\n"
    )
    seen = in_terminal(program=program, rows=60)
    assert seen.code == 0
    top = next(number for number, line in enumerate(seen.lines) if line.startswith("╭"))
    above = seen.lines[:top]
    for number in range(4):
        for words in ("said", "logged", "from C", "from a child"):
            assert f"{words} {number}" in above, seen.text
    assert all(line.startswith(("│", "╰")) for line in seen.lines[top + 1 : top + 8])
    assert seen.lines[seen.screen.cursor.y - 1] == "after"


def some_reading(**words: Any) -> Reading:
    states = {
        "audio": Status(State.LIVE, "", 0.0),
        "video": Status(State.LOST, "no data for 1.1 s, and a reason that is far too long for a line", 1.0),
        "text": Status(State.MUTED, "switched off by the application", 0.0),
        "pulse": Status(State.POOR, "too few beats", 2.0),
    }
    says = dict.fromkeys(LABELS, 0.04) | {"happy": 0.6, "angry": 0.2}
    reading = Reading(
        time_s=3725.5,
        label="happy",
        states=states,
        confidence=0.6,
        probabilities=says,
        emotion="happy",
        mood="sad",
        valence=-0.5,
        arousal=1.0,
        contradiction=0.9,
        subset="audio+pulse",
        engine="audio+pulse.int8",
        backend="cpu",
    )
    return replace(reading, **words)


def frame_of(reading: Reading, **words: Any) -> Frame:
    moments = [Moment(reading.time_s - 0.5 * number, "happy", "sad") for number in range(40)][::-1]
    event = Event(1, 3700.0, EventKind.SUBSET_CHANGED, "audio+pulse serves in the place of audio", {})
    figures = {"latency_ms": {"p50": 3.0, "p95": 4.0}, "hops": 7000, "swaps": 2}
    return Frame("live", LABELS, reading, moments, (event,), **{**figures, **words})


def drawn(frame: Frame, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, color_system=None, file=io.StringIO())
    with console.capture() as captured:
        console.print(draw_frame(frame, width=width, height=height, colours=False))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [24, 40, 60, 79, 80, 120, 250])
@pytest.mark.parametrize("height", [8, 12, 24, 60])
def test_it_fits_every_terminal(width: int, height: int) -> None:
    lines = drawn(frame_of(some_reading()), width, height)
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("╭")
    assert lines[-1].startswith("╰")
    assert len(lines) <= max(height - 1, 9)  # a headline, a bar and the modalities are always there
    text = "\n".join(lines)
    assert "happy" in text
    assert "✕ video lost" in text
    assert "◐ pulse poor" in text


def test_every_part_is_there_where_there_is_room() -> None:
    text = "\n".join(drawn(frame_of(some_reading()), 120, 40))
    assert "1:02:05.5" in text
    assert "happy   60%     mood sad     ≠ modalities contradict each other" in text
    assert "⊘ text  muted  switched off by the application" in text
    assert "engine audio+pulse.int8 on cpu   3.0 ms a reading (p95 4.0)" in text
    assert f"emotion  {'·' * 40}{'h' * 20}" in text
    assert f"mood     {'·' * 40}{'s' * 20}" in text
    assert "valence ────●───┼──────── -0.50" in text
    assert "arousal ────────┼───────● +1.00" in text
    assert "3700.0s  audio+pulse serves in the place of audio" in text


def test_without_a_signal_nothing_is_shown_as_if_there_were_one() -> None:
    nothing = Reading(5.0, "no signal", {"audio": Status(State.QUIET, "no voice", 0.0)})
    text = "\n".join(drawn(frame_of(nothing), 100, 40))
    assert "no signal   nothing to recognise an emotion from" in text
    assert "%" not in text
    assert "●" not in text


def test_letters_tell_labels_apart() -> None:
    letters = letters_of(["sad", "surprise", "angry", "ss"])
    assert letters == {"sad": "s", "surprise": "u", "angry": "a", "ss": "?"}


def test_who_has_no_sensor_is_told_what_works() -> None:
    gone = Status(State.ABSENT, "no camera is connected (no /dev/video*)", 0.0)
    text = Status(State.ABSENT, "no sensor was given for it", 0.0)
    absent = Reading(0.5, "no signal", {"video": gone, "text": text})
    assert nothing_here(absent) == ""  # it may be opening still
    said = nothing_here(replace(absent, time_s=1.0))
    assert "video: no camera is connected" in said
    assert "no sensor was given" not in said
    assert "edgeemo demo" in said
    shown = "\n".join(drawn(frame_of(absent, advice=said), 120, 40))
    assert all(line.strip() in shown for line in said.splitlines())
    assert nothing_here(some_reading()) == ""


def test_a_terminal_without_sensors_gets_advice() -> None:
    seen = in_terminal("run", end=lambda text: "What works right now" in text or "● audio" in text)
    if "● audio" in seen.text:
        pytest.skip("needs a machine without a microphone")
    assert "edgeemo run --camera pattern --mic pattern" in seen.text
