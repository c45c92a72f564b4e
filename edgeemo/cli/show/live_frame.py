"""One picture of a session for a terminal: what it says, how its modalities are, how it has been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgeemo.cli.show.signs import CONTRADICTION, SIGNS
from edgeemo.session import Event, Reading, State

STRIP_S = 60.0
"""How far back the strips reach."""
_WIDE = 72  # columns from which bars and modalities stand side by side
_COLOURS = {
    "neutral": "bright_black",
    "happy": "yellow",
    "sad": "blue",
    "angry": "red",
    "fear": "magenta",
    "disgust": "green",
    "surprise": "cyan",
}
_OTHERS = ("bright_yellow", "bright_blue", "bright_red", "bright_magenta", "bright_green", "bright_cyan")
_STATE_STYLES = {
    State.LIVE: "green",
    State.QUIET: "cyan",
    State.POOR: "yellow",
    State.LOST: "bold red",
    State.MUTED: "magenta",
    State.ABSENT: "bright_black",
}


@dataclass(frozen=True)
class Moment:
    """What one reading adds to the strips."""

    time_s: float
    emotion: str | None
    mood: str | None


@dataclass(frozen=True)
class Frame:
    """Everything that one picture is made of.

    Attributes:
        model_id: the model's name.
        labels: in the order in which bars stand.
        reading: the newest; None before the first.
        moments: those of the last minute, oldest first.
        events: newest last.
        latency_ms: ``p50`` and ``p95`` of the time that a reading takes; empty before the first.
        hops: readings made.
        swaps: times that the subset changed.
        advice: what to do, where no sensor is there at all; empty otherwise.
    """

    model_id: str
    labels: Sequence[str]
    reading: Reading | None = None
    moments: Sequence[Moment] = ()
    events: Sequence[Event] = ()
    latency_ms: dict[str, float] = field(default_factory=dict)
    hops: int = 0
    swaps: int = 0
    advice: str = ""


def draw_frame(frame: Frame, *, width: int, height: int, colours: bool = True) -> RenderableType:
    """Returns what rich shows of a frame; the least important lines go first where there is little room.

    Args:
        frame: what is shown.
        width: columns of the terminal.
        height: its lines.
        colours: whether it has colours; strips are letters where not.
    """
    inner = max(width - 4, 16)
    if frame.reading is None:
        return _panel([Text("waiting for the first reading ...")], frame, width)
    reading, room = frame.reading, height - 3  # the panel's edges, and the line where the cursor stands
    if frame.advice:
        states = [_cut(line, inner) for line in _states(reading)]
        return _panel([_cut(_headline(reading), inner), *states, Text(), Text(frame.advice)], frame, width)
    letters = letters_of(frame.labels)
    blocks: dict[int, list[RenderableType]] = {  # how soon it goes where there is little room: 0 stays
        0: [_cut(_headline(reading), inner), *_body(frame, reading, inner, room - 1)],
        1: [_engine(frame, reading, inner)],
        2: _strips(frame, reading, letters, inner, colours=colours),
        3: [_affect(reading, inner)],
        4: [_cut(line, inner) for line in _event_lines(frame.events)],
    }
    for place in (4, 3, 2, 1):
        if sum(map(_line_count, blocks.values())) > room:
            del blocks[place]
    return _panel([line for block in blocks.values() for line in block], frame, width)


def letters_of(labels: Sequence[str]) -> dict[str, str]:
    """Returns label -> the first letter of it that no label before has."""
    letters: dict[str, str] = {}
    for label in labels:
        free = [letter for letter in label if letter.isalnum() and letter not in letters.values()]
        letters[label] = free[0] if free else "?"
    return letters


def _panel(lines: Sequence[RenderableType], frame: Frame, width: int) -> Panel:
    time_s = frame.reading.time_s if frame.reading else 0.0
    clock = f"{int(time_s) // 3600}:{int(time_s) // 60 % 60:02}:{time_s % 60:04.1f}"
    title = Text(f"edgeemo  model {frame.model_id}  {clock}", style="bold")
    return Panel(Group(*lines), title=title, title_align="left", width=width, border_style="bright_black")


def _line_count(block: Sequence[RenderableType]) -> int:
    return sum(line.row_count if isinstance(line, Table) else 1 for line in block)


def _headline(reading: Reading) -> Text:
    if not reading.has_signal:
        return Text.assemble((reading.label, "bold"), "   nothing to recognise an emotion from")
    emotion = reading.emotion or reading.label
    line = Text.assemble((emotion, f"bold {_colour(emotion)}"), f"  {reading.confidence:4.0%}", "     mood ")
    line.append(reading.mood or "-", _colour(reading.mood) if reading.mood else "bright_black")
    if reading.contradicts:
        line.append(f"     {CONTRADICTION} modalities contradict each other", "bold yellow")
    return line


def _body(frame: Frame, reading: Reading, inner: int, room: int) -> list[RenderableType]:
    states = _states(reading)
    wide = inner >= _WIDE
    bars = _bars(frame, reading, inner, room if wide else room - len(states))
    if not wide:
        return [*bars, *(_cut(line, inner) for line in states)]
    left = inner // 2
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=left - 2, no_wrap=True)
    table.add_column(width=inner - left, no_wrap=True, overflow="ellipsis")
    for number in range(max(len(bars), len(states))):
        row = [part[number] if number < len(part) else Text() for part in (bars, states)]
        table.add_row(row[0], _cut(row[1], inner - left))
    return [table]


def _bars(frame: Frame, reading: Reading, inner: int, most: int) -> list[Text]:
    """Returns a bar for each label, or where there is no room for all for the most probable."""
    ranked = sorted(frame.labels, key=lambda label: -reading.probabilities.get(label, 0.0))
    shown = set(ranked[: max(most, 1)])
    names = max(map(len, frame.labels))
    room = max((inner // 2 - 2 if inner >= _WIDE else inner) - names - 7, 4)
    lines = []
    for label in (each for each in frame.labels if each in shown):
        p = reading.probabilities.get(label, 0.0)
        top = reading.has_signal and label == reading.label
        line = Text(f"{label:<{names}} ", "bold" if top else "")
        line.append(f"{'█' * round(p * room):<{room}}", _colour(label))
        line.append(f" {p:4.0%}" if reading.has_signal else "    -", "bold" if top else "")
        lines.append(line)
    return lines


def _states(reading: Reading) -> list[Text]:
    names = max((len(name) for name in reading.states), default=0)
    lines = []
    for name, status in reading.states.items():
        style = _STATE_STYLES[status.state]
        line = Text.assemble((SIGNS[status.state], style), f" {name:<{names}} ", (str(status.state), style))
        if status.why:
            line.append(f"  {status.why}", "bright_black")
        lines.append(line)
    return lines


def _engine(frame: Frame, reading: Reading, inner: int) -> Text:
    line = Text.assemble("engine ", (reading.engine or "-", "bold"))
    if reading.backend:
        line.append(f" on {reading.backend}")
    if frame.latency_ms:
        line.append(f"   {frame.latency_ms['p50']:.1f} ms a reading (p95 {frame.latency_ms['p95']:.1f})")
    line.append(f"   readings {frame.hops}, changes of engine {frame.swaps}", "bright_black")
    return _cut(line, inner)


def _strips(
    frame: Frame, reading: Reading, letters: dict[str, str], inner: int, *, colours: bool
) -> list[RenderableType]:
    cells = min(int(STRIP_S), inner - 9)
    step_s = STRIP_S / cells
    lines: list[RenderableType] = []
    for title in ("emotion", "mood"):
        line = Text(f"{title:<8} ")
        for cell in range(cells):
            till_s = reading.time_s - (cells - 1 - cell) * step_s
            inside = [each for each in frame.moments if till_s - step_s < each.time_s <= till_s]
            label = getattr(inside[-1], title) if inside else None
            if label is None:
                line.append("·", "bright_black")
            else:
                line.append("█" if colours else letters.get(label, "?"), _colour(label))
        lines.append(line)
    scale = f"{'':<9}{'a minute ago':<{max(cells - 3, 12)}}now"
    return [*lines, _cut(Text(scale, "bright_black"), inner)]


def _affect(reading: Reading, inner: int) -> Text:
    line = Text()
    for name, value in (("valence", reading.valence), ("arousal", reading.arousal)):
        line.append(f"{name} ")
        half = 8 if inner >= _WIDE else 4
        scale = ["─"] * (2 * half + 1)
        scale[half] = "┼"
        if value is not None:
            scale[round((value + 1) * half)] = "●"
        line.append("".join(scale), "bright_black" if value is None else "")
        line.append(f" {value:+.2f}   " if value is not None else "   -     ")
    return _cut(line, inner)


def _event_lines(events: Sequence[Event]) -> list[Text]:
    return [Text(f"{event.time_s:7.1f}s  {event.message}", "bright_black") for event in events[-3:]]


def _cut(line: Text, width: int) -> Text:
    cut = line.copy()
    cut.truncate(width, overflow="ellipsis")
    return cut


def _colour(label: str) -> str:
    return _COLOURS.get(label) or _OTHERS[sum(map(ord, label)) % len(_OTHERS)]
