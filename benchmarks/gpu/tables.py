"""The page: one table a section, what could not run beside what did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.gpu.aims import aims_table
from benchmarks.gpu.child import NOT_MEASURED
from benchmarks.report import Table

Row = Mapping[str, Any]


def make_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Returns all tables of the page.

    Args:
        figures: as the JSON file has them.
    """
    return [
        _here(figures),
        aims_table(figures),
        _paths(_rows(figures["paths"])),
        _engines(_rows(figures["engines"])),
        _memory(_rows(figures["memory"])),
        _first(_rows(figures["first"])),
        _plans(figures["plans"]),
        _swap(_rows(figures["swap"])),
    ]


def why_not(row: Row) -> str:
    """Returns ``not measured: <reason>``, or nothing where it was."""
    return f"not measured: {row[NOT_MEASURED]}" if NOT_MEASURED in row else ""


def _rows(section: Any) -> list[Row]:
    """Returns a section's rows; one that says why where the whole section was left out."""
    return section if isinstance(section, list) else [section]


def _here(figures: Mapping[str, Any]) -> Table:
    rows = [("GPU", "; ".join(figures["gpus"]))]
    rows.append(("libraries", ", ".join(f"{name} {number}" for name, number in figures["libraries"].items())))
    rows.append(("bundle", figures["bundle"]))
    for name, found in figures["backends"].items():
        others = [
            f"{library} {number}"
            for library, number in found.get("libraries", {}).items()
            if figures["libraries"].get(library) != number
        ]
        where = f" (in an environment with {', '.join(others)})" if others else ""
        rows.append((f"`{name}`", (why_not(found) or found["why_not"] or "can be used here") + where))
    return Table(
        "What is here", "Backends in the order in which `auto` prefers them.", ("what", "found"), rows
    )


def _paths(rows: Sequence[Row]) -> Table:
    columns = ("pinned in", "pinned out", "pinned there and back", "pageable in", "pageable out")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        if why := why_not(row):
            lines.append((f"`{row.get('package', 'all')}`", "", *([""] * 6), why))
            continue
        for each in row["rows"]:
            times = each["us"]
            recorded = times.get("recorded there and back")
            lines.append(
                (
                    f"`{row['package']}`",
                    f"{each['tensor']}, {each['bytes'] / 1e3:.1f}",
                    *(f"{_both(times[kind], 1)} ({each['gb_s'].get(kind, '-')})" for kind in columns),
                    _both(recorded, 1) if recorded else "no CUDA graphs",
                    "kept" if each["kept"] else "DAMAGED",
                )
            )
    note = (
        "The inputs of each engine and stem at batch 1, and 64 MiB: copy and wait for the stream, p50 / p99"
        " in microseconds, GB a second in brackets. `kept`: what came back is what was sent."
    )
    heads = ("package", "tensors, kB", *columns, "recorded there and back", "remark")
    return Table("Memory paths", note, heads, lines)


def _engines(rows: Sequence[Row]) -> Table:
    lines: list[tuple[str, ...]] = []
    for group in _together(rows, ("backend",)):
        first = group[0]
        if why := why_not(first):
            names = list(dict.fromkeys(str(row.get("engine", "all")) for row in group))
            variants = list(dict.fromkeys(str(row.get("variant", "")) for row in group))
            what = names[0] if len(names) == 1 else f"{len(names)} engines and stems"
            lines.append((f"`{first.get('backend', 'all')}`", what, ", ".join(variants), *([""] * 8), why))
            continue
        lines += [_engine(row) for row in group]
    note = (
        "One call of `Runner.run` at batch 1 on one thread, p50 / p99 in milliseconds, with the copies to "
        "the GPU and back and without; `overhead` over the bare library call, in turns with it, at the "
        "10th percentile of each. `off`: root mean square difference to the bundle's answers on its "
        "reference windows, and largest difference to the CPU in the same variant."
    )
    heads = ("backend", "engine", "variant", "graph", "ms", "without copies", "overhead us", "open ms")
    return Table("Engines", note, (*heads, "first call ms", "off", "off CPU", "remark"), lines)


def _engine(row: Row) -> tuple[str, ...]:
    remark = "agrees" if row["agrees"] else f"DOES NOT AGREE, {row['labels_changed']} labels changed"
    if row["why_no_graph"] not in ("", "switched off", "no CUDA"):
        remark += f"; no CUDA graph: {row['why_no_graph']}"
    without = row["ms"].get("without copies")
    return (
        f"`{row['backend']}`",
        row["engine"],
        row["variant"],
        "on" if row["cuda_graph"] else "off",
        _both(row["ms"]["with copies"], 3),
        _both(without, 3) if without else "",
        f"{row['overhead_us']:.1f}",
        f"{row['load_ms']:.0f}",
        f"{row['first_call_ms']:.2f}",
        f"{row['rms_error']:.3%}",
        f"{row['against_cpu']['largest']:g}" if row["against_cpu"] else "",
        remark,
    )


def _memory(rows: Sequence[Row]) -> Table:
    lines: list[tuple[str, ...]] = []
    for row in rows:
        head = (f"`{row.get('backend', 'all')}`", row.get("variant", ""))
        if why := why_not(row):
            lines.append((*head, *([""] * 6), why))
            continue
        for kind in ("host", "gpu"):
            if (ratios := row["ratios"][kind]) is None:
                continue
            sizes = [f"{row['mb'][step][kind]:.1f}" for step in ("nothing", "one", "all")]
            weights = f"{sum(row['weights_mb'].values()):.1f}"
            lines.append(
                (*head, kind, *sizes, weights, f"{ratios['whole']:.2f}", f"added {ratios['added']:.2f}")
            )
    note = (
        "MB of a fresh process (host: private pages; GPU: what is in use on the device) before any engine "
        "is open, with the engine of all modalities open and run, and with all seven. `ratio`: all over one"
        " plus the weights of the other six; `added`: the same without what the process took before."
    )
    heads = ("backend", "variant", "of", "nothing", "one", "all", "weights", "ratio", "remark")
    return Table("Memory", note, heads, lines)


def _first(rows: Sequence[Row]) -> Table:
    lines = []
    for row in rows:
        times = [f"{row[key]:.0f}" if key in row else "" for key in ("open_ms", "reading_ms", "process_ms")]
        remark = why_not(row) or (f"served by `{row['served_by']}`" if "served_by" in row else "")
        lines.append((f"`{row.get('backend', 'all')}`", *times, remark))
    note = (
        "A fresh process with three stems and seven engines: opening them, from the first push to the first"
        " reading, and from the start of the process to it, in ms; medians of 5 with everything built and "
        "timed before. `second-cpu`: one process that reads on the CPU while plans are built beside it."
    )
    return Table(
        "Time to the first reading", note, ("backend", "open", "reading", "whole process", "remark"), lines
    )


def _plans(section: Row) -> Table:
    heads = ("engine", "variant", "sm_86 s", "sm_89 s", "sm_120 s", "all three s", "processor s")
    columns = (*heads, "plan MB", "for all three MB", "graph MB", "read ms", "remark")
    note = (
        "TensorRT for RTX builds without a GPU, here one plan for each generation and one for all three. "
        "`processor`: the mean of what such a build spends; the rest of the time went to whatever else ran. "
        "`read`: finding a plan in the cache, reading and verifying it, which is the host's part of loading."
    )
    if why := why_not(section):
        return Table("Plans built ahead", note, columns, [("all", *([""] * 10), why)])
    lines: list[tuple[str, ...]] = []
    by_engine: dict[tuple[str, str], list[Row]] = {}
    for row in section["rows"]:
        by_engine.setdefault((row["engine"], row["variant"]), []).append(row)
    for head, rows in by_engine.items():
        built = [row for row in rows if NOT_MEASURED not in row]
        times = [f"{row['build_s']:.2f}" if row in built else "" for row in rows]
        remark = next((why_not(row) for row in rows if row not in built), "")
        if not built:
            lines.append((*head, *times, *([""] * 5), remark))
            continue
        processor_s = sum(row["build_cpu_s"] for row in built) / len(built)
        sizes = (built[0]["bytes"], built[-1]["bytes"], built[0]["graph_bytes"])
        read_ms = max(row["read_ms"] for row in built)
        figures = (f"{processor_s:.2f}", *(f"{size / 1e6:.2f}" for size in sizes), f"{read_ms:.1f}")
        lines.append((*head, *times, *figures, remark))
    return Table("Plans built ahead", f"{section['library'].strip('<>')}. {note}", columns, lines)


def _swap(rows: Sequence[Row]) -> Table:
    lines: list[tuple[str, ...]] = []
    for row in rows:
        name = f"`{row.get('backend', 'all')}`"
        if why := why_not(row):
            lines.append((name, *([""] * 8), why))
            continue
        moves = row["moves"]
        lines.append(
            (
                name,
                f"{row['moved']} of {row['parts']}",
                str(row["readings"]),
                str(sum(each["readings_lost"] for each in moves)),
                str(sum(each["stale_readings"] for each in moves)),
                str(row["late_hops"]),
                f"{row['longest_hold_ms']:.3f}",
                f"{max(each['gap_hops'] for each in moves):.2f}",
                f"{row['longest_gap_hops']:.2f}",
                "; ".join(row["failed"]),
            )
        )
    note = (
        "A live session on the recording that ships and on words, a reading each 0.1 s, begins on the CPU "
        "(int8) and moves stem by stem and engine by engine. `lost`: hops without a reading at an exchange; "
        "`stale`: readings after an exchange that the old engine still made; `late hops`: hops without a "
        "reading in the whole session, as this machine was busy; `held`: longest time that an exchange kept "
        "a hop from running; `gap`: most hops between two readings around an exchange. `second-cpu`: "
        "onnxruntime once more (fp16), each part of which waits for a real plan built beside the session at "
        "the lowest priority."
    )
    heads = (
        "to",
        "moved",
        "readings",
        "lost",
        "stale",
        "late hops",
        "held ms",
        "gap",
        "longest gap",
        "remark",
    )
    return Table("From the CPU to an accelerator, live", note, heads, lines)


def _both(times: Mapping[str, float], digits: int) -> str:
    return f"{times['p50']:.{digits}f} / {times['p99']:.{digits}f}"


def _together(rows: Sequence[Row], keys: tuple[str, ...]) -> Iterator[list[Row]]:
    """Yields neighbours that were not measured for one reason together, and all others alone."""
    group: list[Row] = []
    for row in rows:
        same = group and all(row.get(key) == group[0].get(key) for key in (*keys, NOT_MEASURED))
        if group and not (same and why_not(row)):
            yield group
            group = []
        group.append(row)
    if group:
        yield group
