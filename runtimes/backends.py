"""Every place where engines run, best first: whether it can be used here, for what, and what it needs."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from edgeemo.bundle import Bundle, GraphFile
from edgeemo.errors import BackendError, MissingDependencyError
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.cuda import installed_packages
from edgeemo.runtimes.driver import driver_trouble
from edgeemo.runtimes.gpu import gpu_facts
from edgeemo.runtimes.ort import OrtRunner, onnxruntime_version
from edgeemo.runtimes.ort_bound import BoundOrtRunner
from edgeemo.runtimes.ort_providers import CUDA, OPENVINO, ORT_TENSORRT, provider_trouble
from edgeemo.runtimes.trt_library import RTX, TENSORRT, TITLES, is_installed, load_library

STEM = "stem."
CPU = "cpu"


class Backend(ABC):
    """A place where engines run.

    Attributes:
        name: as options name it.
        variants: what may run there, best first.
        builds: whether an engine needs something that takes long to build.
        host: whether the CPU computes.
        asked_only: whether it is used only where it is asked for by name, never by "auto".
    """

    name: str
    variants: tuple[str, ...]
    builds: bool = False
    host: bool = False
    asked_only: bool = False

    @abstractmethod
    def why_not(self) -> str:
        """Says why it cannot be used on this machine; empty where nothing is known against it.

        Asked often, so it answers from what is installed and from the driver, and runs no engine.
        """

    def machine(self) -> str:
        """Returns what the speed of an engine depends on there beside the CPU; empty on the CPU."""
        return ""

    def variant_of(self, variants: Collection[str]) -> str | None:
        """Returns which of a stem's or engine's variants runs there best; None where none does."""
        return next((variant for variant in self.variants if variant in variants), None)

    def is_prepared(self, bundle: Bundle, name: str, variant: str) -> bool:
        """Tells whether it can be opened at once: there is nothing to build, or it was built before."""
        return True

    def prepare_command(self, bundle: Bundle, name: str, variant: str) -> Sequence[str]:
        """Returns the program that builds what opening needs, in a process of low priority.

        Raises:
            BackendError: there is nothing to build for this backend.
        """
        raise BackendError(f"{self.name} opens {name} as it is; nothing has to be built")

    def open(
        self, bundle: Bundle, name: str, variant: str, *, threads: int = 1, build: bool = False
    ) -> Runner:
        """Opens an engine or stem.

        Args:
            bundle: where it comes from.
            name: a subset or ``stem.<modality>``.
            variant: one that the bundle has.
            threads: of each call, where the host computes.
            build: build what is missing first, which may take minutes; False refuses instead.

        Raises:
            BackendError: it cannot be opened here; the message says why.
            MissingDependencyError: a library is missing.
        """
        return self.open_graph(read_graph(bundle, name, variant), name, variant, threads=threads, build=build)

    @abstractmethod
    def open_graph(self, graph: GraphFile, name: str, variant: str, *, threads: int, build: bool) -> Runner:
        """Opens a graph; see `open`."""


class _CpuBackend(Backend):
    """onnxruntime on the CPU, which is always there."""

    name = CPU
    variants = ("fp32", "int8", "fp16")
    host = True

    def why_not(self) -> str:
        return ""

    def open_graph(self, graph: GraphFile, name: str, variant: str, *, threads: int, build: bool) -> Runner:
        return OrtRunner(graph, engine=name, variant=variant, threads=threads)


class _OrtBackend(Backend):
    """One of onnxruntime's accelerators."""

    variants = ("fp16", "fp32")

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = name == OPENVINO
        self.asked_only = name == ORT_TENSORRT
        if name == ORT_TENSORRT:
            self.variants = ("fp16", "int8-trt")

    def why_not(self) -> str:
        return provider_trouble(self.name)

    def machine(self) -> str:
        return (
            ""
            if self.host or not installed_packages()
            else f"{gpu_facts()}, onnxruntime {onnxruntime_version()}"
        )

    def open_graph(self, graph: GraphFile, name: str, variant: str, *, threads: int, build: bool) -> Runner:
        return BoundOrtRunner(graph, backend=self.name, engine=name, variant=variant, threads=threads)


class _TrtBackend(Backend):
    """TensorRT or TensorRT for RTX; each engine needs a plan that was built for this GPU."""

    variants = ("int8-trt", "fp16")
    builds = True

    def __init__(self, name: str) -> None:
        self.name = name

    def why_not(self) -> str:
        if not is_installed(self.name):
            return f"{TITLES[self.name]} is not installed"
        return driver_trouble(ours=True)

    def machine(self) -> str:
        return f"{gpu_facts()}, {load_library(self.name)!r}"

    def is_prepared(self, bundle: Bundle, name: str, variant: str) -> bool:
        from edgeemo.runtimes.plans.source import source_for_gpu
        from edgeemo.runtimes.plans.store import PlanCache

        try:
            graph = read_graph(bundle, name, variant)
            source = source_for_gpu(self.name, graph, gpu_facts(), engine=name, variant=variant)
        except (BackendError, MissingDependencyError):
            return False
        return PlanCache().find(source.key(), any_options=True)[0] is not None

    def prepare_command(self, bundle: Bundle, name: str, variant: str) -> Sequence[str]:
        program = (sys.executable, "-m", "edgeemo.runtimes.plans.child")
        return (*program, self.name, str(bundle.path), bundle.manifest_sha256, name, variant)

    def open_graph(self, graph: GraphFile, name: str, variant: str, *, threads: int, build: bool) -> Runner:
        from edgeemo.runtimes.plans.opening import open_plan

        return open_plan(self.name, graph, engine=name, variant=variant, build=build)


CHAIN: tuple[Backend, ...] = (
    _TrtBackend(TENSORRT),
    _TrtBackend(RTX),
    _OrtBackend(CUDA),
    _OrtBackend(ORT_TENSORRT),
    _OrtBackend(OPENVINO),
    _CpuBackend(),
)
"""In the order in which "auto" prefers them."""


def backend_named(name: str) -> Backend:
    """Returns the backend of a name.

    Raises:
        BackendError: there is none; the message lists those there are.
    """
    for backend in CHAIN:
        if backend.name == name:
            return backend
    names = ", ".join(("auto", *(backend.name for backend in CHAIN)))
    raise BackendError(f"unknown backend {name!r}; choose one of: {names}")


def better_than(name: str) -> tuple[Backend, ...]:
    """Returns the backends that a session may move up to, best first.

    OpenVINO is not among them: it computes on the same CPU, so "auto" times it against the other and
    takes the faster one at once.
    """
    names = [backend.name for backend in CHAIN]
    return tuple(
        backend for backend in CHAIN[: names.index(name)] if not backend.host and not backend.asked_only
    )


def read_graph(bundle: Bundle, name: str, variant: str) -> GraphFile:
    """Returns a variant of an engine or stem, verified.

    Args:
        bundle: where it lies.
        name: a subset or ``stem.<modality>``.
        variant: one that the bundle has.
    """
    if name.startswith(STEM):
        return bundle.read_stem(name.removeprefix(STEM), variant)
    return bundle.read_engine(name, variant)
