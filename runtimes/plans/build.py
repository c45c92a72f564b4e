"""From a bundle's graph to a TensorRT plan: strongly typed, batch 1, for this GPU or for several."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeemo.errors import BackendError, InputError
from edgeemo.runtimes.plans.progress import OnStep, Progress, make_monitor
from edgeemo.runtimes.trt_library import RTX, TENSORRT, TITLES, Library, explained

log = logging.getLogger(__name__)
VARIANTS = ("int8-trt", "fp16")
"""What TensorRT may run: the others need operators or quantization that it does not read."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class BuildOptions:
    """What a plan depends on beside the graph, the library and the GPU.

    Attributes:
        workspace_mb: memory that a layer may use while it runs; 0 for the library's own limit.
        dla: core of the deep learning accelerator to use (Jetson Orin and Xavier), or None. Layers that it
            cannot run stay on the GPU.
        level: how long to search for fast kernels, 0 to 5; None for the library's default.
    """

    workspace_mb: int = 0
    dla: int | None = None
    level: int | None = None

    def __post_init__(self) -> None:
        if self.workspace_mb < 0 or (self.dla is not None and self.dla < 0):
            raise InputError(f"workspace_mb and dla must be at least 0, got {self.workspace_mb}, {self.dla}")
        if self.level is not None and not 0 <= self.level <= 5:
            raise InputError(f"level must be between 0 and 5, got {self.level}")


@dataclass(frozen=True)
class BuiltPlan:
    """A serialized engine.

    Attributes:
        plan: its bytes.
        seconds: what the build took.
        timing_cache: what the library learned about kernels, for the next build; may be empty.
    """

    plan: bytes
    seconds: float
    timing_cache: bytes


def build_plan(
    library: Library,
    model: bytes,
    *,
    engine: str,
    shapes: Shapes,
    capabilities: tuple[tuple[int, int], ...] = (),
    options: BuildOptions | None = None,
    timing_cache: bytes = b"",
    on_step: OnStep | None = None,
    stop: threading.Event | None = None,
) -> BuiltPlan:
    """Returns the plan of a graph.

    The network is strongly typed: types are those of the graph, so ``fp16`` and ``int8-trt`` variants run
    as they were checked, and no precision flag (removed in TensorRT 11) is needed.

    Args:
        library: which TensorRT.
        model: a self-contained ONNX model.
        engine: its name, for messages.
        shapes: the shape of each input (see `profile_shapes`); the plan takes no other.
        capabilities: compute capabilities of the GPUs that it is for, (8, 9): TensorRT for RTX alone can
            build for others than the one that is here. Empty: the GPU that is here.
        options: workspace, accelerator, effort.
        timing_cache: of an earlier build with this library on this GPU; full TensorRT alone uses it.
        on_step: told how far the build is.
        stop: set it from another thread to cancel.

    Raises:
        BackendError: the graph or the machine does not allow it, in the library's own words; or `stop`
            was set.
    """
    options = options or BuildOptions()
    trt, words = library.module, library.logger.words
    words.take()
    began = time.monotonic()

    def refuse(what: str, why: str) -> BackendError:
        return BackendError(f"{engine}: {TITLES[library.flavour]} {library.version} {what}: {why}")

    try:
        builder = trt.Builder(library.logger)
    except TypeError:  # that is how the bindings say that the library gave nothing, as without a driver
        raise refuse("cannot build here", explained(words.take())) from None
    # From TensorRT 11 on every network is strongly typed, so the flag may be gone one day.
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(model):
        said = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        words.take()
        raise refuse("does not read this graph", "; ".join(dict.fromkeys(said)) or "no reason given")
    config = builder.create_builder_config()
    config.add_optimization_profile(_make_profile(builder, network, engine, shapes))
    _set_capabilities(library, config, capabilities)
    if options.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if options.dla is not None:
        _use_dla(library, builder, config, options.dla)
    learns = library.flavour == TENSORRT  # in TensorRT for RTX timing caches do nothing and are deprecated
    if learns:
        _learn_from(config, timing_cache)
    progress = Progress(on_step, stop)
    monitor = make_monitor(library, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if progress.failure is not None:
        raise progress.failure
    if progress.cancelled:
        raise BackendError(f"{engine}: the build of its plan was cancelled")
    if plan is None:
        raise refuse("cannot build this engine", explained(words.take()))
    learned = config.get_timing_cache() if learns else None
    return BuiltPlan(
        bytes(plan), time.monotonic() - began, b"" if learned is None else bytes(learned.serialize())
    )


def profile_shapes(
    inputs: Mapping[str, tuple[int | str, ...]], lengths: Mapping[str, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each input at batch 1.

    Args:
        inputs: shapes as the graph declares them, words where the caller chooses.
        lengths: what each word stands for; "batch" is 1 where it is not named.

    Raises:
        InputError: a dimension that nothing gives a length for.
    """
    lengths = {"batch": 1, **(lengths or {})}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, declared in inputs.items():
        if unknown := [word for word in declared if isinstance(word, str) and word not in lengths]:
            raise InputError(
                f"input {name} has a dimension {unknown[0]!r} without a length; known: {', '.join(lengths)}"
            )
        shapes[name] = tuple(size if isinstance(size, int) else lengths[size] for size in declared)
    return shapes


def _make_profile(builder: Any, network: Any, engine: str, shapes: Shapes) -> Any:
    profile = builder.create_optimization_profile()
    names = [network.get_input(position).name for position in range(network.num_inputs)]
    if set(names) != set(shapes):
        raise InputError(
            f"{engine}: shapes are given for {', '.join(shapes)}; its inputs are {', '.join(names)}"
        )
    for name in names:
        profile.set_shape(name, shapes[name], shapes[name], shapes[name])
    return profile


def _learn_from(config: Any, timing_cache: bytes) -> None:
    """Gives a build what an earlier one learned; what another GPU or version learned is of no use."""
    try:
        cache = config.create_timing_cache(timing_cache)
        if cache is not None and config.set_timing_cache(cache, False):
            return
    except (RuntimeError, SystemError) as error:  # bytes that are no cache of this library
        log.info("the timing cache is of no use here and begins anew: %s", error)
    config.set_timing_cache(config.create_timing_cache(b""), False)


def _set_capabilities(library: Library, config: Any, wanted: tuple[tuple[int, int], ...]) -> None:
    if library.flavour != RTX:
        if not wanted:
            return
        raise BackendError(
            f"{TITLES[library.flavour]} builds for the GPU that is here and no other; leave --sm away, or "
            "build for laptop GPUs with --backend rtx"
        )
    known = library.module.ComputeCapability
    names = [f"SM{major}{minor}" for major, minor in wanted]
    if unknown := [name for name in names if not hasattr(known, name)]:
        have = [name for name in dir(known) if name.startswith("SM")]
        raise BackendError(
            f"{TITLES[RTX]} {library.version} builds no plans for {', '.join(unknown)}; it knows "
            f"{', '.join(have)} (it is made for GeForce and RTX cards; for Jetson and data-centre GPUs use "
            "--backend tensorrt there)"
        )
    names = names or ["CURRENT"]  # without one it would build for every generation at once
    config.num_compute_capabilities = len(names)
    for position, name in enumerate(names):
        config.set_compute_capability(getattr(known, name), position)


def _use_dla(library: Library, builder: Any, config: Any, core: int) -> None:
    trt = library.module
    cores = int(builder.num_DLA_cores) if library.flavour == TENSORRT else 0
    if core >= cores:
        raise BackendError(
            f"there is no DLA core {core} here: {TITLES[library.flavour]} {library.version} reports {cores}; "
            "leave dla away to use the GPU"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
