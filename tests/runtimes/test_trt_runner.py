"""How plans run: copies, recording, replay, rows and failures, over drivers and engines that stand in."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings", reason="needs cuda-python")

from stub_driver import build_stub, run_program

PRELUDE = """
import threading
import numpy as np
from standin_tensorrt import standin_library
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.gpu import Gpu
from edgeemo.runtimes.trt import TrtRunner

def feed(value, rows=1):
    return {
        "features": np.arange(3 * rows, dtype=np.float32).reshape(rows, 3) + value,
        "ids": np.full((rows, 2), value, np.int64),
    }

def check(runner, value, rows=1):
    given = feed(value, rows)
    answer = runner.run(given)
    assert (answer["logits"] == given["features"]).all(), (answer, given)
    assert (answer["copied_ids"] == given["ids"]).all(), (answer, given)
    return answer

def open_it(plan=b"plan", **options):
    return TrtRunner(standin_library(), plan, engine="audio", variant="fp16", **options)
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stub(tmp_path_factory.mktemp("stub"))


def over_stub(stub: Path, program: str, **environment: str) -> str:
    done = run_program(PRELUDE + program, stub=stub, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_records_after_two_calls_and_replays(stub: Path) -> None:
    said = over_stub(
        stub,
        """
runner = open_it()
print(runner)
for value in range(1, 3):
    assert not runner.replays
    check(runner, value)
assert runner.replays and runner.why_no_graph == ""
calls = len(runner._engine.calls)
first = check(runner, 7)
second = check(runner, 8)
assert len(runner._engine.calls) == calls, "a replay asks TensorRT nothing"
assert first["logits"][0, 0] == 7, "the answer of one call survives the next"
runner.close()
runner.close()
""",
    )
    assert "TrtRunner audio fp16 on tensorrt: features float32 (batch, 3), ids int64 (batch, 2)" in said


def test_it_runs_without_recording_where_that_is_switched_off_or_refused(stub: Path) -> None:
    said = over_stub(
        stub,
        """
for runner in (open_it(cuda_graph=False), open_it(b"not recordable")):
    for value in range(4):
        check(runner, value)
    print(runner.replays, runner.why_no_graph)
    runner.close()
""",
    )
    assert said.splitlines() == [
        "False switched off",
        "False TensorRT 0.0.0 says that this engine cannot be recorded",
    ]


def test_it_runs_again_on_what_lies_on_the_gpu(stub: Path) -> None:
    over_stub(
        stub,
        """
runner = open_it()
check(runner, 5)
calls = len(runner._engine.calls)
runner._inputs["features"].host[...] = 9
runner.run_again()
assert len(runner._engine.calls) == calls + 1
assert runner._outputs["logits"].host[0, 0] == 5, "nothing is copied"
runner.close()
try:
    runner.run_again()
    raise SystemExit("ran while closed")
except EdgeEmoError:
    pass
""",
    )


def test_larger_batches_run_row_by_row(stub: Path) -> None:
    said = over_stub(
        stub,
        """
runner = open_it()
check(runner, 1, rows=5)
check(runner, 2, rows=2)
check(runner, 3)
assert check(runner, 4, rows=3)["logits"].shape == (3, 3)
try:
    runner.run(feed(1, rows=0))
except EdgeEmoError as error:
    print(error)
""",
    )
    assert "a batch of no rows" in said


def test_threads_take_turns(stub: Path) -> None:
    over_stub(
        stub,
        """
runner = open_it()
failed = []
def work(number):
    try:
        for turn in range(100):
            check(runner, number * 1000 + turn)
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failed, failed
""",
    )


def test_closing_frees_everything(stub: Path) -> None:
    # the stub's free memory counts device buffers, its total contexts and page-locked ones
    said = over_stub(
        stub,
        """
gpu = Gpu()
with gpu:
    before = gpu.cuda.memory()
runner = open_it()
check(runner, 1); check(runner, 2); check(runner, 3)
runner.close()
for plan in (b"damaged", b"open shape", b"other profile"):
    try:
        open_it(plan)
    except EdgeEmoError as error:
        print(error)
with gpu:
    assert gpu.cuda.memory() == before, (gpu.cuda.memory(), before)
try:
    runner.run(feed(1))
except EdgeEmoError as error:
    print("closed" in str(error))
""",
    )
    assert "cannot open the plan: magic tag does not match" in said
    assert "leaves the shape [-1, 3] of logits open" in said
    assert "refuses the shape [2, 3] for features" in said
    assert said.splitlines()[-1] == "True"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("open_it(b'fails').run(feed(1))", "TensorRT 0.0.0 could not run it: the GPU's memory is full"),
        ("fail('cuMemcpy', 700)", "cuMemcpyHtoDAsync failed: CUDA_ERROR_ILLEGAL_ADDRESS: the GPU is lost"),
        ("fail('cuStreamSynchronize', 719)", "cuStreamSynchronize failed: CUDA_ERROR_LAUNCH_FAILED"),
    ],
)
def test_a_failure_in_mid_run_has_its_sentence(stub: Path, program: str, words: str) -> None:
    said = over_stub(
        stub,
        f"""
import ctypes
def fail(name, status):
    runner = open_it()
    check(runner, 1)
    libc = ctypes.CDLL(None)
    libc.setenv(b"STUB_FAIL", name.encode(), 1)
    libc.setenv(b"STUB_STATUS", str(status).encode(), 1)
    try:
        runner.run(feed(2))
    finally:
        runner.close()
try:
    {program}
except EdgeEmoError as error:
    print(error)
""",
    )
    assert words in said
