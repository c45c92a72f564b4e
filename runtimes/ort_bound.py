"""onnxruntime on an accelerator: tensors that stay where they are, and a CUDA graph where it can be had."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeemo.bundle import GraphFile
from edgeemo.errors import BackendError
from edgeemo.runtimes.base import Array, TensorSpec
from edgeemo.runtimes.cache import cache_folder
from edgeemo.runtimes.ort import OrtRunner, load_onnxruntime
from edgeemo.runtimes.ort_providers import CUDA, OPENVINO, ORT_TENSORRT, PROVIDERS, provider_trouble

log = logging.getLogger(__name__)
DEVICES = {CUDA: "cuda"}
"""Where tensors are bound; on other providers onnxruntime takes those of the host."""
INT8_REFUSED = {
    CUDA: "onnxruntime's CUDA provider has no int8 kernels and would go back to the CPU at every boundary; "
    "use variant='fp16', or backend='tensorrt' with int8-trt",
    # seen with onnxruntime-openvino 1.24.1: it takes the graph and ends the process
    OPENVINO: "onnxruntime's OpenVINO provider crashes on int8 engines; use variant='fp16', or backend='cpu'",
}
_GRAPH = "enable_cuda_graph"


class BoundOrtRunner(OrtRunner):
    """An engine on one of onnxruntime's accelerators, with I/O binding at batch 1.

    Inputs and outputs of batch 1 lie in buffers that exist once, which a CUDA graph needs. Other batches
    run unbound. Calls from several threads take turns.

    Args:
        graph: of a bundle, or the bytes of a self-contained model.
        backend: ``cuda``, ``openvino``, ``ort-tensorrt``, or ``cpu`` to bind without an accelerator.
        engine: the name to report.
        variant: the variant to report.
        threads: of one call, for what runs on the host.
        cuda_graph: record and replay on CUDA; an engine that cannot be recorded goes on without.
        options: for the provider, beside those that are set here.

    Attributes:
        replays: whether a CUDA graph was asked for and accepted.
        why_no_graph: why not, empty where it is.

    Raises:
        BackendError: the provider is not here or not used, or does not take this variant.
    """

    def __init__(
        self,
        graph: GraphFile | bytes,
        *,
        backend: str,
        engine: str = "engine",
        variant: str = "fp16",
        threads: int = 1,
        cuda_graph: bool = True,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if variant.startswith("int8") and backend in INT8_REFUSED:
            raise BackendError(f"engine {engine} ({variant}): {INT8_REFUSED[backend]}")
        provider = PROVIDERS.get(backend, "CPUExecutionProvider")
        if backend in PROVIDERS and (trouble := provider_trouble(backend)):
            raise BackendError(f"engine {engine} ({variant}): {trouble}")
        wanted = {**_provider_options(backend, threads), **(options or {})}
        given: dict[str, Any] = {"engine": engine, "variant": variant, "threads": threads}
        self.replays, self.why_no_graph = False, "no CUDA" if backend != CUDA else "switched off"
        if backend == CUDA and cuda_graph:
            try:
                super().__init__(
                    graph, providers=(provider,), provider_options={**wanted, _GRAPH: "1"}, **given
                )
                self.replays, self.why_no_graph = True, ""
            except BackendError as error:
                self.why_no_graph = str(error)
                log.info("engine %s (%s) runs without a CUDA graph: %s", engine, variant, error)
        if not self.replays:
            super().__init__(graph, providers=(provider,), provider_options=wanted, **given)
        self._lock = threading.Lock()
        self._bind(DEVICES.get(backend, "cpu"))

    def _bind(self, device: str) -> None:
        ort = load_onnxruntime()
        self._plain = ort.RunOptions()
        if self.replays:
            self._plain.add_run_config_entry("gpu_graph_id", "-1")  # other batches record nothing
        self._binding = self.session.io_binding()
        self._in = {spec.name: _make_value(ort, spec, device) for spec in self.inputs}
        self._out = {spec.name: _make_value(ort, spec, device) for spec in self.outputs}
        for name, value in self._in.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._out.items():
            self._binding.bind_ortvalue_output(name, value)
        self._bound = {spec.name: tuple(self._in[spec.name].shape()) for spec in self.inputs}

    def run_again(self) -> None:
        """Computes once more from what lies in the buffers, copying nothing: for measuring.

        Raises:
            BackendError: as `run`.
        """
        with self._lock:
            if self.session is None:
                raise BackendError(f"{self!r} is closed; open the engine again")
            try:
                self.session.run_with_iobinding(self._binding)
            except self._errors as error:
                raise BackendError(f"engine {self.engine} ({self.variant}) failed: {error}") from error

    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            session = self.session
            if session is None:  # closed by another thread after run() looked
                raise BackendError(f"{self!r} is closed; open the engine again")
            try:
                if any(feed[name].shape != shape for name, shape in self._bound.items()):
                    values = session.run(self._output_names, dict(feed), self._plain)
                    return dict(zip(self._output_names, values, strict=True))
                for name, value in self._in.items():
                    value.update_inplace(np.ascontiguousarray(feed[name]))
                session.run_with_iobinding(self._binding)
                return {name: np.array(value.numpy()) for name, value in self._out.items()}
            except self._errors as error:
                raise BackendError(f"engine {self.engine} ({self.variant}) failed: {error}") from error

    def _close(self) -> None:
        with self._lock:
            self._binding = None
            self._in, self._out = {}, {}
            super()._close()


def _provider_options(backend: str, threads: int) -> dict[str, str]:
    """Returns what a provider has to be told for one small engine of many in a process."""
    folder = str(cache_folder() / ORT_TENSORRT)
    known = {
        # An arena that doubles keeps up to twice what a session needs, once for each open engine.
        CUDA: {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"},
        # By itself it takes every processor: on two busy ones a call took 6.5 ms, with this 0.5.
        OPENVINO: {"device_type": "CPU", "num_of_threads": str(threads), "num_streams": "1"},
        # It builds at the first call, minutes on a small device, unless it finds what it built before.
        ORT_TENSORRT: {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
            "trt_fp16_enable": "1",
        },
    }
    return known.get(backend, {})


def _make_value(ort: Any, spec: TensorSpec, device: str) -> Any:
    """Returns room for a tensor at batch 1."""
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, spec.dtype.type, device, 0)
