"""The figures as JSON for programs and as a Markdown page for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.export.measure import DEFAULTS, VARIANTS
from benchmarks.export.naive import AS_TRAINED, MERGED
from benchmarks.report import describe_machine, markdown_table

NAME = "export"
PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")


def write_tables(figures: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Writes ``export.json`` and ``export.md`` and returns their paths."""
    machine = describe_machine() | {"packages": {name: version(name) for name in PACKAGES}}
    folder.mkdir(parents=True, exist_ok=True)
    data, page = folder / f"{NAME}.json", folder / f"{NAME}.md"
    data.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n", encoding="utf-8")
    page.write_text(page_from_figures(machine, figures), encoding="utf-8")
    return data, page


def page_from_figures(machine: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    """Returns the page."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    lines = [
        "# The exporter against what one gets by hand, and against the machine",
        "",
        f"{machine['date']}, model `{figures['model_id']}`, {machine['processors']} processors: "
        f"{machine['cpu']}; {machine['memory_gb']} GB, {machine['system']}, load average "
        f"{machine['load_average']} at the end; Python {machine['python']}, {packages}. One thread, batch 1, "
        f"onnxruntime's default options, {figures['rounds']} calls each, in turns. Made by "
        "`python -m benchmarks.export`; what it says is in [README.md](README.md).",
    ]
    lines += ["", "## Time", "", _TIME_NOTE, "", *_times(figures["engines"])]
    lines += ["", "## Size", "", _SIZE_NOTE, "", *_sizes(figures)]
    for subset, stages in figures["passes"].items():
        lines += ["", f"## What each pass bought: {subset}", "", _STAGE_NOTE, "", *_passes(stages)]
    for subset, kinds in figures["operators"].items():
        lines += ["", f"## Operators: {subset}", "", _PROFILE_NOTE, "", *_operators(kinds)]
    return "\n".join(lines) + "\n"


_TIME_NOTE = (
    "Medians in milliseconds. `naive` is the whole network as `torch.onnx.export` writes it (`all threads`: "
    "with onnxruntime's own choice of threads), `merged` the same with the adapters of all modalities added "
    "to the weights by hand; both get zeros for what is missing. `q` is `quantize_dynamic` of each. "
    "`ceiling` is the engine's products alone. Ratios are of medians."
)
_SIZE_NOTE = "Bytes of one self-contained file; how many times smaller than the naive fp32 files."
_STAGE_NOTE = "The graph that each pass leaves, written and timed; int8 is the same graph after quantization."
_PROFILE_NOTE = (
    "onnxruntime's profiler on our engine, microseconds of all nodes of an operator. Profiling costs about "
    "one a node and counts in whole ones: shares, not times."
)


def _times(engines: Mapping[str, Any]) -> list[str]:
    columns: tuple[str, ...] = ("engine", "naive", "all threads", "naive q", "merged", "merged q")
    columns += ("ours fp32", "ours int8", "ceiling fp32", "ceiling int8")
    columns += ("naive / fp32", "naive / int8", "merged / fp32", "merged / int8")
    columns += ("fp32 / ceiling", "int8 / ceiling")
    rows = []
    for subset, entry in engines.items():
        time = {name: value["p50_ms"] for name, value in entry["times"].items()}
        shown = [time[f"{AS_TRAINED}|fp32"], time[f"{DEFAULTS}|fp32"], time[f"{AS_TRAINED}|int8"]]
        shown += [time[f"{MERGED}|fp32"], time[f"{MERGED}|int8"]]
        shown += [time[f"{who}|{kind}"] for who in ("ours", "ceiling") for kind in VARIANTS]
        ratios = [
            time[f"{who}|fp32"] / time[f"ours|{kind}"] for who in (AS_TRAINED, MERGED) for kind in VARIANTS
        ]
        ratios += [time[f"ours|{kind}"] / time[f"ceiling|{kind}"] for kind in VARIANTS]
        rows.append((subset, *(f"{value:.3f}" for value in shown), *(f"{value:.2f}" for value in ratios)))
    return markdown_table(columns, rows)


def _sizes(figures: Mapping[str, Any]) -> list[str]:
    naive = figures["naive"]
    rows: list[tuple[str, ...]] = []
    for network in (AS_TRAINED, MERGED):
        for kind in VARIANTS:
            entry = naive[network][kind]
            rows.append(
                (f"naive, {network}, {kind}", f"{entry['bytes'] / 1e3:.0f}", str(entry["nodes"]), "", "")
            )
    for subset, entry in figures["engines"].items():
        for kind in VARIANTS:
            size = entry["bytes"][kind]
            ratios = [f"{naive[network]['fp32']['bytes'] / size:.2f}" for network in (AS_TRAINED, MERGED)]
            rows.append((f"{subset}, {kind}", f"{size / 1e3:.0f}", str(entry["nodes"][kind]), *ratios))
    return markdown_table(("graph", "kB", "nodes", "naive / it", "merged / it"), rows)


def _passes(stages: list[Mapping[str, Any]]) -> list[str]:
    rows = []
    for stage in stages:
        times = [stage["times"][kind]["p50_ms"] for kind in VARIANTS]
        sizes = [stage["bytes"][kind] / 1e3 for kind in VARIANTS]
        rows.append(
            (
                stage["pass"],
                str(stage["nodes"]),
                *(f"{size:.1f}" for size in sizes),
                *(f"{time:.3f}" for time in times),
            )
        )
    return markdown_table(("after", "nodes", "kB fp32", "kB int8", "ms fp32", "ms int8"), rows)


def _operators(kinds: Mapping[str, Mapping[str, tuple[int, float]]]) -> list[str]:
    rows = []
    for operator in sorted(set().union(*kinds.values()), key=lambda name: -_spent(kinds, name)):
        cells: list[str] = []
        for kind in VARIANTS:
            count, spent = kinds[kind].get(operator, (0, 0.0))
            cells += [str(count) if count else "", f"{spent:.1f}" if count else ""]
        rows.append((operator, *cells))
    return markdown_table(("operator", "fp32", "us", "int8", "us"), rows)


def _spent(kinds: Mapping[str, Mapping[str, tuple[int, float]]], operator: str) -> float:
    return max(kinds[kind].get(operator, (0, 0.0))[1] for kind in VARIANTS)
