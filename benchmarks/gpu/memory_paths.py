"""Copies to the GPU and back by cuda-python and by pycuda: latency, bandwidth, pinned and pageable."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu.child import Found, not_measured
from benchmarks.gpu.timing import Call, percentiles, time_in_turns
from edgeemo.bundle import Bundle
from edgeemo.runtimes.backends import read_graph
from edgeemo.runtimes.cuda import CUDA_PYTHON, PYCUDA, installed_packages
from edgeemo.runtimes.gpu import Gpu, PairedBuffer

PACKAGES = (CUDA_PYTHON, PYCUDA)
LARGE_BYTES = 64 << 20
_INSTALL = {
    CUDA_PYTHON: "pip install 'edgeemo[cuda]'",
    PYCUDA: "pip install 'edgeemo[pycuda]', which builds it and needs CUDA's headers and a C++ compiler",
}


def measure(package: str, bundle: str, calls: int) -> Found:
    """Returns how long the tensors of each engine take there and back.

    Args:
        package: ``cuda-python`` or ``pycuda``; ``EDGEEMO_CUDA`` must name it too.
        bundle: whose tensors.
        calls: of each kind of copy.
    """
    if package not in installed_packages():
        return not_measured(f"{package} is not installed: {_INSTALL[package]}")
    gpu = Gpu()
    with gpu:
        rows = [
            {"tensor": name, **_one(gpu, size, calls)} for name, size in _sizes(Bundle.open(bundle)).items()
        ]
        rows.append({"tensor": "64 MiB", **_one(gpu, LARGE_BYTES, max(3, calls // 50))})
    return {"gpu": str(gpu.facts), "rows": rows}


def _sizes(bundle: Bundle) -> dict[str, int]:
    """Returns the bytes that each engine and stem takes in at batch 1, each size once."""
    from edgeemo.bundle.outline import outline_from_model

    sizes: dict[int, str] = {}
    manifest = bundle.manifest
    for name in (*(f"stem.{each}" for each in manifest.order), *manifest.engines):
        files = manifest.stems[name[5:]] if name.startswith("stem.") else manifest.engines[name]
        outline = outline_from_model(read_graph(bundle, name, next(iter(files))).model)
        size = sum(
            int(np.prod([part if isinstance(part, int) else 1 for part in value.shape])) * 4
            for value in outline.inputs
        )
        sizes.setdefault(size, name)
    return {name: size for size, name in sorted(sizes.items())}


def _one(gpu: Gpu, size: int, calls: int) -> dict[str, Any]:
    """Returns percentiles of copies of one size, in microseconds, and bandwidths in GB a second."""
    cuda = gpu.cuda
    buffer = PairedBuffer(gpu, (size,), np.dtype(np.uint8))
    _, stream = cuda.stream()
    pageable = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    back = np.empty_like(pageable)

    def then_wait(*queued: Call) -> Call:
        def call() -> None:
            for each in queued:
                each()
            cuda.synchronize(stream)

        return call

    ways: dict[str, Call] = {
        "pinned in": then_wait(lambda: buffer.send(stream)),
        "pinned out": then_wait(lambda: buffer.fetch(stream)),
        "pinned there and back": then_wait(lambda: buffer.send(stream), lambda: buffer.fetch(stream)),
        "pageable in": then_wait(lambda: cuda.copy_in(buffer.address, pageable, stream)),
        "pageable out": then_wait(lambda: cuda.copy_out(back, buffer.address, stream)),
    }
    buffer.host[...] = pageable
    ways["pinned there and back"]()
    kept = bool(np.array_equal(buffer.host, pageable))
    graph: Any = None
    if cuda.captures:
        cuda.begin_capture(stream)
        buffer.send(stream)
        buffer.fetch(stream)
        graph = cuda.end_capture(stream)
        ways["recorded there and back"] = then_wait(lambda: cuda.launch(graph, stream))
    found = time_in_turns(ways, calls)
    if graph is not None:
        cuda.drop_graph(graph)
    buffer.close()
    cuda.drop_stream(stream)
    times = {name: percentiles(seconds, 1e6) for name, seconds in found.items()}
    speed = {
        name: round(size / times[name]["p50"] / 1e3, 3)
        for name in ("pinned in", "pinned out", "pageable in", "pageable out")
    }
    return {"bytes": size, "kept": kept, "us": times, "gb_s": speed}
