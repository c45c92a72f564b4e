"""``edgeemo doctor``: what this machine is, what works on it, what to do about the rest."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.options.values import seconds
from edgeemo.cli.show.progress import progress_bar
from edgeemo.doctor import Report, examine
from edgeemo.shipped import DEFAULT_BUNDLE


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "doctor",
        about="Really runs an engine on every backend, each in a process of its own, and compares its "
        "answers with those that the bundle keeps. The report holds nothing private: paste it into a "
        "bug report.",
        examples=(
            ("doctor", "the report for a person, with what to do at its end"),
            ("doctor --bundle bundles/mine --json", "the same of a bundle of yours, for a program"),
        ),
        exit_codes={1: "no engine runs on any backend, or the bundle cannot be read"},
    )
    parser.add_argument("--bundle", metavar="DIR", help="bundle to try; default: the one that ships")
    parser.add_argument(
        "--limit", type=seconds, default=120.0, metavar="S", help="seconds that a backend may take (120)"
    )
    add_json_option(parser, "doctor")


def run(args: argparse.Namespace) -> int:
    """Prints the report; the exit code is 1 where no engine runs on any backend."""
    bundle = Path(args.bundle) if args.bundle else DEFAULT_BUNDLE
    with progress_bar("examining") as advance:
        report = examine(bundle, limit_s=args.limit, say=lambda step, done, steps: advance(done, steps))
    print(json.dumps(report.to_json(), indent=2) if args.json else "\n".join(lines_from_report(report)))
    return 0 if report.works else 1


def lines_from_report(report: Report) -> list[str]:
    """Returns the report for a person, findings last, where a terminal leaves the eye."""
    lines: list[str] = []
    for title, facts in (
        ("machine", report.machine),
        ("libraries", report.libraries),
        ("sensors", report.sensors),
        ("places", report.places),
    ):
        lines += [f"{title}:", *(f"  {name}: {value}" for name, value in facts.items())]
    lines.append("backends, each with an engine really run:")
    for trial in report.backends:
        sign = "●" if trial.works else "✕"
        speed = "" if trial.median_ms is None else f" ({trial.median_ms:.2f} ms a call)"
        lines.append(f"  {sign} {trial.backend}: {trial.detail}{speed}")
    for finding in report.findings:
        lines += [f"{finding.severity}: {finding.what}", f"  do: {finding.do}"]
    return lines if report.findings else [*lines, "nothing to do"]
