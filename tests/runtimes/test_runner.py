"""The runner contract, and the onnxruntime runner that fulfils it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_graphs import C, T, engine_bytes, expected_logits, feed

from edgeemo.errors import BackendError, InputError, MissingDependencyError
from edgeemo.runtimes import OrtRunner
from edgeemo.runtimes import ort as ort_module


@pytest.fixture(scope="module")
def model() -> bytes:
    return engine_bytes()


@pytest.fixture
def runner(model: bytes) -> OrtRunner:
    return OrtRunner(model, engine="audio", variant="fp32")


def test_run_returns_the_known_answer(runner: OrtRunner) -> None:
    given = feed(batch=3)
    out = runner.run(given)
    assert list(out) == ["logits"]
    assert out["logits"].shape == (3, C)
    assert out["logits"].dtype == np.float32
    np.testing.assert_allclose(
        out["logits"], expected_logits(given["features.audio"], given["mask.audio"]), rtol=1e-5, atol=1e-5
    )


def test_bytes_and_path_give_the_same(model: bytes, tmp_path: Path) -> None:
    path = tmp_path / "engine.onnx"
    path.write_bytes(model)
    with OrtRunner(path) as from_path, OrtRunner(model) as from_bytes:
        np.testing.assert_array_equal(from_path.run(feed())["logits"], from_bytes.run(feed())["logits"])


def test_the_answer_of_one_call_survives_the_next(runner: OrtRunner) -> None:
    first = runner.run(feed())["logits"]
    kept = first.copy()
    runner.run({name: value * 2 for name, value in feed().items()})
    np.testing.assert_array_equal(first, kept)


def test_it_says_what_it_is(runner: OrtRunner) -> None:
    assert (runner.engine, runner.variant, runner.backend) == ("audio", "fp32", "cpu")
    assert runner.providers == ("CPUExecutionProvider",)
    assert [str(spec) for spec in runner.inputs] == [
        "features.audio float32 (batch, 40, 4)",
        "mask.audio float32 (batch, 40)",
    ]
    assert [spec.name for spec in runner.outputs] == ["logits"]
    text = repr(runner)
    assert "OrtRunner audio fp32 on cpu" in text
    assert "features.audio" in text
    runner.close()
    assert "closed" in repr(runner)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features.audio": None}, r"features\.audio is missing"),
        ({"features.video": np.zeros((2, T, 4), np.float32)}, r"unknown input features\.video"),
        ({"mask.audio": np.ones((2, T))}, r"mask\.audio is float64 \(2, 40\)"),
        ({"mask.audio": np.ones((2, T - 1), np.float32)}, r"mask\.audio is float32 \(2, 39\)"),
        ({"mask.audio": np.ones(T, np.float32)}, r"mask\.audio is float32 \(40,\)"),
        ({"mask.audio": np.ones((1, T), np.float32)}, r"batch is 2 in features\.audio and 1 in mask\.audio"),
        ({"mask.audio": [[1.0] * T] * 2}, r"mask\.audio is a list, not a numpy array"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused_by_name(
    runner: OrtRunner, change: dict[str, object], words: str
) -> None:
    wrong = {name: value for name, value in {**feed(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=words) as caught:
        runner.run(wrong)  # type: ignore[arg-type]  # that is the point
    assert "It takes: features.audio float32 (batch, 40, 4); mask.audio" in str(caught.value)


def test_a_feed_that_fitted_does_not_let_the_next_one_through(runner: OrtRunner) -> None:
    assert runner.run(feed(batch=2))["logits"].shape == (2, C)
    for name, value in (
        ("mask.audio", np.ones((1, T), np.float32)),
        ("mask.audio", np.ones((2, T))),
        ("more", np.ones(1, np.float32)),
    ):
        with pytest.raises(InputError, match="It takes"):
            runner.run({**feed(batch=2), name: value})
    with pytest.raises(InputError, match="is missing"):
        runner.run({"features.audio": feed(batch=2)["features.audio"]})
    assert runner.run(feed(batch=5))["logits"].shape == (5, C)


def test_everything_wrong_is_named_at_once(runner: OrtRunner) -> None:
    with pytest.raises(
        InputError, match=r"unknown input other; .*features\.audio is missing; mask\.audio is"
    ):
        runner.run({"other": np.zeros(1), "mask.audio": np.zeros(1)})


def test_close_is_idempotent_and_final(runner: OrtRunner) -> None:
    with runner:
        runner.run(feed())
    runner.close()
    assert runner.closed
    with pytest.raises(BackendError, match="closed"):
        runner.run(feed())


def test_many_threads_may_run_it(runner: OrtRunner) -> None:
    feeds = [{name: value * scale for name, value in feed().items()} for scale in (1, 2, 3, 4)]
    expected = [runner.run(given)["logits"] for given in feeds]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            if not np.array_equal(runner.run(feeds[number])["logits"], expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_provider_that_is_not_here_is_refused_with_those_that_are(model: bytes) -> None:
    with pytest.raises(BackendError, match=r"has no NoSuchProvider; it has: .*CPUExecutionProvider"):
        OrtRunner(model, providers=["NoSuchProvider"])
    with pytest.raises(BackendError, match="it has"):
        OrtRunner(model, providers=[])


def test_a_model_that_cannot_be_opened_names_the_engine(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"engine audio \(int8\).*cannot open 9 bytes"):
        OrtRunner(b"not onnx!", engine="audio", variant="int8")
    with pytest.raises(BackendError, match=r"cannot open .*missing\.onnx"):
        OrtRunner(tmp_path / "missing.onnx")
    with pytest.raises(BackendError, match="cannot open"):
        OrtRunner(engine_bytes(domain="of.nobody"))


def test_threads_must_be_positive(model: bytes) -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        OrtRunner(model, threads=0)


def test_without_onnxruntime_the_message_is_the_install_command(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort_module.load_onnxruntime.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    try:
        with pytest.raises(MissingDependencyError, match=r"pip install 'edgeemo\[cpu\]'") as caught:
            OrtRunner(model)
    finally:
        ort_module.load_onnxruntime.cache_clear()
    assert caught.value.__suppress_context__


def test_importing_the_runtimes_imports_no_backend() -> None:
    code = (
        "import sys, edgeemo.runtimes;"
        "print([name for name in ('onnxruntime', 'onnx', 'cv2', 'av', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
