"""Engines on onnxruntime: threads, memory and providers are set, and read back, in this one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from os import PathLike, fspath
from types import ModuleType
from typing import Any

import numpy as np

from edgeemo.bundle import GraphFile
from edgeemo.errors import BackendError, InputError, MissingDependencyError
from edgeemo.runtimes.base import Array, Runner, Shape, TensorSpec
from edgeemo.runtimes.machine import needs_exact_int8

CPU_PROVIDER = "CPUExecutionProvider"
BACKEND_OF_PROVIDER = {
    CPU_PROVIDER: "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "ort-tensorrt",
    "OpenVINOExecutionProvider": "openvino",
}
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
FATAL = 4  # onnxruntime's log level: failures come as exceptions, nothing is printed beside them


@lru_cache(maxsize=1)
def load_onnxruntime() -> ModuleType:
    """Returns the onnxruntime module, imported on first use.

    Raises:
        MissingDependencyError: it is not installed, or its libraries cannot be loaded here.
    """
    try:
        import onnxruntime
    except (ImportError, OSError):
        raise MissingDependencyError(
            "running an engine", "onnxruntime", "pip install 'edgeemo[cpu]'"
        ) from None
    module: ModuleType = onnxruntime
    return module


def onnxruntime_version() -> str:
    """Returns the version of the onnxruntime that `OrtRunner` uses."""
    return str(load_onnxruntime().__version__)


class OrtRunner(Runner):
    """An engine opened in onnxruntime.

    One thread by default, and threads that wait sleep instead of spinning: on a device the hop leaves most
    of the time to others. The session takes memory as it needs it and gives it back (no arena): an arena
    keeps the memory of the largest call for ever, once for each open engine, and saves nothing in int8 and
    0.04 ms in fp32 on a trunk of the live size.

    Args:
        model: a graph of a bundle, the bytes of a self-contained model, or the path of an ONNX file.
        engine: the name to report.
        variant: the variant to report.
        threads: threads of one call.
        providers: onnxruntime's execution providers, most wanted first. The first must really be used:
            a session that silently fell back to another is refused.
        provider_options: of the first provider.
        arena: keep freed memory for the next call.
        share_weights: leave the tensors that a bundle's graphs share where they are, one copy for all
            engines that are open, instead of packing them for this engine's products: less memory,
            slower calls (see benchmarks/results/footprint.md).

    Attributes:
        providers: the execution providers that onnxruntime really uses, read back from the session.
        placement: provider -> nodes that really run on it, read back; empty on the CPU alone, and where
            onnxruntime is too old to tell (before 1.24).

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        BackendError: a provider is not available, or the engine cannot be opened.
        BundleError: bytes that point to data outside.
    """

    def __init__(
        self,
        model: GraphFile | bytes | str | PathLike[str],
        *,
        engine: str = "engine",
        variant: str = "fp32",
        threads: int = 1,
        providers: Sequence[str] = (CPU_PROVIDER,),
        provider_options: Mapping[str, str] | None = None,
        arena: bool = False,
        share_weights: bool = False,
    ) -> None:
        if threads < 1:
            raise InputError(f"threads must be at least 1, not {threads}")
        ort = load_onnxruntime()
        available = ort.get_available_providers()
        unknown = [provider for provider in providers if provider not in available]
        if unknown or not providers:
            raise BackendError(
                f"engine {engine} ({variant}): onnxruntime {ort.__version__} here has no "
                f"{', '.join(unknown) or 'provider to use'}; it has: {', '.join(available)}"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if needs_exact_int8():
            # Only there: with VNNI the fast products are exact, and this would double their time.
            options.add_session_config_entry("session.x64quantprecision", "1")
        options.log_severity_level = FATAL
        options.enable_cpu_mem_arena = arena
        options.add_session_config_entry(
            "session.record_ep_graph_assignment_info", "0" if providers[0] == CPU_PROVIDER else "1"
        )
        self._errors = _onnxruntime_errors()
        if isinstance(model, bytes):
            model = GraphFile(f"{engine} ({variant})", model)
        if isinstance(model, GraphFile):
            source: str | bytes = model.model
            # What is added is the only data that the graph points to, so onnxruntime opens no file.
            self._weights = {
                name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in model.tensors.items()
            }
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        else:
            source = fspath(model)
            self._weights = {}
        if share_weights:
            options.add_session_config_entry("session.disable_prepacking", "1")
            for name, value in self._weights.items():
                options.add_initializer(name, value)
        try:
            session = ort.InferenceSession(
                source,
                options,
                providers=[(providers[0], dict(provider_options or {})), *providers[1:]],
                enable_fallback=0,
            )
        except self._errors as error:
            where = f"{len(source)} bytes" if isinstance(source, bytes) else source
            raise BackendError(
                f"engine {engine} ({variant}): onnxruntime {ort.__version__} cannot open {where}: {error}"
            ) from error
        if not share_weights:
            self._weights = {}  # onnxruntime has copied or packed them
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        if self.providers[0] != providers[0]:
            raise BackendError(
                f"engine {engine} ({variant}): asked for {providers[0]}, but onnxruntime really uses "
                f"{', '.join(self.providers)}; ask for another provider or repair the driver"
            )
        self.placement = _placement(session, providers[0], f"engine {engine} ({variant})")
        super().__init__(
            engine=engine,
            variant=variant,
            backend=BACKEND_OF_PROVIDER.get(self.providers[0], self.providers[0]),
            inputs=[_tensor_spec(node) for node in session.get_inputs()],
            outputs=[_tensor_spec(node) for node in session.get_outputs()],
        )
        self._session: Any = session
        self._output_names = [spec.name for spec in self.outputs]

    @property
    def session(self) -> Any:
        """The bare ``onnxruntime.InferenceSession``, to compare with; None once closed."""
        return self._session

    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        session = self._session
        if session is None:  # closed by another thread after run() looked
            raise BackendError(f"{self!r} is closed; open the engine again")
        try:
            values = session.run(self._output_names, feed if isinstance(feed, dict) else dict(feed))
        except self._errors as error:
            raise BackendError(f"engine {self.engine} ({self.variant}) failed: {error}") from error
        return dict(zip(self._output_names, values, strict=True))

    def _close(self) -> None:
        # Shared weights stay until this object goes: a call in another thread may still be reading them.
        self._session = None


def _placement(session: Any, provider: str, engine: str) -> dict[str, int]:
    """Returns how many nodes each provider took, as far as this onnxruntime tells.

    Raises:
        BackendError: the one that was asked for took none.
    """
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    nodes: dict[str, int] = {}
    if provider != CPU_PROVIDER and tell is not None:
        for part in tell():
            nodes[str(part.ep_name)] = nodes.get(str(part.ep_name), 0) + len(part.get_nodes())
    if nodes and provider not in nodes:
        raise BackendError(
            f"{engine}: {provider} takes none of its nodes, all would run on {', '.join(nodes)}; ask for "
            "another backend or variant"
        )
    return nodes


@lru_cache(maxsize=1)
def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Returns what a session may raise: onnxruntime's own classes share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    own = [
        value
        for value in vars(onnxruntime_pybind11_state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    return (*own, RuntimeError, ValueError, TypeError, OSError)


def _tensor_spec(node: Any) -> TensorSpec:
    if node.type not in DTYPES:
        raise BackendError(f"tensor {node.name} is of type {node.type}; known: {', '.join(DTYPES)}")
    # onnxruntime gives None for a dimension without a name: each stands for itself.
    shape: Shape = tuple(
        f"any{axis}.{node.name}" if size is None else size for axis, size in enumerate(node.shape)
    )
    return TensorSpec(node.name, shape, np.dtype(DTYPES[node.type]))
