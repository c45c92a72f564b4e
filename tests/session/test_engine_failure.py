"""Engines and stems that fail in mid-run: the same hop is answered by the next best, and nobody is silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from failing_graphs import NAN, RAISES, WAYS, failing
from live_like import make_weights, write_live_like
from speaker import Speaker, told, wait_until

from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.errors import BackendError, BundleError, ReloadError
from edgeemo.runtimes import OrtRunner
from edgeemo.session import EngineOptions, EventKind, Session, State

FP32 = EngineOptions(variant="fp32")


@contextmanager
def speaking(
    folder: Path,
    ways: dict[str, str],
    *,
    variants: tuple[str, ...] = ("fp32",),
    options: EngineOptions = FP32,
    clock: Callable[[], float] | None = None,
) -> Iterator[Speaker]:
    bundle = write_live_like(folder / "bundle", variants=variants, change=failing(ways))
    with Session(bundle.path, engines=options, clock=clock) as session:
        yield Speaker(session)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_hop_is_answered_by_a_smaller_subset(tmp_path: Path, way: str) -> None:
    with speaking(tmp_path, {"audio+text.fp32": way}) as speaker:
        readings = [speaker.read() for _ in range(8)]
        assert [reading.subset for reading in readings] == ["text"] + ["audio"] * 7
        last = readings[-1]
        assert last.states["text"].state is State.LIVE
        assert "the engine of audio+text was set aside (fp32 on cpu: " in last.states["text"].why
        assert last.states["text"].why.endswith("audio serves")
        (event,) = told(speaker.session, EventKind.ENGINE_SET_ASIDE)
        assert "audio.fp32 on cpu answers" in event.message
        assert event.detail["engine"] == "audio+text"
        assert event.detail["answers"] == "audio.fp32 on cpu"
        expected = {RAISES: "Gather", NAN: "not finite in 'logits'"}[way]
        assert expected in event.detail["reason"]
        part = speaker.session.stats().pool.parts["audio+text"]
        assert part.state == "set aside"
        assert list(part.set_aside) == ["fp32 on cpu"]


@pytest.mark.parametrize("way", WAYS)
def test_another_variant_takes_over_once_it_is_open(tmp_path: Path, way: str) -> None:
    ways = {"audio+text.int8": way}
    options = EngineOptions(variant="int8")
    with speaking(tmp_path, ways, variants=("fp32", "int8"), options=options) as speaker:
        reading = speaker.read_until(lambda reading: reading.engine == "audio.int8")
        assert "is being opened; audio serves meanwhile" in reading.states["text"].why
        reading = speaker.read_until(lambda reading: reading.subset == "audio+text")
        assert reading.engine == "audio+text.fp32"
        (event,) = told(speaker.session, EventKind.ENGINE_CHANGED)
        assert event.detail["variant"] == "fp32"
        assert len(told(speaker.session, EventKind.ENGINE_SET_ASIDE)) == 1


def test_on_a_virtual_clock_the_same_hop_waits_for_the_other_variant(tmp_path: Path) -> None:
    ways = {"audio+text.int8": RAISES, "text.int8": NAN}
    options = EngineOptions(variant="int8")
    runs = []
    for run in range(2):
        with speaking(
            tmp_path / str(run), ways, variants=("fp32", "int8"), options=options, clock=VirtualClock()
        ) as speaker:
            runs.append([speaker.read() for _ in range(5)])
    engines = [reading.engine for reading in runs[0]]
    assert engines == ["text.fp32"] + ["audio+text.fp32"] * 4
    assert [reading.to_json() for reading in runs[0]] == [reading.to_json() for reading in runs[1]]


def test_with_everything_set_aside_there_is_no_signal_and_a_reason(tmp_path: Path) -> None:
    ways = {"text.fp32": RAISES, "audio.fp32": NAN, "audio+text.fp32": RAISES}
    with speaking(tmp_path, ways) as speaker:
        reading = speaker.read_until(lambda reading: reading.states["audio"].state is State.LIVE)
        assert not reading.has_signal
        assert reading.label == "no signal"
        for modality in ("audio", "text"):
            assert "was set aside" in reading.states[modality].why
            assert reading.states[modality].why.endswith("nothing else can serve")
        events = told(speaker.session, EventKind.ENGINE_SET_ASIDE)
        assert {event.detail["engine"] for event in events} == {"text", "audio", "audio+text"}
        assert all(event.detail["answers"] is None for event in events)
        assert speaker.session.stats().pool.set_aside == 3


def test_what_failed_is_tried_again_later_and_ever_more_seldom(tmp_path: Path) -> None:
    with speaking(tmp_path, {"text.fp32": RAISES}, clock=VirtualClock()) as speaker:
        session = speaker.session

        def failures_at(at_s: float) -> int:
            session.push_text("so happy", time_s=at_s)
            assert not session.read(at_s=at_s).has_signal
            return len(told(session, EventKind.ENGINE_SET_ASIDE))

        assert failures_at(1.0) == failures_at(60.0) == 1
        assert failures_at(62.0) == failures_at(180.0) == 2
        assert failures_at(183.0) == 3


@pytest.mark.parametrize("way", WAYS)
def test_a_stem_that_fails_takes_its_modality_out(tmp_path: Path, way: str) -> None:
    with speaking(tmp_path, {"stem.text.fp32": way}) as speaker:
        readings = [speaker.read() for _ in range(6)]
        assert [reading.subset for reading in readings] == [None] + ["audio"] * 5
        status = readings[-1].states["text"]
        assert status.state is State.LOST
        assert "its stem was set aside (fp32 on cpu: " in status.why
        (event,) = told(speaker.session, EventKind.ENGINE_SET_ASIDE)
        assert event.detail["engine"] == "stem.text"


@pytest.mark.parametrize("way", WAYS)
def test_another_variant_of_a_stem_takes_over(tmp_path: Path, way: str) -> None:
    ways = {"stem.text.int8": way}
    options = EngineOptions(variant="int8")
    with speaking(tmp_path, ways, variants=("fp32", "int8"), options=options) as speaker:
        first = speaker.read()
        assert first.states["text"].state is State.LOST
        assert "its stem failed" in first.states["text"].why
        reading = speaker.read_until(lambda reading: reading.subset == "audio+text")
        assert reading.states["text"].state is State.LIVE
        assert speaker.session.stats().pool.parts["stem.text"].variant == "fp32"


def test_features_of_a_broken_stem_never_count(tmp_path: Path) -> None:
    """While it is broken its stream gets zeros; none of them is in a window that an engine sees."""
    ways = {"stem.audio.int8": NAN}
    options = EngineOptions(variant="int8")
    with speaking(tmp_path, ways, variants=("fp32", "int8"), options=options) as speaker:
        reading = speaker.read_until(lambda reading: "audio" in (reading.subset or ""))
        features, mask = speaker.session._core.streams["audio"].window(reading.time_s)
        assert mask.sum() >= 10
        assert np.all(np.abs(features[mask > 0]).sum(axis=-1) > 0)


def test_a_stem_that_was_replaced_between_two_hops_still_costs_the_window(tmp_path: Path) -> None:
    ways = {"stem.audio.int8": NAN}
    options = EngineOptions(variant="int8")
    with speaking(tmp_path, ways, variants=("fp32", "int8"), options=options) as speaker:
        session = speaker.session
        for _ in range(11):  # a push runs the stem on what lies a window before it
            speaker.push_sound()
            speaker.hops += 1
        wait_until(lambda: session.stats().pool.parts["stem.audio"].variant == "fp32")
        status = session.read(at_s=2.0).states["audio"]
        assert status.state is State.LOST
        assert "its stem failed (int8 on cpu: " in status.why


def test_a_late_engine_whose_file_is_damaged_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    """Opened when it is wanted, by then its file is another; the other variant is opened in its place."""
    variants = ("fp32", "int8")
    options = EngineOptions(variant="int8", memory_budget_mb=0.001)
    with speaking(tmp_path, {}, variants=variants, options=options) as speaker:
        place = Bundle.open(tmp_path / "bundle").engine_path("text", "int8")
        data = bytearray(place.read_bytes())
        data[len(data) // 2] ^= 1
        place.write_bytes(data)
        speaker.sound = False
        reading = speaker.read_until(lambda reading: reading.has_signal)
        assert reading.engine == "text.fp32"
        (event,) = told(speaker.session, EventKind.ENGINE_SET_ASIDE)
        assert event.message.startswith("text could not be opened (int8 on cpu) and was set aside: ")
        assert "SHA-256" in event.message


def test_readings_go_on_while_engines_are_exchanged_all_the_time(tmp_path: Path) -> None:
    """Offers and reloads from two threads: every hop is answered, and nothing stays open."""
    folder = tmp_path / "bundle"
    weights = [make_weights(), make_weights()]
    weights[1]["head.text"] = weights[1]["head.text"] * np.float32(2)
    write_live_like(folder, weights=weights[0])
    made: list[OrtRunner] = []
    with Session(folder, engines=FP32) as session:

        def offer() -> None:
            for number in range(40):
                name = ("text", "audio+text")[number % 2]
                try:
                    graph = session._pool.snapshot.bundle.read_engine(name, "fp32")
                except BundleError:  # replaced and collected since
                    continue
                runner = OrtRunner(graph, engine=name, variant="fp32")
                made.append(runner)
                try:
                    session._pool.offer(name, runner, "it is newer")
                except (BackendError, ReloadError):
                    runner.close()

        def reload() -> None:
            for number in range(6):
                write_live_like(folder, weights=weights[(number + 1) % 2])
                session.reload().result(timeout=60)

        with ThreadPoolExecutor() as threads:
            busy = [threads.submit(offer), threads.submit(reload)]
            speaker = Speaker(session)
            readings = [speaker.read()]
            while not all(job.done() for job in busy) or len(readings) < 20:
                readings.append(speaker.read())
            for job in busy:
                job.result()
        assert all(reading.has_signal for reading in readings)
        assert told(session, EventKind.ENGINE_SET_ASIDE) == []
        assert session.stats().pool.exchanges > 6
        last = session._pool.snapshot
    assert all(runner.closed for runner in (*made, *last.runners()))
