"""Results as JSON for programs and as Markdown tables for people, each with the machine and versions."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgeemo.bundle import Bundle
from edgeemo.runtimes.machine import cpu_count, cpu_model

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("edgeemo", "numpy", "onnxruntime", "opencv-python-headless", "av")


@dataclass(frozen=True)
class Table:
    """One table: a heading, a sentence on what was done, columns and rows of text."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Report:
    """What one benchmark found.

    Attributes:
        name: of the files in the results folder.
        title: heading of the page.
        figures: plain data for the JSON file.
        tables: for the page.
        command: that makes it; empty for ``python -m benchmarks NAME``.
    """

    name: str
    title: str
    figures: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    command: str = ""


def describe_machine() -> dict[str, Any]:
    """Returns what the figures depend on, the load of the machine at this moment included."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": cpu_model(),
        "processors": cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "load_average": None if load is None else round(load, 2),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": packages,
    }


def write_report(report: Report, bundle: Bundle, *, folder: Path = RESULTS) -> None:
    """Writes ``<name>.json`` and ``<name>.md``."""
    machine = describe_machine()
    model = {"model_id": bundle.manifest.model_id, "manifest_sha256": bundle.manifest_sha256}
    folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "bundle": model, "figures": report.figures}
    (folder / f"{report.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / f"{report.name}.md").write_text(markdown(report, machine, model), encoding="utf-8")


def markdown(report: Report, machine: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Returns the page of a report."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    lines = [
        f"# {report.title}",
        "",
        f"{machine['date']}, model `{model['model_id']}` (manifest {model['manifest_sha256'][:12]}), "
        f"{machine['processors']} processors: {machine['cpu']}; {machine['memory_gb']} GB, "
        f"{machine['system']}, load average {machine['load_average']} at the end; "
        f"Python {machine['python']}, {packages}. "
        f"Made by `{report.command or f'python -m benchmarks {report.name}'}`.",
    ]
    for table in report.tables:
        lines += ["", f"## {table.title}", "", table.note, "", *markdown_table(table.columns, table.rows)]
    return "\n".join(lines) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table; columns of figures are right-aligned."""
    rule = []
    for place in range(len(columns)):
        cells = [row[place] for row in rows if row[place]]
        rule.append("---:" if place and all(cell[0] in "-0123456789" for cell in cells) else "---")
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]
