"""``edgeemo build``: TensorRT plans ahead of time, here or for GPUs that are elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.show.progress import phase_bar

if TYPE_CHECKING:
    from edgeemo.bundle import Bundle, GraphFile

CANCELLED = 130


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "build",
        about="A plan belongs to one version of the library and to a GPU, or with TensorRT for RTX to a set "
        "of compute capabilities. Sessions find plans in the user's cache and in the folder that "
        "EDGEEMO_PLANS names. Ctrl-C stops at once; plans that were finished stay.",
        examples=(
            ("build --backend tensorrt", "for the GPU that is here"),
            (
                "build bundles/live --backend rtx --sm 86 89 120 --out plans",
                "for other machines, on one without a GPU",
            ),
        ),
    )
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="default: the one that ships")
    parser.add_argument("--backend", required=True, choices=("tensorrt", "rtx"), help="which TensorRT")
    parser.add_argument(
        "--sm",
        nargs="+",
        metavar="N",
        type=_capability,
        help="compute capabilities to build for, such as 86 89 120 (rtx alone, and then no GPU is needed); "
        "default: the GPU that is here",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the plans; default: the user's cache")
    parser.add_argument(
        "--variant",
        default="auto",
        metavar="V",
        help="fp16, int8-trt, or auto: each of these that the bundle has (default)",
    )
    parser.add_argument("--subset", action="append", metavar="S", help="only this subset; repeatable")
    parser.add_argument(
        "--workspace-mb", type=int, default=0, metavar="MB", help="memory that a layer may use (default: any)"
    )
    parser.add_argument(
        "--dla", type=int, metavar="N", help="core of the deep learning accelerator of a Jetson"
    )
    parser.add_argument("--level", type=int, metavar="N", help="effort from 0 to 5 (default: the library's)")
    add_json_option(parser, "build", a_line=True)


def run(args: argparse.Namespace) -> int:
    """Builds what is not there yet and prints one line for each plan."""
    from edgeemo.bundle import Bundle
    from edgeemo.errors import BackendError
    from edgeemo.runtimes.plans.build import BuildOptions
    from edgeemo.runtimes.plans.key import sm_name
    from edgeemo.runtimes.plans.progress import BuildStep
    from edgeemo.runtimes.plans.source import PlanSource
    from edgeemo.runtimes.plans.store import PlanCache
    from edgeemo.runtimes.trt_library import TENSORRT, load_library
    from edgeemo.shipped import DEFAULT_BUNDLE

    bundle = Bundle.open(args.bundle or DEFAULT_BUNDLE)
    parts = list(_parts(bundle, args.subset, args.variant))
    library = load_library(args.backend)
    gpu = ""
    capabilities = tuple(dict.fromkeys(args.sm or ()))
    if not capabilities:
        capabilities, name = _this_gpu(args.backend)
        gpu = name if args.backend == TENSORRT else ""
    options = BuildOptions(args.workspace_mb, args.dla, args.level)
    cache = PlanCache() if args.out is None else PlanCache(Path(args.out), brought=(), limit_mb=float("inf"))
    with _own_stdout() as out, phase_bar(f"building {len(parts)} plans") as show, _interruptible() as stop:
        for number, (engine, variant, graph) in enumerate(parts):
            source = PlanSource(library, graph.self_contained(), engine, variant, capabilities, gpu, options)

            def tell(step: BuildStep, number: int = number, engine: str = engine) -> None:
                show((number + step.fraction) / len(parts), f"{engine}: {step.phase}")

            show(number / len(parts), engine)
            key = source.key()
            timing = cache.folder / f"{args.backend}-{library.version}-{sm_name(key.capabilities[0])}.timing"

            def make(
                source: PlanSource = source, timing: Path = timing, tell: Any = tell
            ) -> tuple[bytes, float]:
                built = source.build(timing=timing, on_step=tell, stop=stop)
                return built.plan, built.seconds

            try:
                opened = cache.find_or_build(key, engine, make, stop=stop)
            except BackendError:
                if stop.is_set():
                    print("cancelled; plans that were finished stay", file=sys.stderr)
                    return CANCELLED
                raise
            if opened.path is None:
                raise BackendError(opened.trouble)
            line = {
                "engine": engine,
                "variant": variant,
                "backend": args.backend,
                "version": library.version,
                "capabilities": list(key.capabilities),
                "gpu": gpu,
                "path": str(opened.path),
                "bytes": len(opened.plan),
                "seconds": opened.seconds,
            }
            if args.json:
                print(json.dumps(line), file=out, flush=True)
            else:
                took = "was there" if opened.seconds is None else f"built in {opened.seconds:.1f} s"
                print(
                    f"{engine:<18} {variant:<8} {len(opened.plan) / 1e6:6.1f} MB  {took}",
                    file=out,
                    flush=True,
                )
    if not args.json:
        built_for = ", ".join(sm_name(f"{major}.{minor}") for major, minor in capabilities)
        print(f"{len(parts)} plans for {gpu or built_for} in {cache.folder}")
        if args.out is not None:
            print(f"On the device: export EDGEEMO_PLANS={cache.folder}")
    return 0


def _capability(text: str) -> tuple[int, int]:
    """Parses ``86``, ``8.6``, ``sm_86`` or ``120``."""
    digits = text.lower().removeprefix("sm_").removeprefix("sm").replace(".", "")
    if not digits.isdecimal() or not 2 <= len(digits) <= 3:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no compute capability; such as 86 for 8.6, 120 for 12.0"
        )
    return int(digits[:-1]), int(digits[-1])


def _parts(bundle: Bundle, subsets: list[str] | None, variant: str) -> Iterator[tuple[str, str, GraphFile]]:
    """Yields name, variant and graph of everything that is to be built: stems first, as all need them."""
    from edgeemo.errors import BackendError, SubsetError
    from edgeemo.modality import parse_subset, subset_members
    from edgeemo.runtimes.plans.build import VARIANTS

    manifest = bundle.manifest
    wanted = [parse_subset(each, manifest.order) for each in subsets] if subsets else list(manifest.engines)
    if missing := [each for each in wanted if each not in manifest.engines]:
        have = ", ".join(manifest.engines)
        raise SubsetError(f"no engine for {', '.join(missing)} in this bundle; it has: {have}")
    used = [name for name in manifest.order if any(name in subset_members(each) for each in wanted)]
    chosen = VARIANTS if variant == "auto" else (variant,)
    named = [(f"stem.{name}", manifest.stems[name]) for name in used]
    named += [(each, manifest.engines[each]) for each in wanted]
    for name, files in named:
        there = [each for each in chosen if each in files]
        if not there:
            raise BackendError(
                f"{name} has no variant {' or '.join(chosen)} in this bundle, which TensorRT needs; it has: "
                f"{', '.join(files)}. Export it with --variant fp16 --variant int8-trt"
            )
        for each in there:
            yield name, each, bundle.read_graph(files[each])


def _this_gpu(backend: str) -> tuple[tuple[tuple[int, int], ...], str]:
    """Returns capability and name of the GPU that is here.

    Raises:
        BackendError: there is none; for TensorRT for RTX the message says how to do without.
    """
    from edgeemo.errors import BackendError, MissingDependencyError
    from edgeemo.runtimes.gpu import gpu_facts

    try:
        facts = gpu_facts()
    except (BackendError, MissingDependencyError) as error:
        if backend == "rtx":
            raise BackendError(
                f"{error}. To build for other GPUs name them, such as --sm 86 89 120"
            ) from None
        raise
    return (facts.capability,), facts.name


@contextmanager
def _own_stdout() -> Iterator[TextIO]:
    """Yields where to print: TensorRT's compiler writes warnings of its own to stdout; they go to stderr."""
    try:
        shared = sys.stdout.fileno() == 1
    except (OSError, ValueError):
        shared = False  # somebody has put another stream in its place
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        if not shared:
            yield sys.stdout
        else:
            with os.fdopen(os.dup(kept), "w", encoding=sys.stdout.encoding, errors="replace") as out:
                yield out
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C sets: an exception would be lost inside TensorRT's callbacks."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
