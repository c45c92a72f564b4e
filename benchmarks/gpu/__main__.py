"""``benchmarks/gpu/run.sh``: measures what runs here, and says what does not and why.

Writes ``benchmarks/gpu/results.{json,md}``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu import tables
from benchmarks.gpu.child import LIMIT_S, NOT_MEASURED, Found, not_measured, run_task
from benchmarks.gpu.memory_paths import PACKAGES
from benchmarks.gpu.stand_in import NAME as STAND_IN
from benchmarks.report import Report, write_report
from edgeemo.bundle import Bundle
from edgeemo.doctor.libraries import installed_versions
from edgeemo.doctor.machine import ask_gpus
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.backends import CHAIN, CPU
from edgeemo.shipped import DEFAULT_BUNDLE

HERE = Path(__file__).resolve().parent
CHECKPOINT = HERE.parents[1] / "samples" / "checkpoints" / "live"
SECTIONS = ("paths", "engines", "memory", "first", "plans", "swap")


class Bench:
    """The sections, each a list of rows from processes of their own.

    Args:
        bundle: its folder.
        calls: timed calls of each kind.
        pythons: backend or package -> interpreter that has its libraries.
    """

    def __init__(self, bundle: Path, *, calls: int, pythons: dict[str, str]) -> None:
        self.bundle, self._calls, self._pythons = bundle, calls, pythons
        self._opened = Bundle.open(bundle)

    def backends(self) -> dict[str, Found]:
        """What the interpreter of each backend finds here."""
        return {place.name: self._run("look", place.name, {"backend": place.name}) for place in CHAIN}

    def paths(self) -> list[Found]:
        """Memory paths, by package."""
        return [
            {
                "package": package,
                **self._run("memory path", package, {"package": package, "calls": self._calls}, cuda=package),
            }
            for package in PACKAGES
        ]

    def engines(self) -> list[Found]:
        """Every engine and stem, in every variant that a backend takes, by backend."""
        rows: list[Found] = []
        for place in CHAIN:
            trouble = ""
            for name, variants in self._parts():
                takes = (
                    variants if place.name == CPU else [each for each in place.variants if each in variants]
                )
                for variant in takes or place.variants[:1]:
                    row: Found = {"backend": place.name, "engine": name, "variant": variant}
                    if not takes:
                        found = not_measured(f"this bundle has it in {', '.join(variants)}")
                    elif trouble:
                        found = not_measured(trouble)
                    else:
                        given = {
                            "backend": place.name,
                            "name": name,
                            "variant": variant,
                            "calls": self._calls,
                        }
                        found = self._run("engine", place.name, given)
                        trouble = str(found.get(NOT_MEASURED, ""))
                        trouble = "" if "process ended" in trouble else trouble
                    rows += [{**row, **each} for each in found.get("rows", [found])]
        return rows

    def memory(self) -> list[Found]:
        """Memory of one engine and of all, by backend and variant."""
        rows = []
        for place in CHAIN:
            variants = {each: None for files in self._opened.manifest.engines.values() for each in files}
            for variant in [each for each in place.variants if each in variants] or place.variants[:1]:
                row = {"backend": place.name, "variant": variant}
                if variant in variants:
                    row |= self._run("memory", place.name, row)
                else:
                    row |= not_measured(f"this bundle has engines in {', '.join(variants)}")
                rows.append(row)
        return rows

    def first(self) -> list[Found]:
        """Time to the first reading, by backend."""
        names = (*(place.name for place in CHAIN), "auto", STAND_IN)
        return [{"backend": name, **self._run("first reading", name, {"backend": name})} for name in names]

    def plans(self) -> Found:
        """Plans for laptop GPUs."""
        return self._run("plans", "rtx", {})

    def swap(self) -> list[Found]:
        """A live session that moves, by backend."""
        names = (STAND_IN, *(place.name for place in CHAIN if not place.host))
        return [
            {"backend": name, **self._run("swap", name, {"backend": name, "limit_s": LIMIT_S / 3})}
            for name in names
        ]

    def _run(self, task: str, who: str, given: dict[str, Any], *, cuda: str = "") -> Found:
        if task == "first reading":
            given = {**given, "begun": time.perf_counter()}
        return run_task(
            task,
            {"bundle": str(self.bundle), **given},
            python=self._pythons.get(who, sys.executable),
            environment={"EDGEEMO_CUDA": cuda} if cuda else None,
        )

    def _parts(self) -> Iterator[tuple[str, list[str]]]:
        manifest = self._opened.manifest
        for name in manifest.order:
            yield f"stem.{name}", list(manifest.stems[name])
        for name, files in manifest.engines.items():
            yield name, list(files)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu/run.sh", description=__doc__)
    parser.add_argument(
        "--bundle",
        type=Path,
        help="default: the checkpoint that ships, exported in all variants; without the exporter's libraries "
        "the bundle that ships",
    )
    parser.add_argument("--calls", type=int, default=500, metavar="N", help="timed calls of each kind")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="default: everything")
    parser.add_argument("--out", type=Path, default=HERE, help="default: benchmarks/gpu")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="interpreter for a backend or package whose libraries are in another environment; repeatable",
    )
    args = parser.parse_args(words)
    logging.disable(logging.WARNING)
    pythons = dict(each.split("=", 1) for each in args.python)
    with tempfile.TemporaryDirectory() as folder, _own_cache(Path(folder) / "cache"):
        try:
            path, exported = _find_bundle(args.bundle, Path(folder))
            figures = _measure(Bench(path, calls=args.calls, pythons=pythons), args.only, exported)
            report = Report(
                "results",
                "Accelerators: what runs here, and what does not",
                figures,
                tables.make_tables(figures),
                "benchmarks/gpu/run.sh",
            )
            write_report(report, Bundle.open(path), folder=args.out)
        except EdgeEmoError as error:
            print(f"benchmarks.gpu: {error}", file=sys.stderr)
            return 1
    print((args.out / "results.md").read_text(encoding="utf-8"))
    return 0


def _measure(bench: Bench, only: Sequence[str], exported: str) -> dict[str, Any]:
    gpus, why = ask_gpus()
    figures: dict[str, Any] = {
        "gpus": gpus or [why],
        "libraries": installed_versions(),
        "bundle": exported,
        "backends": bench.backends(),
    }
    for section in SECTIONS:
        if section in only:
            print(f"{section} ...", file=sys.stderr, flush=True)
            figures[section] = getattr(bench, section)()
        else:
            figures[section] = not_measured("not asked for")
    return figures


def _find_bundle(asked: Path | None, folder: Path) -> tuple[Path, str]:
    """Returns what to measure, and which that is in words."""
    if asked is not None:
        return asked, "the one that was asked for"
    try:
        from edgeemo.export import VARIANTS, export_bundle

        print("exporting in all variants ...", file=sys.stderr, flush=True)
        found = export_bundle(CHECKPOINT, folder / "bundle", variants=VARIANTS).bundle
    except (ImportError, EdgeEmoError) as error:
        return DEFAULT_BUNDLE, f"the one that ships, as the checkpoint was not exported: {error}"
    return Path(found), f"samples/checkpoints/live exported as {', '.join(VARIANTS)}"


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """Keeps plans and timings of other runs away from this one, and those of this one from the user."""
    before = os.environ.get("EDGEEMO_CACHE")
    os.environ["EDGEEMO_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["EDGEEMO_CACHE"]
        else:
            os.environ["EDGEEMO_CACHE"] = before


if __name__ == "__main__":
    sys.exit(main())
