"""The one door to an NVIDIA GPU's memory: pycuda where it is installed, else cuda-python.

Both speak to the driver (libcuda), so neither needs a CUDA toolkit. Every status goes through one checked
call; a `BackendError` names the call and the status and says what usually helps.
"""

from __future__ import annotations

import ctypes
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgeemo.errors import BackendError, InputError, MissingDependencyError
from edgeemo.runtimes.base import Array
from edgeemo.runtimes.cuda_status import cuda_error, missing_driver, status_from_text

PYCUDA, CUDA_PYTHON = "pycuda", "cuda-python"
CHOICE = "EDGEEMO_CUDA"
"""Environment variable that names one of the two where both are installed."""
_NON_BLOCKING = 1  # a stream that does not wait for the default stream


class Cuda(ABC):
    """What the two packages have in common; handles are theirs and opaque to the caller.

    All but the first four methods need a context that is current in the calling thread (`push`).

    Attributes:
        name: of the package, for messages.
        version: of the package.
        captures: whether it can record a CUDA graph.
    """

    name: str
    version: str
    captures: bool

    @abstractmethod
    def driver_version(self) -> int:
        """Returns the newest CUDA that the driver serves: 12060 stands for 12.6."""

    @abstractmethod
    def device_count(self) -> int:
        """Returns how many GPUs this process may see."""

    @abstractmethod
    def describe(self, ordinal: int) -> tuple[str, int, dict[str, int]]:
        """Returns name, bytes of memory and attributes (see `ATTRIBUTES`) of a GPU."""

    @abstractmethod
    def retain(self, ordinal: int) -> Any:
        """Returns the primary context of a GPU, which all libraries of this process share."""

    @abstractmethod
    def release(self, context: Any, ordinal: int) -> None:
        """Gives the primary context back; the last one to do so frees it."""

    @abstractmethod
    def push(self, context: Any) -> None:
        """Makes a context current in this thread, above the one that was."""

    @abstractmethod
    def pop(self) -> None:
        """Takes the context that was pushed last from this thread."""

    @abstractmethod
    def memory(self) -> tuple[int, int]:
        """Returns free and total bytes of the GPU."""

    @abstractmethod
    def alloc(self, size: int) -> tuple[int, Any]:
        """Returns address and handle of device memory."""

    @abstractmethod
    def free(self, handle: Any) -> None:
        """Frees device memory."""

    @abstractmethod
    def alloc_pinned(self, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Any]:
        """Returns an array in page-locked host memory, and its handle; the array dies with it."""

    @abstractmethod
    def free_pinned(self, handle: Any) -> None:
        """Frees page-locked memory."""

    @abstractmethod
    def copy_in(self, address: int, array: Array, stream: Any) -> None:
        """Queues a copy from page-locked memory to the device."""

    @abstractmethod
    def copy_out(self, array: Array, address: int, stream: Any) -> None:
        """Queues a copy from the device to page-locked memory."""

    @abstractmethod
    def stream(self) -> tuple[int, Any]:
        """Returns address and handle of a new stream."""

    @abstractmethod
    def synchronize(self, stream: Any) -> None:
        """Waits, with the GIL released, until a stream has done everything."""

    @abstractmethod
    def drop_stream(self, stream: Any) -> None:
        """Frees a stream."""

    @abstractmethod
    def event(self) -> Any:
        """Returns a new event that keeps time."""

    @abstractmethod
    def record(self, event: Any, stream: Any) -> None:
        """Queues an event."""

    @abstractmethod
    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Waits for the second event and returns the milliseconds between both."""

    @abstractmethod
    def drop_event(self, event: Any) -> None:
        """Frees an event."""

    def begin_capture(self, stream: Any) -> None:
        """Records what follows on the stream instead of doing it."""
        raise self._no_graphs()

    def end_capture(self, stream: Any) -> Any:
        """Returns what was recorded, ready to be launched."""
        raise self._no_graphs()

    def launch(self, graph: Any, stream: Any) -> None:
        """Queues everything that was recorded, at the price of one call."""
        raise self._no_graphs()

    def drop_graph(self, graph: Any) -> None:
        """Frees a recorded graph."""
        raise self._no_graphs()

    def _no_graphs(self) -> BackendError:
        return BackendError(
            f"{self.name} {self.version} records no CUDA graphs; install cuda-python "
            f"(pip install 'edgeemo[cuda]') and set {CHOICE}={CUDA_PYTHON}"
        )


ATTRIBUTES = ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "COMPUTE_MODE", "INTEGRATED")


def installed_packages() -> tuple[str, ...]:
    """Returns which of the two packages are installed, the one that is used first; imports neither."""
    found = []
    if find_spec("pycuda") is not None:
        found.append(PYCUDA)
    if find_spec("cuda") is not None and find_spec("cuda.bindings") is not None:
        found.append(CUDA_PYTHON)
    wanted = os.environ.get(CHOICE)
    if wanted:
        if wanted not in (PYCUDA, CUDA_PYTHON):
            raise InputError(f"{CHOICE} is {wanted!r}; choose one of: {PYCUDA}, {CUDA_PYTHON}")
        found = [name for name in found if name == wanted]
    return tuple(found)


@lru_cache(maxsize=1)
def load_cuda() -> Cuda:
    """Returns the package that is installed, with the driver initialized.

    Raises:
        MissingDependencyError: neither is installed.
        BackendError: there is no driver, no GPU, or one that cannot be used; the message says what to do.
        InputError: the environment variable ``EDGEEMO_CUDA`` names neither.
    """
    found = installed_packages()
    if not found:
        raise MissingDependencyError(
            "using an NVIDIA GPU", "cuda-python or pycuda", "pip install 'edgeemo[cuda]'"
        )
    cuda = _PyCuda() if found[0] == PYCUDA else _CudaPython()
    if cuda.device_count() == 0:
        raise cuda_error("cuDeviceGetCount", "CUDA_ERROR_NO_DEVICE")
    return cuda


class _CudaPython(Cuda):
    """`cuda.bindings.driver`: each call returns its status first."""

    name = CUDA_PYTHON
    captures = True

    def __init__(self) -> None:
        try:
            import cuda.bindings
            from cuda.bindings import driver
        except (ImportError, OSError) as error:
            raise BackendError(f"cuda-python is installed and cannot be loaded: {error}") from None
        self.version = str(cuda.bindings.__version__)
        self._driver: Any = driver
        self._success = driver.CUresult.CUDA_SUCCESS
        self._thread_local = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuInit", 0)

    def _call(self, name: str, *given: Any) -> Any:
        """Calls the driver; returns what it gives, one value or a tuple."""
        try:
            status, *values = getattr(self._driver, name)(*given)
        except RuntimeError as error:  # the library, or a function that an older driver lacks, is not there
            raise missing_driver(f"{name}: {error}") from None
        if status != self._success:
            raise cuda_error(name, getattr(status, "name", str(status)))
        return values[0] if len(values) == 1 else tuple(values)

    def driver_version(self) -> int:
        return int(self._call("cuDriverGetVersion"))

    def device_count(self) -> int:
        return int(self._call("cuDeviceGetCount"))

    def describe(self, ordinal: int) -> tuple[str, int, dict[str, int]]:
        device = self._call("cuDeviceGet", ordinal)
        name = bytes(self._call("cuDeviceGetName", 256, device)).split(b"\0")[0].decode(errors="replace")
        known = self._driver.CUdevice_attribute
        attributes = {
            word: int(
                self._call("cuDeviceGetAttribute", getattr(known, f"CU_DEVICE_ATTRIBUTE_{word}"), device)
            )
            for word in ATTRIBUTES
        }
        return name, int(self._call("cuDeviceTotalMem", device)), attributes

    def retain(self, ordinal: int) -> Any:
        return self._call("cuDevicePrimaryCtxRetain", self._call("cuDeviceGet", ordinal))

    def release(self, context: Any, ordinal: int) -> None:
        self._call("cuDevicePrimaryCtxRelease", self._call("cuDeviceGet", ordinal))

    def push(self, context: Any) -> None:
        self._call("cuCtxPushCurrent", context)

    def pop(self) -> None:
        self._call("cuCtxPopCurrent")

    def memory(self) -> tuple[int, int]:
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def alloc(self, size: int) -> tuple[int, Any]:
        handle = self._call("cuMemAlloc", size)
        return int(handle), handle

    def free(self, handle: Any) -> None:
        self._call("cuMemFree", handle)

    def alloc_pinned(self, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Any]:
        size = max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        address = int(self._call("cuMemHostAlloc", size, 0))
        array: Array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return array[: size // dtype.itemsize * dtype.itemsize].view(dtype).reshape(shape), address

    def free_pinned(self, handle: Any) -> None:
        self._call("cuMemFreeHost", handle)

    def copy_in(self, address: int, array: Array, stream: Any) -> None:
        self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: Array, address: int, stream: Any) -> None:
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)

    def stream(self) -> tuple[int, Any]:
        handle = self._call("cuStreamCreate", _NON_BLOCKING)
        return int(handle), handle

    def synchronize(self, stream: Any) -> None:
        self._call("cuStreamSynchronize", stream)

    def drop_stream(self, stream: Any) -> None:
        self._call("cuStreamDestroy", stream)

    def event(self) -> Any:
        return self._call("cuEventCreate", 0)

    def record(self, event: Any, stream: Any) -> None:
        self._call("cuEventRecord", event, stream)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        self._call("cuEventSynchronize", end)
        return float(self._call("cuEventElapsedTime", start, end))

    def drop_event(self, event: Any) -> None:
        self._call("cuEventDestroy", event)

    def begin_capture(self, stream: Any) -> None:
        # thread-local: what other threads of the process allocate meanwhile does not break the recording
        self._call("cuStreamBeginCapture", stream, self._thread_local)

    def end_capture(self, stream: Any) -> Any:
        recorded = self._call("cuStreamEndCapture", stream)
        try:
            return self._call("cuGraphInstantiate", recorded, 0)
        finally:
            self._call("cuGraphDestroy", recorded)

    def launch(self, graph: Any, stream: Any) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def drop_graph(self, graph: Any) -> None:
        self._call("cuGraphExecDestroy", graph)


class _PyCuda(Cuda):
    """`pycuda.driver`: objects of its own, statuses as exceptions; it knows no CUDA graphs."""

    name = PYCUDA
    captures = False

    def __init__(self) -> None:
        try:
            import pycuda
            from pycuda import driver
        except (ImportError, OSError) as error:  # its extension is linked to libcuda
            raise missing_driver(str(error)) from None
        self.version = str(pycuda.VERSION_TEXT)
        self._driver: Any = driver
        self._call(driver.init)

    def _call(self, function: Any, *given: Any) -> Any:
        try:
            return function(*given)
        except self._driver.Error as error:  # "cuMemAlloc failed: out of memory"
            name, _, text = str(error).partition(" failed: ")
            raise cuda_error(name, status_from_text(text or str(error))) from None

    def driver_version(self) -> int:
        return int(self._call(self._driver.get_driver_version))

    def device_count(self) -> int:
        return int(self._call(self._driver.Device.count))

    def describe(self, ordinal: int) -> tuple[str, int, dict[str, int]]:
        device = self._call(self._driver.Device, ordinal)
        known = self._driver.device_attribute
        attributes = {
            word: int(self._call(device.get_attribute, getattr(known, word))) for word in ATTRIBUTES
        }
        return str(self._call(device.name)), int(self._call(device.total_memory)), attributes

    def retain(self, ordinal: int) -> Any:
        return self._call(self._call(self._driver.Device, ordinal).retain_primary_context)

    def release(self, context: Any, ordinal: int) -> None:
        self._call(context.detach)

    def push(self, context: Any) -> None:
        self._call(context.push)

    def pop(self) -> None:
        self._call(self._driver.Context.pop)

    def memory(self) -> tuple[int, int]:
        free, total = self._call(self._driver.mem_get_info)
        return int(free), int(total)

    def alloc(self, size: int) -> tuple[int, Any]:
        handle = self._call(self._driver.mem_alloc, size)
        return int(handle), handle

    def free(self, handle: Any) -> None:
        self._call(handle.free)

    def alloc_pinned(self, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Any]:
        array = self._call(self._driver.pagelocked_empty, tuple(shape), dtype)
        return array, array.base

    def free_pinned(self, handle: Any) -> None:
        self._call(handle.free)

    def copy_in(self, address: int, array: Array, stream: Any) -> None:
        self._call(self._driver.memcpy_htod_async, address, array, stream)

    def copy_out(self, array: Array, address: int, stream: Any) -> None:
        self._call(self._driver.memcpy_dtoh_async, array, address, stream)

    def stream(self) -> tuple[int, Any]:
        handle = self._call(self._driver.Stream, _NON_BLOCKING)
        return int(handle.handle), handle

    def synchronize(self, stream: Any) -> None:
        self._call(stream.synchronize)

    def drop_stream(self, stream: Any) -> None:
        """Nothing: the stream goes with its last reference."""

    def event(self) -> Any:
        return self._call(self._driver.Event)

    def record(self, event: Any, stream: Any) -> None:
        self._call(event.record, stream)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        self._call(end.synchronize)
        return float(self._call(end.time_since, start))

    def drop_event(self, event: Any) -> None:
        """Nothing: the event goes with its last reference."""
