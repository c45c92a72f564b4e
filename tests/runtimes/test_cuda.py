"""Device memory through the real cuda-python: without a driver, and over one that stands in for a GPU."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings", reason="needs cuda-python")

from stub_driver import build_stub, run_program

from edgeemo.errors import BackendError, InputError
from edgeemo.runtimes.cuda import installed_packages, load_cuda
from edgeemo.runtimes.cuda_status import cuda_error, status_from_text
from edgeemo.runtimes.gpu import Gpu, PairedBuffer, gpu_facts

PRELUDE = """
import threading
import numpy as np
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.cuda import load_cuda
from edgeemo.runtimes.gpu import Gpu, PairedBuffer, gpu_facts
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stub(tmp_path_factory.mktemp("stub"))


def over_stub(stub: Path, program: str, **environment: str) -> str:
    done = run_program(PRELUDE + program, stub=stub, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="needs a machine without an NVIDIA driver; with one: needs a GPU")
class TestWithoutDriver:
    def test_it_says_so_and_what_to_do(self) -> None:
        with pytest.raises(BackendError, match=r"no usable NVIDIA driver here .* error 35.*--gpus all"):
            load_cuda()

    def test_a_gpu_is_refused_the_same_way(self) -> None:
        for opens in (Gpu, gpu_facts):
            with pytest.raises(BackendError, match="no usable NVIDIA driver"):
                opens()


def test_the_package_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cuda-python" in installed_packages()
    monkeypatch.setenv("EDGEEMO_CUDA", "cuda-python")
    assert installed_packages() == ("cuda-python",)
    monkeypatch.setenv("EDGEEMO_CUDA", "cupy")
    with pytest.raises(InputError, match="'cupy'; choose one of: pycuda, cuda-python"):
        installed_packages()


def test_a_status_has_a_name_and_help() -> None:
    assert "CUDA_ERROR_NO_DEVICE: the driver sees no GPU" in str(cuda_error("cuInit", "CUDA_ERROR_NO_DEVICE"))
    lost = str(cuda_error("cuStreamSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS"))
    assert "the GPU is lost to this process" in lost
    assert str(cuda_error("cuX", "CUDA_ERROR_NOT_FOUND")) == "cuX failed: CUDA_ERROR_NOT_FOUND"
    assert status_from_text("out of memory") == "CUDA_ERROR_OUT_OF_MEMORY"
    assert status_from_text("something new") == "something new"


class TestOverStub:
    """cuda-python's own functions with real arguments: what is passed and returned is as they want it."""

    def test_facts(self, stub: Path) -> None:
        said = over_stub(stub, "print(gpu_facts()); print(gpu_facts().sm)")
        assert "Stub GPU (sm_89, 8.0 GiB, driver for CUDA 12.6, compute mode default, by cuda-python" in said

    def test_data_goes_there_and_back(self, stub: Path) -> None:
        said = over_stub(
            stub,
            """
gpu = Gpu()
with gpu:
    a = PairedBuffer(gpu, (2, 3), np.dtype("f4"))
    address, stream = gpu.cuda.stream()
    assert address and a.host.shape == (2, 3) and a.host.dtype == np.float32
    a.host[...] = np.arange(6).reshape(2, 3)
    a.send(stream)
    gpu.cuda.synchronize(stream)
    a.host[...] = -1
    a.fetch(stream)
    gpu.cuda.synchronize(stream)
    print(a.host.ravel().tolist())
""",
        )
        assert "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]" in said

    def test_a_recorded_graph_is_replayed(self, stub: Path) -> None:
        said = over_stub(
            stub,
            """
gpu = Gpu()
with gpu:
    a = PairedBuffer(gpu, (3,), np.dtype("i8"))
    _, stream = gpu.cuda.stream()
    a.host[...] = 5
    a.send(stream)
    gpu.cuda.begin_capture(stream)
    a.fetch(stream)
    graph = gpu.cuda.end_capture(stream)
    a.host[...] = 0
    print(a.host.tolist())
    gpu.cuda.launch(graph, stream)
    gpu.cuda.synchronize(stream)
    print(a.host.tolist())
    gpu.cuda.drop_graph(graph)
""",
        )
        assert said.split("\n")[:2] == ["[0, 0, 0]", "[5, 5, 5]"]

    def test_events_keep_time(self, stub: Path) -> None:
        said = over_stub(
            stub,
            """
gpu = Gpu()
with gpu:
    _, stream = gpu.cuda.stream()
    events = [gpu.cuda.event() for _ in range(2)]
    for event in events:
        gpu.cuda.record(event, stream)
    print(gpu.cuda.elapsed_ms(*events))
    for event in events:
        gpu.cuda.drop_event(event)
""",
        )
        assert said.strip() == "1.5"

    def test_nothing_is_left_behind(self, stub: Path) -> None:
        # the stub's free memory counts device buffers, its total contexts and page-locked ones
        said = over_stub(
            stub,
            """
gpu, other = Gpu(), Gpu()
with gpu:
    free, total = gpu.cuda.memory()
    buffers = [PairedBuffer(gpu, (4,), np.dtype("f4")) for _ in range(3)]
    assert gpu.cuda.memory() == (free - (3 << 30), total + (3 << 30))
    for buffer in buffers * 2:
        buffer.close()
    assert gpu.cuda.memory() == (free, total)
other.close()
other.close()
with gpu:
    assert gpu.cuda.memory() == (free, total - (100 << 30))
print("closed" in repr(other), "closed" in repr(gpu))
gpu.close()
""",
        )
        assert said.strip() == "True False"

    def test_threads_use_it_at_once_and_get_back_what_they_had(self, stub: Path) -> None:
        said = over_stub(
            stub,
            """
gpu = Gpu()
both = threading.Barrier(4)
wrong = []
def work(number):
    with gpu:
        both.wait(60)
        with gpu:
            buffer = PairedBuffer(gpu, (1000,), np.dtype("f4"))
            _, stream = gpu.cuda.stream()
            for turn in range(50):
                buffer.host[...] = number * 1000 + turn
                buffer.send(stream)
                gpu.cuda.synchronize(stream)
                buffer.host[...] = -1
                buffer.fetch(stream)
                gpu.cuda.synchronize(stream)
                if not (buffer.host == number * 1000 + turn).all():
                    wrong.append((number, turn))
        both.wait(60)
    try:
        gpu.cuda.memory()
        wrong.append("still current")
    except EdgeEmoError as error:
        assert "cuMemGetInfo failed: CUDA_ERROR_INVALID_CONTEXT" in str(error), error
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong)
""",
        )
        assert said.strip() == "[]"

    @pytest.mark.parametrize(
        ("environment", "program", "words"),
        [
            (
                {"STUB_FAIL": "cuInit", "STUB_STATUS": "100"},
                "load_cuda()",
                "cuInit failed: CUDA_ERROR_NO_DEVICE: the driver sees no GPU",
            ),
            ({"STUB_COUNT": "0"}, "load_cuda()", "CUDA_ERROR_NO_DEVICE"),
            (
                {"STUB_FAIL": "cuInit", "STUB_STATUS": "803"},
                "load_cuda()",
                "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: the driver's kernel module",
            ),
            ({"STUB_COUNT": "2"}, "gpu_facts(2)", "there is no GPU 2 here; GPUs: 0, 1"),
            ({"STUB_MODE": "2"}, "Gpu()", "in compute mode prohibited: no program may use it"),
            (
                {"STUB_FAIL": "cuDevicePrimaryCtxRetain", "STUB_STATUS": "46"},
                "Gpu()",
                "CUDA_ERROR_DEVICE_UNAVAILABLE: another process has the GPU for itself",
            ),
            (
                {"STUB_FAIL": "cuMemAlloc", "STUB_STATUS": "2"},
                "gpu = Gpu(); gpu.__enter__(); PairedBuffer(gpu, (4,), np.dtype('f4'))",
                "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY: the GPU's memory is full",
            ),
        ],
    )
    def test_each_failure_has_its_sentence(
        self, stub: Path, environment: dict[str, str], program: str, words: str
    ) -> None:
        said = over_stub(
            stub, f"try:\n    {program}\nexcept EdgeEmoError as error: print(error)", **environment
        )
        assert words in said

    def test_a_buffer_that_finds_no_room_leaves_nothing(self, stub: Path) -> None:
        said = over_stub(
            stub,
            """
import os
gpu = Gpu()
with gpu:
    before = gpu.cuda.memory()
    ctypes = __import__("ctypes").CDLL(None)
    ctypes.setenv(b"STUB_FAIL", b"cuMemAlloc", 1)
    ctypes.setenv(b"STUB_STATUS", b"2", 1)
    try:
        PairedBuffer(gpu, (4,), np.dtype("f4"))
    except EdgeEmoError:
        print(gpu.cuda.memory() == before)
""",
        )
        assert said.strip() == "True"


@pytest.mark.gpu
def test_a_real_gpu_keeps_what_is_sent() -> None:
    try:
        gpu = Gpu()
    except BackendError as reason:
        pytest.skip(f"needs a GPU: {reason}")
    import numpy as np

    with gpu:
        buffer = PairedBuffer(gpu, (3, 5), np.dtype(np.float32))
        _, stream = gpu.cuda.stream()
        buffer.host[...] = np.arange(15).reshape(3, 5)
        buffer.send(stream)
        gpu.cuda.synchronize(stream)
        buffer.host[...] = 0
        buffer.fetch(stream)
        gpu.cuda.synchronize(stream)
        assert buffer.host.ravel().tolist() == list(range(15))
        buffer.close()
        gpu.cuda.drop_stream(stream)
    gpu.close()
