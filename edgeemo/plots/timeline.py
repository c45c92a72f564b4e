"""A record as one picture: emotions, mood, modalities, engines, valence and arousal over time."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeemo.errors import InputError, MissingDependencyError, RecordError
from edgeemo.plots.colours import DARK, ENGINES, LIGHT, STATES, Paper, label_colours
from edgeemo.plots.columns import columns_from_track, runs_of
from edgeemo.plots.track import STATES as STATE_ORDER
from edgeemo.plots.track import Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
_WIDTH_IN, _LANE_IN = 12.0, 0.34
_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_MOST_TICKS = 12
_NAMED = 0.07  # a stretch as long as this part of the whole has room for its engine's name


def save_timeline(track: Track, out: str | Path, *, dark: bool = False) -> Path:
    """Draws a track and writes the picture, all or nothing.

    Args:
        track: of a record.
        out: a file that ends in one of `SUFFIXES`; overwritten.
        dark: on dark paper.

    Raises:
        InputError: the name ends in something else.
        MissingDependencyError: matplotlib is not installed.
        RecordError: the file cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"{out} ends in none of {', '.join(SUFFIXES)}")
    figure = draw_timeline(track, paper=DARK if dark else LIGHT)
    draft = out.with_name(f".{out.name}.part")
    kind = out.suffix.lower().removeprefix(".")
    when = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else None
    from matplotlib import rc_context

    try:
        with rc_context({"svg.hashsalt": "edgeemo"}):  # the same record gives the same bytes
            figure.savefig(draft, format=kind, dpi=130, metadata=when)
        draft.replace(out)
    except OSError as reason:
        raise RecordError(f"{out} cannot be written: {reason.strerror or reason}") from None
    finally:
        draft.unlink(missing_ok=True)
    return out


def draw_timeline(track: Track, *, paper: Paper = LIGHT) -> Figure:
    """Returns the picture of a track as a matplotlib figure that belongs to no window.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "drawing a record", "matplotlib", "pip install 'edgeemo[plot]'"
        ) from None
    columns, step_s = columns_from_track(track)
    lanes = len(track.modalities) * _LANE_IN + 0.2
    heights = [2.3, 2 * _LANE_IN + 0.1, lanes, _LANE_IN + 0.05, 1.4]
    with rc_context(_style(paper)):
        figure = Figure(figsize=(_WIDTH_IN, sum(heights) + 2.2), facecolor=paper.ground)
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(
            len(heights),
            2,
            height_ratios=heights,
            width_ratios=(1, 0.19),
            left=0.085,
            right=0.98,
            top=1 - 0.75 / figure.get_figheight(),
            bottom=0.5 / figure.get_figheight(),
            hspace=0.32,
            wspace=0.03,
        )
        axes = [figure.add_subplot(grid[0, 0])]
        axes += [figure.add_subplot(grid[row, 0], sharex=axes[0]) for row in range(1, len(heights))]
        _draw_probabilities(axes[0], columns, step_s)
        _draw_labels(axes[1], columns, step_s)
        _draw_states(axes[2], columns, step_s)
        _draw_engines(axes[3], columns, step_s)
        _draw_affect(axes[4], columns, step_s, paper)
        _draw_time(axes, track, paper)
        _draw_keys(figure, grid, columns)
        _draw_plane(figure.add_subplot(grid[4, 1]), columns, paper)
        figure.text(0.085, 1 - 0.32 / figure.get_figheight(), _title(track), fontsize=13, weight="bold")
        note = _note(track, columns, step_s)
        figure.text(0.085, 1 - 0.55 / figure.get_figheight(), note, color=paper.faint)
    return figure


def _style(paper: Paper) -> dict[str, Any]:
    return {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
        "font.size": 9,
        "text.color": paper.ink,
        "axes.facecolor": paper.ground,
        "axes.edgecolor": paper.grid,
        "axes.labelcolor": paper.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": paper.faint,
        "ytick.color": paper.faint,
        "ytick.labelcolor": paper.ink,
        "grid.color": paper.grid,
    }


def _draw_probabilities(axes: Axes, track: Track, step_s: float) -> None:
    """Stacks the probabilities; where there is no signal the paper shows."""
    edges = np.stack([track.time_s - step_s, track.time_s], axis=1).ravel()  # (2N,)
    floor = np.zeros(len(track))
    for number, colour in enumerate(label_colours(track.labels)):
        top = floor + track.probabilities[:, number]
        axes.fill_between(
            edges, np.repeat(floor, 2), np.repeat(top, 2), color=colour, linewidth=0, antialiased=False
        )
        floor = top
    axes.set(ylim=(0, 1), yticks=(0, 0.5, 1), ylabel="probability")


def _draw_labels(axes: Axes, track: Track, step_s: float) -> None:
    colours = label_colours(track.labels)
    for row, values in enumerate((track.emotion, track.mood)):
        for run in runs_of(track.time_s, values, step_s):
            _draw_bar(axes, run.start_s, run.end_s, row, colours[run.value])
    _name_lanes(axes, ("emotion", "mood"))


def _draw_states(axes: Axes, track: Track, step_s: float) -> None:
    for row in range(len(track.modalities)):
        for run in runs_of(track.time_s, track.states[:, row], step_s):
            _draw_bar(axes, run.start_s, run.end_s, row, STATES[STATE_ORDER[run.value]])
    _name_lanes(axes, track.modalities)


def _draw_engines(axes: Axes, track: Track, step_s: float) -> None:
    span_s = track.time_s[-1] - track.time_s[0] + step_s
    for run in runs_of(track.time_s, track.engine, step_s):
        colour = ENGINES[run.value % len(ENGINES)]
        _draw_bar(axes, run.start_s, run.end_s, 0, colour)
        name = track.engines[run.value].rpartition(".")[0] or track.engines[run.value]
        if run.end_s - run.start_s > max(_NAMED, 0.0085 * len(name)) * span_s:
            axes.text(
                (run.start_s + run.end_s) / 2, 0, name, ha="center", va="center", color="white", fontsize=8
            )
    _name_lanes(axes, ("engine",))


def _draw_affect(axes: Axes, track: Track, step_s: float, paper: Paper) -> None:
    gaps = np.flatnonzero(np.diff(track.time_s) > 1.5 * step_s) + 1
    time_s = np.insert(track.time_s, gaps, np.nan)  # no line across a gap
    for values, style, name in ((track.valence, "-", "valence"), (track.arousal, ":", "arousal")):
        axes.plot(time_s, np.insert(values, gaps, np.nan), style, color=paper.ink, lw=1.4, label=name)
    axes.axhline(0, color=paper.grid, lw=0.8, zorder=0)
    axes.set(ylim=(-1.05, 1.05), yticks=(-1, 0, 1))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=2, frameon=False, borderaxespad=0)


def _draw_bar(axes: Axes, start_s: float, end_s: float, row: int, colour: str) -> None:
    axes.broken_barh([(start_s, end_s - start_s)], (row - 0.36, 0.72), facecolor=colour, linewidth=0)


def _name_lanes(axes: Axes, names: tuple[str, ...]) -> None:
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _draw_time(axes: list[Axes], track: Track, paper: Paper) -> None:
    start_s, end_s = float(track.time_s[0] - track.hop_s), float(track.time_s[-1])
    step_s = next((step for step in _STEPS_S if (end_s - start_s) / step <= _MOST_TICKS), None)
    step_s = step_s or 86400.0 * np.ceil((end_s - start_s) / 86400 / _MOST_TICKS)
    ticks = np.arange(np.ceil(start_s / step_s) * step_s, end_s + 1e-6, step_s)
    if end_s >= 100:
        axes[-1].set_xlabel("minutes and seconds" if end_s < 3600 else "hours and minutes since the start")
    for each in axes:
        each.set_xlim(start_s, end_s)
        each.set_xticks(ticks, [_clock(tick, step_s, end_s) for tick in ticks])
        each.tick_params(axis="x", labelbottom=each is axes[-1], length=3 if each is axes[-1] else 0)
        for base_s, _ in track.starts[1:]:
            each.axvline(base_s, color=paper.ink, lw=0.8, ls=(0, (4, 3)))


def _clock(tick_s: float, step_s: float, end_s: float) -> str:
    if end_s < 100:
        return f"{tick_s:g} s"
    hours, rest = divmod(int(tick_s), 3600)
    if end_s < 3600:
        return f"{rest // 60}:{rest % 60:02}"
    if end_s < 2 * 86400:
        return f"{hours}:{rest // 60:02}"
    days, hours = divmod(hours, 24)
    return f"day {days + 1}" if hours == 0 else f"{hours}:{rest // 60:02}"


def _draw_keys(figure: Figure, grid: Any, track: Track) -> None:
    """Says what the colours mean, beside what has them."""
    from matplotlib.patches import Patch

    stacked = list(zip(label_colours(track.labels), track.labels, strict=True))[::-1]  # as they lie
    shown = set(np.unique(track.states).tolist())
    states = [(STATES[state], str(state)) for number, state in enumerate(STATE_ORDER) if number in shown]
    for cell, keys in ((grid[0, 1], stacked), (grid[2:4, 1], states)):
        axes = figure.add_subplot(cell)
        axes.set_axis_off()
        axes.legend(
            handles=[Patch(facecolor=colour, label=name) for colour, name in keys],
            loc="upper left",
            frameon=False,
            handlelength=1,
            handleheight=1,
            borderaxespad=0.3,
        )


def _draw_plane(axes: Axes, track: Track, paper: Paper) -> None:
    """Draws valence against arousal, the newest darkest."""
    known = ~np.isnan(track.valence)
    shade = np.linspace(0.15, 0.9, len(track))[known]
    axes.axhline(0, color=paper.grid, lw=0.8, zorder=0)
    axes.axvline(0, color=paper.grid, lw=0.8, zorder=0)
    if known.any():  # labels of one's own have no valence
        axes.scatter(
            track.valence[known], track.arousal[known], s=9, color=paper.ink, alpha=shade, linewidths=0
        )
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=(-1, 0, 1), yticks=(), aspect="equal")
    axes.set_xlabel("valence", labelpad=1)
    axes.set_ylabel("arousal", labelpad=1)
    axes.set_anchor("E")


def _title(track: Track) -> str:
    header = track.starts[0][1]
    title = f"{len(track):,} readings of the model {header.model_id}"
    if header.started_at_ms is not None:
        began = datetime.datetime.fromtimestamp(header.started_at_ms / 1000, datetime.timezone.utc)
        title += f", from {began:%Y-%m-%d %H:%M} UTC"
    return title


def _note(track: Track, columns: Track, step_s: float) -> str:
    swaps = int(np.count_nonzero(np.diff(track.engine)))
    signal = float(np.mean(track.probabilities.sum(axis=1) > 0))
    note = f"{swaps:,} changes of engine; a signal in {signal:.0%} of the readings"
    if len(track.starts) > 1:
        note += f"; {len(track.starts)} sessions, one after the other"
    if len(columns) < len(track):
        note += f"; a column is {_duration(step_s)}: means, and the worst state in it"
    return note


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
