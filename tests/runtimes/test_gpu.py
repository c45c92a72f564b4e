"""What only a GPU can show; every test skips with its reason where there is none.

Each runs in a process of its own: some fill the GPU's memory or lose the GPU on purpose.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stub_driver import run_program

from edgeemo.runtimes.backends import backend_named
from edgeemo.runtimes.cuda import installed_packages
from edgeemo.runtimes.driver import driver_trouble
from edgeemo.shipped import DEFAULT_BUNDLE

pytestmark = pytest.mark.gpu

PRELUDE = """
import sys, time
import numpy as np
from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError
from edgeemo.runtimes import open_engine
from edgeemo.runtimes.backends import backend_named, read_graph
from edgeemo.runtimes.choose import typical_feed
from edgeemo.runtimes.gpu import Gpu, PairedBuffer
from edgeemo.runtimes.reference import compare_with_reference, reference_windows
bundle = Bundle.open(sys.argv[1])
names = [*(f"stem.{name}" for name in bundle.manifest.order), *bundle.manifest.engines]
"""
FILL = """
hog = Gpu()
hog.cuda.push(hog._context)
kept, size = [], 1 << 30
while size >= 1 << 16:
    try:
        kept.append(hog.cuda.alloc(size))
    except BackendError as error:
        assert "CUDA_ERROR_OUT_OF_MEMORY" in str(error), error
        size //= 2
"""
LOSE = """
def lose():
    # A kernel that traps: from then on every call of this process fails, as after a fault of the device.
    from cuda.bindings import driver
    text = b".version 6.3\\n.target sm_75\\n.address_size 64\\n.visible .entry lose() { trap; }\\0"
    gpu = Gpu()
    with gpu:
        status, module = driver.cuModuleLoadData(text)
        assert status == driver.CUresult.CUDA_SUCCESS, status
        status, kernel = driver.cuModuleGetFunction(module, b"lose")
        assert status == driver.CUresult.CUDA_SUCCESS, status
        driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
        status, = driver.cuCtxSynchronize()
        assert status != driver.CUresult.CUDA_SUCCESS
"""


def needs(backend: str) -> None:
    """Skips where a backend cannot be used."""
    if why := backend_named(backend).why_not():
        pytest.skip(f"needs a GPU and {backend}: {why}")


def on_gpu(program: str, bundle: Path, cache: Path, *words: str, package: str = "") -> str:
    chosen = {"EDGEEMO_CUDA": package} if package else {}
    done = run_program(
        PRELUDE + program, str(bundle), *words, stub=None, **{"EDGEEMO_CACHE": str(cache), **chosen}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", ["cuda-python", "pycuda"])
class TestMemoryPath:
    @pytest.fixture(autouse=True)
    def here(self, package: str) -> None:
        if package not in installed_packages():
            pytest.skip(f"needs a GPU and {package}, which is not installed")
        if why := driver_trouble(ours=True):
            pytest.skip(f"needs a GPU: {why}")

    def test_every_tensor_comes_back_as_it_went(self, package: str, tmp_path: Path) -> None:
        program = """
gpu = Gpu()
with gpu:
    _, stream = gpu.cuda.stream()
    for shape in ((1,), (1, 40, 64), (1, 1 << 20)):
        for kind in ("f4", "f2", "i8"):
            buffer = PairedBuffer(gpu, shape, np.dtype(kind))
            wanted = (np.arange(buffer.host.size) % 1000).reshape(shape).astype(kind)
            buffer.host[...] = wanted
            buffer.send(stream)
            gpu.cuda.synchronize(stream)
            buffer.host[...] = 0
            buffer.fetch(stream)
            gpu.cuda.synchronize(stream)
            assert (buffer.host == wanted).all(), (shape, kind)
            buffer.close()
    gpu.cuda.drop_stream(stream)
print(gpu.cuda.name)
gpu.close()
"""
        said = on_gpu(program, DEFAULT_BUNDLE, tmp_path, package=package)
        assert said.split() == [package]

    def test_a_recorded_graph_copies_what_lies_there_then(self, package: str, tmp_path: Path) -> None:
        program = """
gpu = Gpu()
with gpu:
    _, stream = gpu.cuda.stream()
    buffer, other = (PairedBuffer(gpu, (64,), np.dtype("f4")) for _ in range(2))
    if not gpu.cuda.captures:
        try:
            gpu.cuda.begin_capture(stream)
            raise SystemExit("it captured")
        except BackendError as error:
            assert "records no CUDA graphs" in str(error)
    else:
        gpu.cuda.begin_capture(stream)
        buffer.send(stream)
        gpu.cuda.copy_out(other.host, buffer.address, stream)
        graph = gpu.cuda.end_capture(stream)
        for value in (1, 2, 3):
            buffer.host[...] = value
            gpu.cuda.launch(graph, stream)
            gpu.cuda.synchronize(stream)
            assert (other.host == value).all(), value
        gpu.cuda.drop_graph(graph)
print("ran")
"""
        assert "ran" in on_gpu(program, DEFAULT_BUNDLE, tmp_path, package=package)

    def test_closing_gives_the_memory_back(self, package: str, tmp_path: Path) -> None:
        program = """
gpu = Gpu()
with gpu:
    before = gpu.cuda.memory()[0]
    buffers = [PairedBuffer(gpu, (64 << 20,), np.dtype("u1")) for _ in range(4)]
    held = before - gpu.cuda.memory()[0]
    for buffer in buffers:
        buffer.close()
    left = before - gpu.cuda.memory()[0]
print(held, left)
"""
        held, left = map(int, on_gpu(program, DEFAULT_BUNDLE, tmp_path, package=package).split())
        assert held >= 200 << 20
        assert left < 64 << 20


class TestOnnxruntimeCuda:
    ANSWERS = """
for name in names:
    for variant in ("fp16", "fp32"):
        files = bundle.manifest.stems[name[5:]] if name.startswith("stem.") else bundle.manifest.engines[name]
        if variant not in files:
            continue
        cpu = backend_named("cpu").open(bundle, name, variant)
        cuda = backend_named("cuda").open(bundle, name, variant)
        agreement = compare_with_reference(cuda, bundle, name)
        assert agreement.agrees, (name, variant, str(agreement))
        for feed in reference_windows(bundle, name)[0]:
            for key, right in cpu.run(feed).items():
                found = cuda.run(feed)[key]
                scale = max(1.0, float(np.abs(right).max()))
                assert np.abs(found - right).max() <= TOLERANCE[variant] * scale, (name, variant, key)
        print(name, variant, cuda.backend, cuda.replays)
        cuda.close()
"""
    # fp16 keeps 11 bits, and sums of some hundred terms lose a few of them; TF32 products keep 11 bits too
    TOLERANCE = 'TOLERANCE = {"fp16": 2e-2, "fp32": 5e-3}\n'

    @pytest.fixture(autouse=True)
    def here(self) -> None:
        needs("cuda")

    def test_every_engine_and_stem_answers_as_the_cpu(self, tiny_export: Path, tmp_path: Path) -> None:
        for bundle in (DEFAULT_BUNDLE, tiny_export):
            said = on_gpu(self.TOLERANCE + self.ANSWERS, bundle, tmp_path).splitlines()
            assert len(said) >= 10
            assert all(line.split()[2] == "cuda" for line in said)

    def test_a_replayed_graph_answers_as_a_plain_run(self, tmp_path: Path) -> None:
        program = """
from edgeemo.runtimes.ort_bound import BoundOrtRunner
source = read_graph(bundle, "audio", "fp16")
both = [
    BoundOrtRunner(source, backend="cuda", engine="audio", variant="fp16", cuda_graph=graph)
    for graph in (True, False)
]
print(both[0].replays, both[0].why_no_graph)
assert not both[1].replays
for feed in reference_windows(bundle, "audio")[0]:
    for _ in range(3):
        recorded, plain = (runner.run(feed)["logits"] for runner in both)
        assert np.allclose(recorded, plain, rtol=1e-3, atol=1e-3), (recorded, plain)
"""
        said = on_gpu(program, DEFAULT_BUNDLE, tmp_path)
        assert said.startswith("True"), said

    def test_int8_is_refused_with_a_sentence(self, tmp_path: Path) -> None:
        program = """
try:
    open_engine(bundle, "audio", backend="cuda", variant="int8")
except BackendError as error:
    print(error)
"""
        assert "no int8 kernels" in on_gpu(program, DEFAULT_BUNDLE, tmp_path)


@pytest.mark.parametrize("flavour", ["tensorrt", "rtx"])
class TestPlans:
    @pytest.fixture(autouse=True)
    def here(self, flavour: str) -> None:
        needs(flavour)

    def test_a_plan_is_built_loaded_and_answers(
        self, flavour: str, tiny_export: Path, tmp_path: Path
    ) -> None:
        program = """
from edgeemo.runtimes.plans.opening import open_plan
flavour = sys.argv[2]
try:
    backend_named(flavour).open(bundle, "audio", "fp16", build=False)
    raise SystemExit("opened what was never built")
except BackendError as error:
    assert "none was built yet" in str(error) or "does not run on" in str(error), error
    if "does not run on" in str(error):
        print("skip", error)
        raise SystemExit(0)
for variant in ("fp16", "int8-trt"):
    for name in names:
        source = read_graph(bundle, name, variant)
        built = open_plan(flavour, source, engine=name, variant=variant, build=True)
        agreement = compare_with_reference(built, bundle, name)
        assert agreement.agrees, (name, variant, str(agreement))
        built.close()
        assert backend_named(flavour).is_prepared(bundle, name, variant)
        loaded = open_plan(flavour, source, engine=name, variant=variant, build=False)
        plain = open_plan(flavour, source, engine=name, variant=variant, build=False, cuda_graph=False)
        assert not plain.replays
        if loaded.gpu.cuda.captures:
            assert loaded.replays, loaded.why_no_graph
        for feed in reference_windows(bundle, name)[0]:
            for key, answer in plain.run(feed).items():
                assert np.allclose(loaded.run(feed)[key], answer, rtol=1e-4, atol=1e-4), (name, variant, key)
        loaded.close()
        plain.close()
        print(name, variant)
"""
        said = on_gpu(program, tiny_export, tmp_path, flavour)
        if said.startswith("skip"):
            pytest.skip(f"needs a GPU that {flavour} runs on: {said}")
        assert len(said.splitlines()) >= 12


class TestTrouble:
    @pytest.fixture(autouse=True)
    def here(self) -> None:
        needs("cuda")
        if not installed_packages():
            pytest.skip("needs a GPU and cuda-python or pycuda")

    def test_out_of_memory_falls_back_and_says_so(self, tmp_path: Path) -> None:
        program = """
runner = open_engine(bundle, "audio")
rejected = dict(runner.choice.rejected)
print(runner.backend, "|", rejected.get("cuda", ""))
assert compare_with_reference(runner, bundle, "audio").agrees
try:
    open_engine(bundle, "audio", backend="cuda")
    raise SystemExit("it opened")
except BackendError as error:
    print(error)
"""
        said = on_gpu(FILL + program, DEFAULT_BUNDLE, tmp_path).splitlines()
        assert said[0].startswith("cpu | ")
        assert all("memory" in line.lower() for line in said)

    def test_a_lost_gpu_is_named_and_a_session_goes_on(self, tmp_path: Path) -> None:
        if "cuda-python" not in installed_packages():
            pytest.skip("needs a GPU and cuda-python, which launches the kernel that loses it")
        program = """
from edgeemo.session import EngineOptions, Session
from edgeemo.session.events import EventKind
runner = open_engine(bundle, "audio", backend="cuda")
feed = typical_feed(runner.inputs)
runner.run(feed)
with Session(bundle, engines=EngineOptions(subsets=("text",)), settings={"hold_s": 0.0}) as session:
    def answering(at_s):
        session.push_text("I am so happy to see you", time_s=at_s)
        return session.read(at_s=at_s + 0.1).backend
    at_s = 0.5
    print(answering(at_s))
    lose()
    try:
        runner.run(feed)
        raise SystemExit("it ran on a lost GPU")
    except BackendError as error:
        print(error)
    end_s = time.monotonic() + 60
    while True:
        at_s += 0.5
        if answering(at_s) == "cpu":
            break
        assert time.monotonic() < end_s, "nothing took over"
        time.sleep(0.1)
    told = [event.message for event in session.events() if event.kind is EventKind.ENGINE_SET_ASIDE]
    assert told and "set aside" in told[0], told
    print(told[0].splitlines()[0])
import os
sys.stdout.flush()
os._exit(0)  # libraries that free what is lost may end the process with a signal
"""
        said = on_gpu(LOSE + program, DEFAULT_BUNDLE, tmp_path, package="cuda-python").splitlines()
        assert said[0] in ("cuda", "tensorrt", "rtx")
        assert "set aside" in said[-1]
