"""What happened after the drops, as tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.swap.dropped import FORGOTTEN
from benchmarks.swap.scene import DEADLINE_S

MINUTE_S = 60.0


def limit_s(fault: str, hop_s: float) -> float:
    """Returns how long after a drop a reading may still use what had arrived before it."""
    return hop_s + DEADLINE_S.get(fault, 0.0)


def drop_tables(figures: dict[str, Any]) -> list[Table]:
    """Returns the tables of `benchmarks.swap.drops.measure`.

    Args:
        figures: its figures.
    """
    return [_times(figures), _stale(figures)]


def _times(figures: dict[str, Any]) -> Table:
    hop_s = figures["hop_s"]
    rows = []
    for clock in ("virtual", "real"):
        for kind, found in figures[clock].items():
            rows.append(
                (
                    f"{kind}, {clock} time",
                    str(found["n"]),
                    f"{np.median(found['gap_s']):.2f}",
                    f"{max(found['gap_s']):.2f}",
                    f"{limit_s(kind.split(', ')[1], hop_s):.2f}",
                    str(max(found["hops"])),
                    str(found["stale"]),
                    str(found["wrong"]),
                )
            )
    note = (
        "Real sessions over scripted sensors under edgeemo's own supervision; all three modalities are live "
        "(`alone`: only that one, so that the right reading is `no signal`), and one drops between two hops: "
        "it hangs (gives nothing and says nothing), gives an error, or is muted. Gap: from the drop to the "
        f"first reading without it; hops {hop_s:g} s apart. Aim: one hop and the deadline (0.5 s for a hang, "
        "0.1 s for an error). Readings that still use it: those before it is noticed, from what arrived "
        "before the drop. Stale: later than the aim allows. Wrong: any subset but the one before or the "
        "right one."
    )
    columns = ("drop", "n", "gap s, p50", "most", "aim", "readings that still use it, most", "stale", "wrong")
    return Table("From a drop to the first correct reading", note, columns, rows)


def _stale(figures: dict[str, Any]) -> Table:
    readings = round(MINUTE_S / figures["hop_s"])
    used = {
        name: max(
            max(found["hops"]) for kind, found in figures["virtual"].items() if ("alone" in kind) is alone
        )
        for name, alone in (("with others", False), ("alone", True))
    }
    rows = [
        ("edgeemo, until the drop is noticed", str(used["with others"]), str(used["alone"])),
        ("late fusion that asks the same sensor states", str(used["with others"]), str(used["alone"])),
        *(
            (f"late fusion with half-lives of {life} s", str(others), str(alone))
            for life, (others, alone) in figures["half_lives"].items()
        ),
    ]
    note = (
        f"Readings of the minute after the drop ({readings}) to which the dead modality still adds. edgeemo "
        "and late fusion with its sensor states: the most of the virtual runs above, until the drop is "
        "noticed; the states decide that, not the fusion. With half-lives nobody is told; counted are "
        f"readings in which the dead one has more than {FORGOTTEN:.0%} of the weight, 2^(-age / half-life) "
        "over the sum; the last one left has all of it for ever."
    )
    columns = ("way", "two others live", "it was the last one")
    return Table("Readings that use a dead modality", note, columns, rows)


def _most_hops(runs: dict[str, Any]) -> tuple[str, str]:
    """Returns the most readings that used a dead modality, with others beside it and alone."""
    most = {kind: max(found["hops"]) for kind, found in runs.items()}
    return (
        str(max(count for kind, count in most.items() if "alone" not in kind)),
        str(max(count for kind, count in most.items() if "alone" in kind)),
    )
