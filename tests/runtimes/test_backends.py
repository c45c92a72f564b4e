"""The chain of backends with real libraries that find no GPU: each gives its reason, and the CPU serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from stub_driver import build_stub, run_program
from tiny_bundle import write_bundle
from tiny_graphs import engine_bytes, expected_logits, feed

from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, EdgeEmoError, MissingDependencyError
from edgeemo.runtimes import BACKENDS, OrtRunner, open_engine, open_stem
from edgeemo.runtimes.backends import CHAIN, backend_named, better_than
from edgeemo.runtimes.driver import driver_trouble
from edgeemo.runtimes.open import LOCAL_VARIANTS, fallbacks, pick_backend
from edgeemo.runtimes.ort_bound import BoundOrtRunner
from edgeemo.runtimes.ort_providers import PROVIDERS, installed_wheels, provider_trouble, wheels_trouble
from edgeemo.runtimes.trt_library import is_installed

GPU_HERE = not driver_trouble(ours=False)
without_gpu = pytest.mark.skipif(
    GPU_HERE, reason="needs a machine without a GPU; with one: needs a GPU's tests"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    variants = {"fp32": engine_bytes(), "fp16": engine_bytes(rounds=20), "int8": engine_bytes(rounds=40)}
    return write_bundle(tmp_path_factory.mktemp("b") / "bundle", variants)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    pytest.importorskip("cuda.bindings", reason="needs cuda-python")
    return build_stub(tmp_path_factory.mktemp("stub"))


class TestChain:
    def test_the_order(self) -> None:
        assert BACKENDS == ("tensorrt", "rtx", "cuda", "ort-tensorrt", "openvino", "cpu")
        assert [backend.name for backend in better_than("cpu")] == ["tensorrt", "rtx", "cuda"]
        assert better_than("tensorrt") == ()
        assert set(LOCAL_VARIANTS) == set(BACKENDS)
        with pytest.raises(BackendError, match="unknown backend 'gpu'; choose one of: auto, tensorrt, rtx"):
            backend_named("gpu")

    @without_gpu
    def test_auto_serves_on_the_cpu_and_keeps_every_reason(self, bundle: Bundle) -> None:
        for runner in (open_engine(bundle, "audio"), open_stem(bundle, "audio")):
            choice = runner.choice
            assert choice is not None
            reasons = dict(choice.rejected)
            assert list(reasons)[:3] == ["tensorrt", "rtx", "cuda"]
            assert "ort-tensorrt" not in reasons, "used only where it is asked for"
            assert "openvino" in reasons or runner.backend == "openvino"
            assert all(reasons.values())
            if not is_installed("tensorrt"):
                assert reasons["tensorrt"] == "TensorRT is not installed"
            if is_installed("rtx"):
                assert "no NVIDIA driver here" in reasons["rtx"]
                assert "error 35" in reasons["rtx"]
            assert f"not on rtx: {reasons['rtx']}" in str(choice)

    @without_gpu
    @pytest.mark.parametrize("backend", ["tensorrt", "rtx", "cuda", "ort-tensorrt"])
    def test_asked_for_by_name_it_fails_loudly(self, bundle: Bundle, backend: str) -> None:
        with pytest.raises((BackendError, MissingDependencyError)) as caught:
            open_engine(bundle, "audio", backend=backend, variant="fp16")
        words = (
            "not installed",
            "no usable NVIDIA driver",
            "no NVIDIA driver",
            "has no CUDAExec",
            "has no TensorrtExec",
        )
        assert any(word in str(caught.value) for word in words)

    def test_openvino_is_read_back_or_refused(self, bundle: Bundle) -> None:
        if provider_trouble("openvino"):
            with pytest.raises(BackendError, match="has no OpenVINOExecutionProvider: pip uninstall"):
                open_engine(bundle, "audio", backend="openvino", variant="fp32")
            return
        with open_engine(bundle, "audio", backend="openvino", variant="fp32") as runner:
            assert runner.backend == "openvino"
            assert isinstance(runner, OrtRunner)
            assert runner.placement.get("OpenVINOExecutionProvider", 1)

    @pytest.mark.parametrize("backend", ["cuda", "openvino"])
    def test_int8_is_refused_where_it_is_slow_or_crashes(self, bundle: Bundle, backend: str) -> None:
        with pytest.raises(BackendError, match=r"no int8 kernels .*fp16|crashes on int8 engines; use .*fp16"):
            open_engine(bundle, "audio", backend=backend, variant="int8")

    def test_a_bundle_without_a_fitting_variant(self, tmp_path: Path) -> None:
        only_int8 = write_bundle(tmp_path / "b", {"int8": engine_bytes()})
        with pytest.raises(BackendError, match="cuda runs fp16 or fp32; this bundle has it in int8"):
            open_engine(only_int8, "audio", backend="cuda")
        assert backend_named("tensorrt").variant_of(["int8", "fp32"]) is None
        assert backend_named("tensorrt").variant_of(["fp16", "int8-trt"]) == "int8-trt"

    @without_gpu
    def test_what_takes_over_where_an_engine_fails_can_be_used_here(self) -> None:
        assert pick_backend("auto") == "cpu"
        usable = {backend.name for backend in CHAIN if not backend.why_not()}
        places = fallbacks(["fp16", "int8", "int8-trt"], variant="fp16", backend="auto")
        assert places[0] == ("cpu", "fp16")
        assert places[-1] == ("cpu", "int8-trt")
        assert {backend for backend, _ in places} <= usable
        asked = fallbacks(["fp16", "int8"], variant="auto", backend="tensorrt")
        assert asked[0] == ("tensorrt", "fp16")
        assert ("cpu", "int8") in asked

    def test_only_what_is_built_has_something_to_build(self, bundle: Bundle) -> None:
        with pytest.raises(BackendError, match="nothing has to be built"):
            backend_named("cuda").prepare_command(bundle, "audio", "fp16")
        assert backend_named("cuda").is_prepared(bundle, "audio", "fp16")


class TestBound:
    """I/O binding on the CPU: what is the same on every device."""

    def open_it(self, **options: object) -> BoundOrtRunner:
        return BoundOrtRunner(engine_bytes(), backend="cpu", engine="audio", variant="fp32", **options)  # type: ignore[arg-type]

    @pytest.mark.parametrize("batch", [1, 3])
    def test_the_known_answer(self, batch: int) -> None:
        with self.open_it() as runner:
            for turn in range(3):
                given = {
                    name: array * (turn + 1) if name.startswith("features") else array
                    for name, array in feed(batch=batch).items()
                }
                logits = runner.run(given)["logits"]
                expected = expected_logits(given["features.audio"], given["mask.audio"])
                np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-4)

    def test_the_answer_of_one_call_survives_the_next(self) -> None:
        with self.open_it() as runner:
            first = runner.run(feed(batch=1))["logits"]
            kept = first.copy()
            runner.run({name: value * 2 for name, value in feed(batch=1).items()})
            np.testing.assert_array_equal(first, kept)

    def test_arrays_that_are_views_are_taken_as_they_look(self) -> None:
        given = feed(batch=2)
        views = {name: array[::2] for name, array in given.items()}
        turned = {**views, "features.audio": np.asfortranarray(views["features.audio"])}
        with self.open_it() as runner:
            np.testing.assert_array_equal(runner.run(turned)["logits"], runner.run(views)["logits"])

    def test_it_says_what_it_is_and_closes(self) -> None:
        runner = self.open_it()
        assert runner.backend == "cpu"
        assert (runner.replays, runner.why_no_graph) == (False, "no CUDA")
        runner.close()
        runner.close()
        with pytest.raises(BackendError, match="is closed"):
            runner.run(feed(batch=1))

    def test_it_runs_again_on_what_it_was_given(self) -> None:
        with self.open_it() as runner:
            given = feed(batch=1)
            before = runner.run(given)["logits"]
            runner.run_again()
            np.testing.assert_array_equal(runner._out["logits"].numpy(), before)
        with pytest.raises(BackendError, match="is closed"):
            runner.run_again()

    def test_a_failing_call_is_a_backend_error(self) -> None:
        with self.open_it() as runner:
            runner._binding.clear_binding_inputs()
            with pytest.raises(BackendError, match=r"engine audio \(fp32\) failed"):
                runner.run(feed(batch=1))


class TestWheels:
    def fake(self, folder: Path, wheels: Mapping[str, str]) -> None:
        for name, version in wheels.items():
            info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def test_both_at_once_are_detected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake(
            tmp_path, {"onnxruntime-gpu": "1.23.2", "onnxruntime": "1.23.2", "onnxruntime-tools": "1.0"}
        )
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        assert installed_wheels() == {"onnxruntime": "1.23.2", "onnxruntime-gpu": "1.23.2"}
        said = wheels_trouble()
        assert said.startswith("onnxruntime 1.23.2 and onnxruntime-gpu 1.23.2 are installed at once")
        assert "pip uninstall onnxruntime onnxruntime-gpu" in said

    def test_the_sentence_reaches_whoever_asks_for_cuda(self, tmp_path: Path) -> None:
        if "CUDAExecutionProvider" in __import__("onnxruntime").get_available_providers():
            pytest.skip("needs a GPU of its own tests: this onnxruntime has CUDA")
        self.fake(tmp_path, {"onnxruntime-gpu": "1.23.2"})
        program = (
            "from edgeemo.runtimes.ort_providers import provider_trouble; print(provider_trouble('cuda'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "are installed at once and overwrite each other's files" in done.stdout

    def test_one_alone_is_fine(self) -> None:
        assert len(installed_wheels()) == 1
        assert wheels_trouble() == ""

    def test_a_provider_that_this_wheel_lacks(self) -> None:
        for backend, provider in PROVIDERS.items():
            said = provider_trouble(backend)
            assert not said or provider in said or "driver" in said or "finds no" in said


class TestPlansOverStub:
    """TensorRT for RTX builds for the GPU that the stub claims to be; its own runtime finds no driver."""

    def test_a_plan_is_prepared_in_a_child_and_found(
        self, stub: Path, tiny_export: Path, tmp_path: Path
    ) -> None:
        program = """
import json, subprocess, sys
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes import open_engine
from edgeemo.runtimes.backends import backend_named
bundle = Bundle.open(sys.argv[1])
rtx = backend_named("rtx")
said = {"why_not": rtx.why_not()}
said["before"] = rtx.is_prepared(bundle, "audio", "fp16")
said["auto"] = open_engine(bundle, "audio").choice.rejected
child = subprocess.run(rtx.prepare_command(bundle, "audio", "fp16"), capture_output=True, text=True)
said["child"] = child.returncode, child.stderr[-500:]
said["after"] = rtx.is_prepared(bundle, "audio", "fp16")
said["other"] = rtx.is_prepared(bundle, "audio", "int8-trt")
try:
    rtx.open(bundle, "audio", "fp16")
except EdgeEmoError as error:
    said["open"] = str(error)
bad = [*rtx.prepare_command(bundle, "audio", "fp16")]
bad[-3] = "0" * 64
child = subprocess.run(bad, capture_output=True, text=True)
said["changed"] = child.returncode, child.stderr
print(json.dumps(said))
"""
        done = run_program(program, str(tiny_export), stub=stub, EDGEEMO_CACHE=str(tmp_path))
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout.splitlines()[-1])
        assert said["why_not"] == ""
        assert (said["before"], said["after"], said["other"]) == (False, True, False)
        reason = dict(map(tuple, said["auto"]))["rtx"]
        assert "no plan of audio (int8-trt) for Stub GPU (sm_89): none was built yet" in reason
        assert said["child"][0] == 0, said["child"]
        assert "cannot open the plan: CUDA error 35" in said["open"]
        assert said["changed"][0] == 1
        assert "has changed since this build was asked for" in said["changed"][1]

    def test_a_plan_for_another_generation_is_named(
        self, stub: Path, tiny_export: Path, tmp_path: Path
    ) -> None:
        program = """
import sys
from edgeemo.cli.main import main
from edgeemo.bundle import Bundle
from edgeemo.runtimes import open_engine
bundle = Bundle.open(sys.argv[1])
words = ["build", sys.argv[1], "--backend", "rtx", "--sm", "86", "--subset", "audio"]
assert main(words) == 0
print(dict(open_engine(bundle, "audio").choice.rejected)["rtx"])
"""
        done = run_program(program, str(tiny_export), stub=stub, EDGEEMO_CACHE=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "plan is for sm_86, this GPU is sm_89" in done.stdout


@pytest.mark.gpu
def test_cuda_answers_as_the_cpu(bundle: Bundle) -> None:
    try:
        runner = open_engine(bundle, "audio", backend="cuda", variant="fp32")
    except EdgeEmoError as reason:
        pytest.skip(f"needs a GPU: {reason}")
    with runner, open_engine(bundle, "audio", backend="cpu", variant="fp32") as cpu:
        assert runner.backend == "cuda"
        for _ in range(4):
            given = feed(batch=1)
            np.testing.assert_allclose(
                runner.run(given)["logits"], cpu.run(given)["logits"], rtol=1e-3, atol=1e-3
            )
