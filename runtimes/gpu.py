"""A GPU as this process uses it: its facts, its shared context, and buffers that exist once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeemo.errors import BackendError, InputError
from edgeemo.runtimes.base import Array
from edgeemo.runtimes.cuda import Cuda, load_cuda

if TYPE_CHECKING:
    from types import TracebackType

COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
_PROHIBITED = 2


@dataclass(frozen=True)
class GpuFacts:
    """What a GPU is.

    Attributes:
        ordinal: its number in this process.
        name: such as ``NVIDIA GeForce RTX 4070 Laptop GPU``.
        capability: compute capability, (8, 9).
        memory_bytes: of the device; on a Jetson it is the machine's own.
        integrated: whether it shares memory with the CPU, as on a Jetson.
        compute_mode: ``default``, ``exclusive process`` or ``prohibited``.
        driver: newest CUDA version that the driver serves, ``12.6``.
        access: the package that is used, with its version.
    """

    ordinal: int
    name: str
    capability: tuple[int, int]
    memory_bytes: int
    integrated: bool
    compute_mode: str
    driver: str
    access: str

    @property
    def sm(self) -> str:
        """The compute capability as compilers write it: ``sm_89``."""
        return "sm_{}{}".format(*self.capability)

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.sm}, {self.memory_bytes / 2**30:.1f} GiB, driver for CUDA {self.driver}, "
            f"compute mode {self.compute_mode}, by {self.access})"
        )


@lru_cache(maxsize=8)
def gpu_facts(ordinal: int = 0) -> GpuFacts:
    """Returns what a GPU is.

    Args:
        ordinal: its number, as CUDA_VISIBLE_DEVICES leaves it.

    Raises:
        MissingDependencyError: neither pycuda nor cuda-python is installed.
        BackendError: no driver, no GPU, or none of this number.
    """
    cuda = load_cuda()
    count = cuda.device_count()
    if not 0 <= ordinal < count:
        raise BackendError(f"there is no GPU {ordinal} here; GPUs: {', '.join(map(str, range(count)))}")
    name, memory_bytes, found = cuda.describe(ordinal)
    version = cuda.driver_version()
    return GpuFacts(
        ordinal=ordinal,
        name=name,
        capability=(found["COMPUTE_CAPABILITY_MAJOR"], found["COMPUTE_CAPABILITY_MINOR"]),
        memory_bytes=memory_bytes,
        integrated=bool(found["INTEGRATED"]),
        compute_mode=COMPUTE_MODES.get(found["COMPUTE_MODE"], str(found["COMPUTE_MODE"])),
        driver=f"{version // 1000}.{version % 1000 // 10}",
        access=f"{cuda.name} {cuda.version}",
    )


class Gpu:
    """The primary context of a GPU, retained until `close`; every library of the process shares it.

    ``with gpu:`` makes it current in the calling thread and gives the thread back what it had. Any number
    of threads may do so at once, and one inside the other.

    Args:
        ordinal: the GPU's number.

    Raises:
        MissingDependencyError: neither pycuda nor cuda-python is installed.
        BackendError: no driver, no such GPU, or one that refuses programs.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self.cuda: Cuda = load_cuda()
        self.facts = gpu_facts(ordinal)
        if self.facts.compute_mode == COMPUTE_MODES[_PROHIBITED]:
            raise BackendError(
                f"GPU {ordinal} ({self.facts.name}) is in compute mode prohibited: no program may use it. "
                "Allow it with `nvidia-smi -c DEFAULT`"
            )
        self._context: Any = self.cuda.retain(ordinal)
        self._lock = threading.Lock()
        self._open = True

    def __enter__(self) -> Gpu:
        self.cuda.push(self._context)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cuda.pop()

    def close(self) -> None:
        """Gives the context back; nothing happens the second time."""
        with self._lock:
            if self._open:
                self._open = False
                self.cuda.release(self._context, self.facts.ordinal)
                self._context = None

    def __repr__(self) -> str:
        return f"<Gpu {self.facts}{'' if self._open else ', closed'}>"


class PairedBuffer:
    """A tensor twice: page-locked on the host, and on the device; both stay where they are.

    Made and freed while the GPU is current. The host array may be written and read between two runs.

    Args:
        gpu: where the device half lies.
        shape: numbers only.
        dtype: of the elements.

    Attributes:
        host: the array on the host.
        address: of the device half.
    """

    def __init__(self, gpu: Gpu, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        if any(size < 1 for size in shape):
            raise InputError(f"a buffer needs whole positive sizes, not {tuple(shape)}")
        self._cuda = gpu.cuda
        self.host: Array
        self.host, self._pinned = self._cuda.alloc_pinned(shape, dtype)
        try:
            self.address, self._device = self._cuda.alloc(self.host.nbytes)
        except BackendError:
            self._cuda.free_pinned(self._pinned)
            raise
        self._open = True

    def send(self, stream: Any) -> None:
        """Queues the copy to the device."""
        self._cuda.copy_in(self.address, self.host, stream)

    def fetch(self, stream: Any) -> None:
        """Queues the copy from the device."""
        self._cuda.copy_out(self.host, self.address, stream)

    def close(self) -> None:
        """Frees both halves; `host` must not be touched afterwards."""
        if self._open:
            self._open = False
            try:
                self._cuda.free(self._device)
            finally:
                self.host = np.empty(0, self.host.dtype)
                self._cuda.free_pinned(self._pinned)
