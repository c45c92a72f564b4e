"""A session that serves from the CPU moves up to a backend that takes its time, and loses no reading."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from edgeemo.bundle import Bundle, GraphFile
from edgeemo.errors import BackendError
from edgeemo.runtimes.backends import Backend
from edgeemo.runtimes.base import Array, Runner
from edgeemo.runtimes.ort import OrtRunner
from edgeemo.sensors import TextQueue
from edgeemo.session.engines.move_up import MoveUp
from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.pool import EnginePool
from edgeemo.session.engines.preload import open_snapshot
from edgeemo.session.engines.snapshot import STEM
from edgeemo.session.events import EventKind
from edgeemo.session.session import Session
from edgeemo.shipped import DEFAULT_BUNDLE

PATIENCE_S = 60.0
BUILD = "import pathlib, sys, time; time.sleep({wait_s}); pathlib.Path(sys.argv[1]).touch(); sys.exit({code})"


class Wrong(OrtRunner):
    """A backend with a mistake in its kernels."""

    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return {name: -array for name, array in super()._run(feed).items()}


class Mortal(OrtRunner):
    """A GPU that is lost in mid-run."""

    lost = False

    def _run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        if Mortal.lost:
            raise BackendError("CUDA_ERROR_DEVICE_UNAVAILABLE: the GPU is lost")
        return super()._run(feed)


class SecondCpu(Backend):
    """onnxruntime once more, standing where a GPU would be: it has to be built for, in a child process."""

    name = "second-cpu"
    variants = ("fp16",)

    def __init__(
        self,
        folder: Path,
        *,
        why_not: str = "",
        wait_s: float = 0.0,
        runner: type[OrtRunner] = OrtRunner,
    ) -> None:
        self._folder, self._why_not, self._wait_s, self._runner = folder, why_not, wait_s, runner
        self.fails: set[str] = set()
        self.opened: list[str] = []

    def why_not(self) -> str:
        return self._why_not

    def is_prepared(self, bundle: Bundle, name: str, variant: str) -> bool:
        return (self._folder / name).exists()

    def prepare_command(self, bundle: Bundle, name: str, variant: str) -> Sequence[str]:
        code = "'this graph cannot be built'" if name in self.fails else "0"
        return [sys.executable, "-c", BUILD.format(wait_s=self._wait_s, code=code), str(self._folder / name)]

    def open_graph(self, graph: GraphFile, name: str, variant: str, *, threads: int, build: bool) -> Runner:
        runner = self._runner(graph, engine=name, variant=variant)
        runner.backend = self.name
        self.opened.append(name)
        return runner


class Events(list[tuple[EventKind, str]]):
    """What was told."""

    def tell(self, kind: EventKind, message: str, detail: object = None) -> None:
        self.append((kind, message))

    def of(self, kind: EventKind) -> list[str]:
        return [message for found, message in self if found is kind]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def pool(events: Events) -> Iterator[EnginePool]:
    options = EngineOptions(subsets=("text", "audio", "audio+text"), variant="int8")
    opened = EnginePool(open_snapshot(Bundle.open(DEFAULT_BUNDLE), options), options, tell=events.tell)
    yield opened
    opened.close()


def until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def backends_of(pool: EnginePool) -> set[str]:
    return {runner.backend for name in pool.snapshot.names if (runner := pool.snapshot.runner(name))}


def test_everything_moves_and_answers_as_before(pool: EnginePool, events: Events, tmp_path: Path) -> None:
    window = {"text": pool.snapshot.bundle.reference()}
    feed = {
        kind: window["text"][f"{kind}.text"][:1].astype("float32", copy=True) for kind in ("features", "mask")
    }
    before = pool.recognize(("text",), lambda name: (feed["features"], feed["mask"]), at_s=0.0)
    assert before.runner is not None
    assert before.runner.backend == "cpu"
    second = SecondCpu(tmp_path)
    moving = MoveUp(pool, [second], threads=1, tell=events.tell)
    moving.start()
    until(lambda: backends_of(pool) == {"second-cpu"})
    after = pool.recognize(("text",), lambda name: (feed["features"], feed["mask"]), at_s=0.5)
    moving.stop()
    moving.join(PATIENCE_S)
    assert after.runner is not None
    assert after.runner.backend == "second-cpu"
    assert abs(after.outputs["logits"] - before.outputs["logits"]).max() < 0.1
    assert len(events.of(EventKind.ENGINE_CHANGED)) == len(pool.snapshot.names)
    assert second.opened[0] == "text"  # the only one that has answered
    assert all(name.startswith(STEM) for name in second.opened[3:])


def test_a_build_that_fails_is_one_event_and_the_cpu_goes_on(
    pool: EnginePool, events: Events, tmp_path: Path
) -> None:
    second = SecondCpu(tmp_path)
    second.fails.add("audio")
    moving = MoveUp(pool, [second], threads=1, tell=events.tell)
    moving.start()
    others = set(pool.snapshot.names) - {"audio"}
    until(lambda: {name for name in pool.snapshot.names if _backend(pool, name) == "second-cpu"} == others)
    time.sleep(0.5)  # it is not tried again and again
    moving.stop()
    moving.join(PATIENCE_S)
    failed = events.of(EventKind.MOVE_FAILED)
    assert len(failed) == 1
    assert "audio does not move to second-cpu" in failed[0]
    assert "this graph cannot be built" in failed[0]
    assert _backend(pool, "audio") == "cpu"


def test_other_answers_do_not_serve(pool: EnginePool, events: Events, tmp_path: Path) -> None:
    moving = MoveUp(pool, [SecondCpu(tmp_path, runner=Wrong)], threads=1, tell=events.tell)
    moving.start()
    until(lambda: len(moving._tried) == len(pool.snapshot.names) or "given up" in str(events))
    moving.stop()
    moving.join(PATIENCE_S)
    assert backends_of(pool) == {"cpu"}
    assert events.of(EventKind.MOVE_FAILED)


def test_a_lost_gpu_costs_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = SecondCpu(tmp_path, runner=Mortal)
    monkeypatch.setattr("edgeemo.session.session.better_than", lambda name: (second,))
    monkeypatch.setattr(Mortal, "lost", False)
    words = TextQueue()
    settings = {"hop_s": 0.1, "hold_s": 0.0}
    with Session(sensors=[words], engines=EngineOptions(subsets=("text",)), settings=settings) as session:
        session.start()
        words.push("I am so happy")
        until(lambda: session.read().backend == "second-cpu" and backends_of(session._pool) == {"second-cpu"})
        monkeypatch.setattr(Mortal, "lost", True)
        words.push("what a day")  # new words for the stem as well
        reading = session.read()
        assert reading.backend == "cpu"
        assert reading.subset == "text"
        kinds = [event.kind for event in session.events()]
    assert EventKind.ENGINE_SET_ASIDE in kinds


def test_a_backend_that_cannot_be_used_gives_its_reason_and_the_next_is_tried(
    pool: EnginePool, events: Events, tmp_path: Path
) -> None:
    first = SecondCpu(tmp_path, why_not="CUDA error 35: no driver")
    first.name = "rtx"
    moving = MoveUp(pool, [first, SecondCpu(tmp_path)], threads=1, tell=events.tell)
    moving.start()
    until(lambda: backends_of(pool) == {"second-cpu"})
    moving.stop()
    moving.join(PATIENCE_S)
    assert moving.rejected == {"rtx": "CUDA error 35: no driver"}


def test_a_backend_that_fails_twice_of_the_same_is_given_up_for_the_next(
    pool: EnginePool, events: Events, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    first = SecondCpu(tmp_path / "first")
    first.name = "rtx"
    first.fails |= set(pool.snapshot.names)
    moving = MoveUp(pool, [first, SecondCpu(tmp_path)], threads=1, tell=events.tell)
    moving.start()
    until(lambda: backends_of(pool) == {"second-cpu"})
    moving.stop()
    moving.join(PATIENCE_S)
    told = events.of(EventKind.MOVE_FAILED)
    assert len(told) == 2  # one for the engine, one for all the rest
    assert "rtx is given up" in told[1]
    assert "rtx" in moving.rejected


def test_closing_ends_a_build_under_way(pool: EnginePool, events: Events, tmp_path: Path) -> None:
    moving = MoveUp(pool, [SecondCpu(tmp_path, wait_s=10 * PATIENCE_S)], threads=1, tell=events.tell)
    moving.start()
    until(lambda: moving._child is not None)
    child = moving._child
    assert child is not None
    moving.stop()
    moving.join(PATIENCE_S)
    assert child.poll() is not None
    if sys.platform != "win32":
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)
    assert events == []


def test_a_session_serves_at_once_and_moves_up_without_losing_a_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = SecondCpu(tmp_path, wait_s=0.5)
    monkeypatch.setattr("edgeemo.session.session.better_than", lambda name: (second,))
    words = TextQueue()
    options = EngineOptions(subsets=("text",))
    settings = {"hop_s": 0.1, "hold_s": 0.0}
    backends: list[str] = []
    with Session(sensors=[words], engines=options, settings=settings) as session:
        begun = time.monotonic()
        readings = iter(session)
        words.push("I am so happy")
        for reading in readings:
            assert time.monotonic() - begun < PATIENCE_S
            if reading.backend is not None:
                backends.append(reading.backend)
            changed = [event for event in session.events() if event.kind is EventKind.ENGINE_CHANGED]
            if len(changed) == 2 and backends[-5:] == ["second-cpu"] * 5:
                break
        stats = session.stats()
    assert backends[0] == "cpu"  # before anything was built
    assert stats.hops + stats.late_hops >= len(backends)
    assert [event.detail["backend"] for event in changed] == ["second-cpu"] * 2  # the engine and its stem
    moved = backends.index("second-cpu")
    assert backends == ["cpu"] * moved + ["second-cpu"] * (len(backends) - moved)


def _backend(pool: EnginePool, name: str) -> str:
    runner = pool.snapshot.runner(name)
    return runner.backend if runner else ""
