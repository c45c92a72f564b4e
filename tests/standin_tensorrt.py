"""What stands in for TensorRT's runtime where there is no GPU: an engine that copies inputs to outputs.

It shows that `TrtRunner` moves, records, replays and frees as it should over the stub driver. That the names
it calls are TensorRT's own is another test's work (`test_trt_api.py`).
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeemo.runtimes.trt_library import Library, Words

SHAPES = {"features": (1, 3), "ids": (1, 2), "logits": (1, 3), "copied_ids": (1, 2)}
SOURCE = {"logits": "features", "copied_ids": "ids"}


class Context:
    """Copies each output from its input, on the stream."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """As TensorRT: open where the batch is, until the shape of every input is set."""
        if name in SOURCE and self.engine.plan == b"open shape":
            return (-1, *SHAPES[name][1:])
        known = self.shapes if name not in SOURCE else SHAPES if len(self.shapes) == len(SOURCE) else {}
        return known.get(name, (-1, *SHAPES[name][1:]))

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if shape != SHAPES[name]:
            return False
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return self.engine.plan != b"not recordable"

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.calls.append(stream)
        if self.engine.plan == b"fails":
            self.engine.logger.log("ERROR", "the kernel found no room: out of memory")
            return False
        driver = ctypes.CDLL("libcuda.so.1")
        for output, source in SOURCE.items():
            size = int(np.prod(SHAPES[source])) * np.dtype(self.engine.get_tensor_dtype(source)).itemsize
            pointers = [ctypes.c_uint64(self.addresses[name]) for name in (output, source)]
            status = driver.cuMemcpyDtoDAsync_v2(*pointers, ctypes.c_size_t(size), ctypes.c_void_p(stream))
            if status:
                raise RuntimeError(f"the stub says {status}")
        return True


class Engine:
    """An engine of two inputs and two outputs."""

    num_io_tensors = len(SHAPES)

    def __init__(self, plan: bytes, logger: Any) -> None:
        self.plan, self.logger = plan, logger
        self.calls: list[int] = []

    def get_tensor_name(self, number: int) -> str:
        return list(SHAPES)[number]

    def get_tensor_mode(self, name: str) -> str:
        return "out" if name in SOURCE else "in"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        if self.plan == b"other profile":
            return [(2, *SHAPES[name][1:])] * 3
        return [SHAPES[name]] * 3

    def get_tensor_location(self, name: str) -> str:
        return "device"

    def get_tensor_dtype(self, name: str) -> type:
        return np.int64 if "ids" in name else np.float32

    def create_execution_context(self) -> Context:
        return Context(self)


class Runtime:
    """Opens every plan but one."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if plan == b"damaged":
            self.logger.log("ERROR", "magic tag does not match")
            return None
        return Engine(bytes(plan), self.logger)


class Logger:
    """Keeps errors as the real one does."""

    def __init__(self) -> None:
        self.words = Words()

    def log(self, severity: str, message: str) -> None:
        self.words.add(message)


def standin_library() -> Library:
    """Returns it in the place of TensorRT."""
    module = SimpleNamespace(
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        TensorLocation=SimpleNamespace(DEVICE="device"),
        nptype=lambda dtype: dtype,
    )
    return Library("tensorrt", module, "0.0.0", Logger())
