"""From a bundle's graph to a runner on the GPU, by way of a plan that is there or is built."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from edgeemo.bundle import GraphFile
from edgeemo.errors import BackendError
from edgeemo.runtimes.choose import typical_feed
from edgeemo.runtimes.gpu import gpu_facts
from edgeemo.runtimes.plans.build import BuildOptions
from edgeemo.runtimes.plans.key import capability_name, sm_name
from edgeemo.runtimes.plans.progress import OnStep
from edgeemo.runtimes.plans.sealed import read_sealed, write_sealed
from edgeemo.runtimes.plans.source import source_for_gpu
from edgeemo.runtimes.plans.store import KERNELS, PlanCache
from edgeemo.runtimes.trt import TrtRunner
from edgeemo.runtimes.trt_library import TITLES, is_installed, load_library

log = logging.getLogger(__name__)
_SLOW = "minutes on a Jetson, seconds on a laptop; once"


def open_plan(
    flavour: str,
    graph: GraphFile,
    *,
    engine: str,
    variant: str,
    build: bool,
    options: BuildOptions | None = None,
    cuda_graph: bool = True,
    cache: PlanCache | None = None,
    on_step: OnStep | None = None,
    stop: threading.Event | None = None,
) -> TrtRunner:
    """Returns an engine opened on TensorRT, warmed.

    Args:
        flavour: ``tensorrt`` or ``rtx``.
        graph: of a bundle.
        engine: its name.
        variant: of the graph.
        build: build the plan where there is none; False refuses instead.
        options: workspace, accelerator, effort; None for those of whatever plan is there.
        cuda_graph: as `TrtRunner`.
        cache: where plans lie; None for the user's.
        on_step: told how far a build is.
        stop: cancels a build.

    Raises:
        MissingDependencyError: TensorRT, or what speaks to the driver, is not installed.
        BackendError: no GPU, no plan, or one that cannot be built or opened; the message says why.
    """
    if not is_installed(flavour):
        load_library(flavour)  # says how to install it
    facts = gpu_facts()  # before it is loaded: without a driver nobody waits for that
    source = source_for_gpu(flavour, graph, facts, engine=engine, variant=variant, options=options)
    cache = cache or PlanCache()
    wanted = source.key()
    opened, rejected = cache.find(wanted, any_options=options is None)
    if opened is None:
        if not build:
            why = rejected or "none was built yet"
            raise BackendError(
                f"no plan of {engine} ({variant}) for {facts.name} ({facts.sm}): {why}. "
                f"`edgeemo build BUNDLE --backend {flavour}` makes it"
            )
        log.warning(
            "building the %s plan of %s (%s) for %s: %s%s",
            TITLES[flavour],
            engine,
            variant,
            facts.name,
            _SLOW,
            f" ({rejected})" if rejected else "",
        )
        timing = cache.folder / f"{flavour}-{source.library.version}-{facts.sm}.timing"

        def make() -> tuple[bytes, float]:
            built = source.build(timing=timing, on_step=on_step, stop=stop)
            return built.plan, built.seconds

        opened = cache.find_or_build(wanted, engine, make, stop=stop)
    plan_name = (opened.path or cache.path_of(wanted, engine)).stem
    place = cache.folder / f"{plan_name}.{sm_name(capability_name(facts.capability))}{KERNELS}"
    known = b""
    with suppress(BackendError):
        known = bytes(read_sealed(place)[1])
    dla = None if opened.key.dla < 0 else opened.key.dla
    runner = TrtRunner(
        source.library,
        opened.plan,
        engine=engine,
        variant=variant,
        cuda_graph=cuda_graph,
        kernels=known,
        dla=dla,
    )
    try:
        for _ in range(3):  # kernels load, and the graph is recorded, before the first hop
            runner.run(typical_feed(runner.inputs))
        compiled = runner.compiled_kernels()
    except BackendError:
        runner.close()
        raise
    if compiled and compiled != known:
        with suppress(OSError):  # costs only the next start's time
            write_sealed(place, {"gpu": facts.name, "version": source.library.version}, compiled)
    return runner
