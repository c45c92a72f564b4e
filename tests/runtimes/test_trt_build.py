"""Plans that TensorRT for RTX really builds here, and each way in which it cannot."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")

from edgeemo.bundle import Bundle
from edgeemo.bundle.outline import outline_from_model
from edgeemo.errors import BackendError, InputError, MissingDependencyError
from edgeemo.runtimes.plans.build import BuildOptions, _learn_from, build_plan, profile_shapes
from edgeemo.runtimes.plans.progress import BuildStep, Progress
from edgeemo.runtimes.trt import _deserialize
from edgeemo.runtimes.trt_library import Library, explained, is_installed, load_library

LAPTOPS = ((8, 6), (8, 9), (12, 0))


@pytest.fixture(scope="module")
def library() -> Library:
    return load_library("rtx")


@pytest.fixture(scope="module")
def model(tiny_export: Path) -> bytes:
    return Bundle.open(tiny_export).read_engine("audio+video+text", "fp16").self_contained()


def shapes_of(model: bytes) -> dict[str, tuple[int, ...]]:
    return profile_shapes({value.name: value.shape for value in outline_from_model(model).inputs})


def test_a_plan_for_three_generations(library: Library, model: bytes) -> None:
    steps: list[BuildStep] = []
    built = build_plan(
        library,
        model,
        engine="all",
        shapes=shapes_of(model),
        capabilities=LAPTOPS,
        options=BuildOptions(workspace_mb=64, level=1),
        on_step=steps.append,
    )
    assert len(built.plan) > 10_000
    assert built.seconds > 0
    assert steps[-1].fraction == 1
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert steps[-1].phase
    alone = build_plan(library, model, engine="all", shapes=shapes_of(model), capabilities=((8, 9),))
    assert len(alone.plan) < len(built.plan)


def test_a_build_is_cancelled(library: Library, model: bytes) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(BackendError, match="all: the build of its plan was cancelled"):
        build_plan(library, model, engine="all", shapes=shapes_of(model), capabilities=LAPTOPS, stop=stop)


def test_what_a_callback_raises_ends_the_build_and_comes_through(library: Library, model: bytes) -> None:
    def interrupt(step: BuildStep) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(
            library, model, engine="all", shapes=shapes_of(model), capabilities=LAPTOPS, on_step=interrupt
        )


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [
        (((8, 7),), r"builds no plans for SM87; it knows .*SM86.* for Jetson and data-centre GPUs"),
        (((9, 0), (8, 9)), r"builds no plans for SM90"),
    ],
)
def test_gpus_that_it_does_not_build_for(
    library: Library, model: bytes, capabilities: tuple[tuple[int, int], ...], words: str
) -> None:
    with pytest.raises(BackendError, match=words):
        build_plan(library, model, engine="all", shapes=shapes_of(model), capabilities=capabilities)


def test_other_refusals(library: Library, model: bytes) -> None:
    shapes = shapes_of(model)
    with pytest.raises(BackendError, match="does not read this graph: "):
        build_plan(library, model[:100], engine="cut", shapes=shapes, capabilities=LAPTOPS)
    with pytest.raises(InputError, match=r"shapes are given for x; its inputs are features\.audio"):
        build_plan(library, model, engine="all", shapes={"x": (1,)}, capabilities=LAPTOPS)
    with pytest.raises(BackendError, match="there is no DLA core 0 here"):
        build_plan(
            library, model, engine="all", shapes=shapes, capabilities=LAPTOPS, options=BuildOptions(dla=0)
        )
    with pytest.raises(InputError, match="level must be between 0 and 5, got 6"):
        BuildOptions(level=6)
    with pytest.raises(InputError, match="at least 0, got -1"):
        BuildOptions(workspace_mb=-1)
    with pytest.raises(InputError, match="dimension 'words' without a length; known: batch"):
        profile_shapes({"features.text": ("batch", "words", 4)})
    assert profile_shapes({"a": ("batch", "words", 4)}, {"words": 32}) == {"a": (1, 32, 4)}


def has_gpu() -> bool:
    try:
        from edgeemo.runtimes.gpu import gpu_facts

        gpu_facts()
    except (BackendError, MissingDependencyError):
        return False
    return True


@pytest.mark.skipif(has_gpu(), reason="needs a machine without a GPU; with one: needs a GPU of its own tests")
def test_without_a_driver_each_step_says_error_35(library: Library, model: bytes) -> None:
    with pytest.raises(
        BackendError, match="cannot build this engine: CUDA error 35: no usable NVIDIA driver"
    ):
        build_plan(library, model, engine="all", shapes=shapes_of(model))
    built = build_plan(library, model, engine="all", shapes=shapes_of(model), capabilities=((8, 9),))
    with pytest.raises(BackendError, match="cannot open the plan: CUDA error 35: no usable NVIDIA driver"):
        _deserialize(library, built.plan, "engine all (fp16)")


def test_a_library_that_is_not_there() -> None:
    with pytest.raises(InputError, match="unknown TensorRT 'trt'; choose one of: tensorrt, rtx"):
        load_library("trt")
    if not is_installed("tensorrt"):
        with pytest.raises(MissingDependencyError, match="JetPack"):
            load_library("tensorrt")


def test_words_of_tensorrt_are_explained() -> None:
    assert "error 35" in explained("Error Code 1: Cuda Runtime (In x (cudaError 35: CUDA driver version))")
    assert "memory is full (Error: out of memory)" in explained("Error: out of memory")
    assert explained("") == "TensorRT gave no reason"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorRT for RTX keeps the calls without effect
@pytest.mark.parametrize("earlier", [b"", b"no cache of this library"])
def test_a_timing_cache_is_taken_or_begun_anew(library: Library, earlier: bytes) -> None:
    config = library.module.Builder(library.logger).create_builder_config()
    _learn_from(config, earlier)
    assert config.get_timing_cache() is not None


def test_nested_phases_never_fall_back() -> None:
    steps: list[BuildStep] = []
    progress = Progress(steps.append, None)

    def patiently(action: object, *given: object) -> None:
        time.sleep(0.11)  # it tells at most ten times a second
        assert callable(action)
        action(*given)

    patiently(progress.start, "build", None, 2)
    patiently(progress.start, "first", "build", 4)
    patiently(progress.step, "first", 1)
    assert steps[-1].fraction == pytest.approx(0.25)
    patiently(progress.finish, "first")
    patiently(progress.step, "build", 0)
    assert steps[-1].fraction == pytest.approx(0.5)
    patiently(progress.start, "second", "build", 2)
    patiently(progress.step, "second", 0)
    assert steps[-1].fraction == pytest.approx(0.75)
    patiently(progress.finish, "second")
    patiently(progress.finish, "build")
    assert steps[-1].fraction == 1
