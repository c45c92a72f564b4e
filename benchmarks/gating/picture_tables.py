"""Tables of what the gates of pictures change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.report import Report, Table
from edgeemo.training.augment.picture import DEFECTS

Figures = dict[str, dict[str, dict[str, float]]]  # defect -> strength -> name -> share


def picture_report(figures: dict[str, Any]) -> Report:
    """Returns the report of `benchmarks.gating.pictures.measure`."""
    followed, live = figures["followed"], figures["live"]
    return Report(
        "pictures",
        "Gates of pictures and faces: accuracy with and without them",
        figures,
        [_summary(followed, live), _thresholds(figures["thresholds"]), *_tables(followed), _live_table(live)],
        command="python -m benchmarks.gating pictures --data DIR",
    )


def _summary(followed: Figures, live: Figures) -> Table:
    """What gates change over all strengths of each defect."""
    rows = []
    for name in ["none", *(defect.name for defect in DEFECTS)]:
        found = list(followed[name].values())
        cells = [name]
        for prefix in ("", "video+text, "):
            changes = [row[f"{prefix}gated"] - row[f"{prefix}not gated"] for row in found]
            mean = sum(changes) / len(changes)
            cells += [f"{100 * value:+.1f}" for value in (min(changes), mean, max(changes))]
        seen = [row["gated"] - row["not gated"] for row in live.get(name, {}).values()]
        cells += [f"{100 * min(seen):+.1f}", f"{100 * max(seen):+.1f}"] if seen else ["-", "-"]
        rows.append(tuple(cells))
    return Table(
        "What the gates change",
        "Points of accuracy, gated less not gated: the least, mean and most over the strengths below. One "
        f"face is {100 / followed['none']['0']['n']:.1f} points.",
        (
            "defect",
            "all three: least",
            "mean",
            "most",
            "video+text: least",
            "mean",
            "most",
            "all three, live detector: least",
            "most",
        ),
        rows,
    )


def _thresholds(thresholds: dict[str, float]) -> Table:
    return Table(
        "Thresholds",
        "Fitted on the other half of the faces (`edgeemo.training.live.picture_gates`).",
        ("setting", "value"),
        [(name, f"{value:g}") for name, value in thresholds.items()],
    )


_COLUMNS = (
    "strength",
    "face read, not gated",
    "gated",
    "without the face",
    "with it, not gated",
    "gated",
    "oracle",
    "video+text: text, not gated, gated",
    "video alone: not gated, gated",
)


def _tables(figures: Figures) -> Iterator[Table]:
    """One table for each defect, the face followed wherever it is."""
    clean = _cells("none", figures["none"]["0"])
    faces = round(figures["none"]["0"]["n"])
    for defect in DEFECTS:
        yield Table(
            f"Pictures: {defect.name}",
            f"Strength: {defect.unit}. {faces} faces of FER+ val that no threshold was fitted to, with "
            "voices and words of the same label (label-matched); accuracy of audio+video+text. The face is "
            "followed wherever it is. The oracle knows for each strength whether the face helps; video "
            "alone is right over the readings that there are.",
            _COLUMNS,
            [clean, *(_cells(strength, row) for strength, row in figures[defect.name].items())],
        )


def _live_table(figures: Figures) -> Table:
    """All defects, the face found by the detector that ships."""
    return Table(
        "Pictures: found by the live detector",
        f"As above, {round(figures['none']['0']['n'])} faces; each is only read where the Haar cascade "
        "finds it.",
        ("defect", *_COLUMNS),
        [(name, *_cells(strength, row)) for name, rows in figures.items() for strength, row in rows.items()],
    )


def _cells(strength: str, row: dict[str, float]) -> tuple[str, ...]:
    def share(name: str) -> str:
        return f"{row[name]:.1%}" if name in row else "-"

    return (
        strength,
        share("coverage"),
        share("gated_coverage"),
        share("without"),
        share("not gated"),
        share("gated"),
        share("oracle"),
        f"{share('words alone')}, {share('video+text, not gated')}, {share('video+text, gated')}",
        f"{share('video, not gated')}, {share('video, gated')}",
    )
