"""The aims of accelerators, each with its value here or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from statistics import median
from typing import Any

from benchmarks.gpu.child import NOT_MEASURED
from benchmarks.report import Table
from edgeemo.runtimes.backends import CPU, backend_named
from edgeemo.runtimes.ort_providers import CUDA
from edgeemo.runtimes.trt_library import RTX, TENSORRT

CALL_MS = 0.3
OVERHEAD_US = 30.0
LOAD_MS = 500.0
MEMORY = 1.3

Row = Mapping[str, Any]


def aims_table(figures: Mapping[str, Any]) -> Table:
    """Returns one row for each aim and place where it counts."""
    engines = _rows(figures["engines"])
    lines = [
        _line(
            f"call on `cuda` with CUDA graph and copies, p50 <= {CALL_MS} ms (data-centre GPU)",
            _of(engines, CUDA),
            lambda row: row["ms"]["with copies"]["p50"] if row["cuda_graph"] else None,
            CALL_MS,
            "{:.3f} ms",
        )
    ]
    lines += [
        _line(
            f"overhead of our runner on `{place}` <= {OVERHEAD_US:g} us",
            _of(engines, place),
            lambda row: row["overhead_us"],
            OVERHEAD_US,
            "{:.1f} us",
        )
        for place in (CPU, CUDA, TENSORRT, RTX)
    ]
    lines += [
        _line(
            f"plan load on `{place}` <= {LOAD_MS / 1e3:g} s",
            _of(engines, place),
            lambda row: row["load_ms"],
            LOAD_MS,
            "{:.0f} ms",
        )
        for place in (TENSORRT, RTX)
    ]
    lines += [
        _line(
            f"memory of all seven engines on `{place}` over one plus weights, {words} <= {MEMORY}",
            _of(_rows(figures["memory"]), place),
            partial(_worst_ratio, kind=kind),
            MEMORY,
            "{:.2f}",
        )
        for place in (CPU, CUDA, TENSORRT, RTX)
        for kind, words in (("whole", "whole process"), ("added", "only what they add to it"))
    ]
    for row in _rows(figures["swap"]):
        lines.append(
            _line(
                f"swap from the CPU to `{row.get('backend', 'any')}` <= 1 hop, no reading lost",
                [row],
                lambda row: float(
                    sum(each["readings_lost"] + each["stale_readings"] for each in row["moves"])
                ),
                0.0,
                "{:.0f} readings lost or stale in all exchanges",
            )
        )
    note = "The worst counts, of all engines and of the variants that `auto` may pick; see the tables below."
    return Table("Aims", note, ("aim", "worst here", "met"), lines)


def _line(
    aim: str, rows: Iterable[Row], value: Callable[[Row], float | None], limit: float, form: str
) -> tuple[str, ...]:
    reasons: list[str] = []
    values: list[float] = []
    for row in rows:
        if NOT_MEASURED in row:
            reasons.append(str(row[NOT_MEASURED]))
        elif (found := value(row)) is not None:
            values.append(found)
    if not values:
        return aim, f"not measured: {reasons[0] if reasons else 'nothing of that kind ran'}", ""
    worst, middle = max(values), median(values)
    words = f"{form.format(worst)} (of {len(values)}; median {form.format(middle)})"
    return aim, words if len(values) > 1 else form.format(worst), "yes" if worst <= limit else "no"


def _worst_ratio(row: Row, *, kind: str) -> float:
    return max(float(found[kind]) for found in row["ratios"].values() if found)


def _rows(section: Any) -> list[Row]:
    return section if isinstance(section, list) else [section]


def _of(rows: Iterable[Row], backend: str) -> list[Row]:
    known = backend_named(backend).variants  # others run there only where they are asked for by name
    mine = [row for row in rows if row.get("backend", backend) == backend]
    return [row for row in mine if row.get("variant", known[0]) in known]
