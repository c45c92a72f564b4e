"""What a plan is made of: a bundle's graph, a TensorRT and GPUs, which give its key and its build."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edgeemo.bundle import GraphFile
from edgeemo.bundle.outline import outline_from_model
from edgeemo.errors import BackendError
from edgeemo.runtimes.gpu import GpuFacts
from edgeemo.runtimes.plans.build import VARIANTS, BuildOptions, BuiltPlan, build_plan, profile_shapes
from edgeemo.runtimes.plans.key import PlanKey, capability_name, profile_name
from edgeemo.runtimes.plans.progress import OnStep
from edgeemo.runtimes.plans.sealed import read_sealed, write_sealed
from edgeemo.runtimes.trt_library import RTX, TENSORRT, TITLES, Library, load_library


@dataclass(frozen=True, eq=False)
class PlanSource:
    """What one plan is made of.

    Attributes:
        library: which TensorRT.
        model: the graph with its weights.
        engine: its name.
        variant: ``fp16`` or ``int8-trt``.
        capabilities: compute capabilities that it is for.
        gpu: name of the GPU that full TensorRT tunes it for; empty for TensorRT for RTX.
        options: workspace, accelerator, effort.
    """

    library: Library
    model: bytes
    engine: str
    variant: str
    capabilities: tuple[tuple[int, int], ...]
    gpu: str = ""
    options: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise BackendError(
                f"{self.engine}: {TITLES[self.library.flavour]} does not run the variant {self.variant}; "
                f"export the bundle with one of: {', '.join(VARIANTS)}"
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input at batch 1."""
        return profile_shapes({value.name: value.shape for value in outline_from_model(self.model).inputs})

    def key(self) -> PlanKey:
        """Returns what the plan depends on."""
        options = self.options
        return PlanKey(
            engine_sha256=hashlib.sha256(self.model).hexdigest(),
            flavour=self.library.flavour,
            version=self.library.version,
            gpu=self.gpu,
            capabilities=tuple(capability_name(each) for each in self.capabilities),
            precision=self.variant,
            profile=profile_name(self.shapes),
            workspace_mb=options.workspace_mb,
            dla=-1 if options.dla is None else options.dla,
            level=-1 if options.level is None else options.level,
        )

    def build(
        self,
        *,
        timing: Path | None = None,
        on_step: OnStep | None = None,
        stop: threading.Event | None = None,
    ) -> BuiltPlan:
        """Builds the plan.

        Args:
            timing: file that carries over what was learned about kernels; None to learn nothing.
            on_step: told how far the build is.
            stop: set it from another thread to cancel.

        Raises:
            BackendError: as `build_plan`.
        """
        learned = b""
        if timing is not None and self.library.flavour == TENSORRT:
            with suppress(BackendError):
                learned = bytes(read_sealed(timing)[1])
        built = build_plan(
            self.library,
            self.model,
            engine=self.engine,
            shapes=self.shapes,
            capabilities=self.capabilities if self.library.flavour == RTX else (),
            options=self.options,
            timing_cache=learned,
            on_step=on_step,
            stop=stop,
        )
        if timing is not None and built.timing_cache and built.timing_cache != learned:
            with suppress(OSError):  # costs only the next build's time
                write_sealed(timing, {"gpu": self.gpu, "version": self.library.version}, built.timing_cache)
        return built


def source_for_gpu(
    flavour: str,
    graph: GraphFile,
    facts: GpuFacts,
    *,
    engine: str,
    variant: str,
    options: BuildOptions | None = None,
) -> PlanSource:
    """Returns what the plan of a graph for a GPU is made of.

    Raises:
        MissingDependencyError: that TensorRT is not installed.
        BackendError: it cannot be loaded, or does not serve this variant or GPU.
    """
    library = load_library(flavour)
    if flavour == RTX and not hasattr(library.module.ComputeCapability, "SM{}{}".format(*facts.capability)):
        raise BackendError(
            f"{TITLES[RTX]} {library.version} does not run on {facts.name} ({facts.sm}): it is made for "
            "GeForce and RTX cards; use backend='tensorrt' or 'cuda'"
        )
    return PlanSource(
        library,
        graph.self_contained(),
        engine,
        variant,
        (facts.capability,),
        facts.name if flavour == TENSORRT else "",
        options or BuildOptions(),
    )
