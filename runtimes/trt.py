"""Engines on TensorRT and TensorRT for RTX: a plan opened on the GPU, run at batch 1 without allocating."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from edgeemo.errors import BackendError, InputError
from edgeemo.runtimes.base import Array, Runner, TensorSpec
from edgeemo.runtimes.gpu import Gpu, PairedBuffer
from edgeemo.runtimes.trt_library import TITLES, Library, explained

log = logging.getLogger(__name__)
_RECORD_AFTER = (2, 8, 64)
"""Calls after which recording is tried: kernels load at the first, and may be compiled for longer."""


class TrtRunner(Runner):
    """A plan opened on a GPU.

    Tensors lie in buffers that exist once, page-locked on the host; one stream does everything. Where
    cuda-python is used, copies and kernels are recorded as one CUDA graph after two calls and replayed from
    then on: one call to the driver each hop. Calls from several threads take turns.

    The plan is for batch 1, the case that a live session has; larger batches run row by row.

    Args:
        library: which TensorRT.
        plan: its bytes, made by `build_plan` with the same library.
        engine: the name to report.
        variant: the variant to report.
        ordinal: the GPU's number.
        cuda_graph: record and replay; False runs each step by itself.
        kernels: kernels that TensorRT for RTX compiled for this GPU when the plan ran before
            (see `compiled_kernels`); they spare seconds at the first call. Those of another GPU or version
            are ignored.
        dla: core of the deep learning accelerator that the plan was built for.

    Attributes:
        gpu: where it runs.
        replays: whether a recorded CUDA graph is replayed.
        why_no_graph: why not, empty where it is.

    Raises:
        BackendError: no driver, no GPU, or a plan that is not for this library or GPU.
        MissingDependencyError: neither pycuda nor cuda-python is installed.
    """

    def __init__(
        self,
        library: Library,
        plan: bytes | memoryview,
        *,
        engine: str,
        variant: str,
        ordinal: int = 0,
        cuda_graph: bool = True,
        kernels: bytes = b"",
        dla: int | None = None,
    ) -> None:
        self.library = library
        self._title = f"{TITLES[library.flavour]} {library.version}"
        self._name = f"engine {engine} ({variant})"
        with ExitStack() as opened:
            self.gpu = Gpu(ordinal)
            opened.callback(self.gpu.close)
            opened.callback(self._drop)
            with self.gpu:
                self._runtime, self._engine = _deserialize(library, plan, self._name, dla)
                self._config, self._cache = _runtime_cache(library, self._engine, kernels)
                self._context = self._create_context()
                address, self._stream = self.gpu.cuda.stream()
                opened.callback(self._in_context, self.gpu.cuda.drop_stream, self._stream)
                self._stream_address = address
                modes = library.module.TensorIOMode
                names = [
                    self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)
                ]
                self._inputs = self._make_buffers(names, modes.INPUT, opened)
                self._outputs = self._make_buffers(names, modes.OUTPUT, opened)
            self._resources = opened.pop_all()
        super().__init__(
            engine=engine,
            variant=variant,
            backend=library.flavour,
            inputs=[_spec(name, buffer) for name, buffer in self._inputs.items()],
            outputs=[_spec(name, buffer) for name, buffer in self._outputs.items()],
        )
        self._lock = threading.Lock()
        self._calls = 0
        self._graph: Any = None
        self.why_no_graph = "not recorded yet" if cuda_graph else "switched off"
        self._may_record = cuda_graph and self.gpu.cuda.captures
        if cuda_graph and not self.gpu.cuda.captures:
            self.why_no_graph = f"{self.gpu.cuda.name} records no CUDA graphs; cuda-python does"

    @property
    def replays(self) -> bool:
        """Whether a recorded CUDA graph is replayed."""
        return self._graph is not None

    def compiled_kernels(self) -> bytes:
        """Returns what TensorRT for RTX compiled for this GPU so far, to be given to the next runner."""
        with self._lock:
            return b"" if self._cache is None or self.closed else bytes(self._cache.serialize())

    def run_again(self) -> None:
        """Computes once more from what lies on the GPU, copying nothing: for measuring.

        Raises:
            BackendError: as `run`.
        """
        with self._lock:
            if self.closed:
                raise BackendError(f"{self!r} is closed; open the engine again")
            with self.gpu:
                self._execute()
                self.gpu.cuda.synchronize(self._stream)

    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        rows = next(iter(feed.values())).shape[0]
        if rows == 0:
            raise InputError(f"{self._name}: a batch of no rows")
        with self._lock:
            if self.closed:  # by another thread after run() looked
                raise BackendError(f"{self!r} is closed; open the engine again")
            with self.gpu:
                if rows == 1:
                    return self._run_row(feed)
                answers = [
                    self._run_row({name: array[row : row + 1] for name, array in feed.items()})
                    for row in range(rows)
                ]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _run_row(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        for name, buffer in self._inputs.items():
            buffer.host[...] = feed[name]
        if self._graph is not None:
            self.gpu.cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self.gpu.cuda.synchronize(self._stream)
        answers = {name: buffer.host.copy() for name, buffer in self._outputs.items()}
        if self._graph is None and self._may_record:
            self._calls += 1
            if self._calls in _RECORD_AFTER:
                self._record()
        return answers

    def _enqueue(self) -> None:
        """Queues copies in, kernels, copies out."""
        for buffer in self._inputs.values():
            buffer.send(self._stream)
        self._execute()
        for buffer in self._outputs.values():
            buffer.fetch(self._stream)

    def _execute(self) -> None:
        """Queues the kernels."""
        if not self._context.execute_async_v3(self._stream_address):
            raise BackendError(
                f"{self._name}: {self._title} could not run it: {explained(self.library.logger.words.take())}"
            )

    def _record(self) -> None:
        """Records what `_enqueue` does; an engine that cannot be recorded goes on without."""
        capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT for RTX alone has it
        if capturable is not None and not capturable(self._stream_address):
            self.why_no_graph = f"{self._title} says that this engine cannot be recorded"
            return
        cuda = self.gpu.cuda
        try:
            cuda.begin_capture(self._stream)
            try:
                self._enqueue()
            finally:
                self._graph = cuda.end_capture(self._stream)
            self.why_no_graph = ""
        except BackendError as error:
            self._graph, self._may_record = None, False
            self.why_no_graph = str(error)
            log.info("%s runs without a CUDA graph: %s", self._name, error)

    def _create_context(self) -> Any:
        context = (
            self._engine.create_execution_context(self._config)
            if self._config is not None
            else self._engine.create_execution_context()
        )
        if context is None:
            raise BackendError(
                f"{self._name}: {self._title} cannot make room for it: "
                f"{explained(self.library.logger.words.take())}"
            )
        return context

    def _make_buffers(self, names: list[str], mode: Any, opened: ExitStack) -> dict[str, PairedBuffer]:
        trt = self.library.module
        buffers: dict[str, PairedBuffer] = {}
        for name in names:
            if self._engine.get_tensor_mode(name) != mode:
                continue
            shape = self._shape_of(name, is_input=mode == trt.TensorIOMode.INPUT)
            if (
                self._engine.get_tensor_location(name) != trt.TensorLocation.DEVICE
                or min(shape, default=1) < 1
            ):
                raise BackendError(
                    f"{self._name}: the plan leaves the shape {list(shape)} of {name} open; build it again "
                    "with `edgeemo build`"
                )
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            buffer = PairedBuffer(self.gpu, shape, dtype)
            opened.callback(self._in_context, buffer.close)
            buffers[name] = buffer
            if not self._context.set_tensor_address(name, buffer.address):
                raise BackendError(
                    f"{self._name}: {self._title} refuses the buffer of {name}: "
                    f"{explained(self.library.logger.words.take())}"
                )
        return buffers

    def _shape_of(self, name: str, *, is_input: bool) -> tuple[int, ...]:
        """Returns a tensor's shape; that of an input is set to the one that the plan was built for."""
        shape = tuple(self._context.get_tensor_shape(name))
        if is_input and min(shape, default=1) < 1:
            shape = tuple(self._engine.get_tensor_profile_shape(name, 0)[1])
            if not self._context.set_input_shape(name, shape):
                raise BackendError(
                    f"{self._name}: {self._title} refuses the shape {list(shape)} for {name}: "
                    f"{explained(self.library.logger.words.take())}"
                )
        return shape

    def _in_context(self, action: Any, *given: Any) -> None:
        """Frees one thing; a GPU that was lost has freed it already."""
        try:
            with self.gpu:
                action(*given)
        except BackendError as error:
            log.info("%s: while closing: %s", self._name, error)

    def _close(self) -> None:
        with self._lock:
            graph, self._graph = self._graph, None
            if graph is not None:
                self._in_context(self.gpu.cuda.drop_graph, graph)
            self._resources.close()

    def _drop(self) -> None:
        """Lets TensorRT's objects go: they free device memory, so they go before the context does."""
        self._context = self._config = self._cache = None
        self._engine = self._runtime = None


def _deserialize(
    library: Library, plan: bytes | memoryview, name: str, dla: int | None = None
) -> tuple[Any, Any]:
    words = library.logger.words
    words.take()
    runtime = engine = None
    with suppress(TypeError):  # that is how the bindings say that the library gave nothing
        runtime = library.module.Runtime(library.logger)
    if runtime is not None:
        if dla is not None:
            runtime.DLA_core = dla
        engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(
            f"{name}: {TITLES[library.flavour]} {library.version} cannot open the plan: "
            f"{explained(words.take())}"
        )
    return runtime, engine


def _runtime_cache(library: Library, engine: Any, kernels: bytes) -> tuple[Any, Any]:
    """Returns runtime configuration and kernel cache; TensorRT for RTX alone has them."""
    create = getattr(engine, "create_runtime_config", None)
    config = create() if create is not None else None
    if config is None or not hasattr(config, "create_runtime_cache"):
        return None, None
    # Shapes never change here, so kernels made for them are worth the wait, and only then can be recorded.
    strategies = library.module.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    cache = config.create_runtime_cache()
    if cache is None:
        return None, None
    if kernels and not cache.deserialize(kernels):
        log.info("kernels of another GPU, driver or version are compiled again")
    config.set_runtime_cache(cache)
    return config, cache


def _spec(name: str, buffer: PairedBuffer) -> TensorSpec:
    return TensorSpec(name, ("batch", *buffer.host.shape[1:]), buffer.host.dtype)
