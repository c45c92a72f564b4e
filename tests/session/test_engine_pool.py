"""Engines within a memory budget, opened when wanted, offered from outside, closed in good time."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from failing_graphs import RAISES, WRONG, break_graph, failing
from live_like import make_weights, write_live_like
from speaker import Speaker, told, wait_until

from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.errors import BackendError, InputError, ReloadError, SessionClosedError
from edgeemo.runtimes import OrtRunner
from edgeemo.session import EngineOptions, EventKind, Session, State
from edgeemo.session.engines.memory import Footprints
from edgeemo.session.engines.options import EngineOptions as Options
from edgeemo.session.engines.pool import EnginePool
from edgeemo.session.engines.preload import open_part, open_snapshot, preload_order
from edgeemo.session.engines.roster import Roster
from edgeemo.shipped import DEFAULT_BUNDLE, RECORDING

SINGLES = ("audio", "video", "text")
ALL = (*SINGLES, "audio+video", "audio+text", "video+text", "audio+video+text")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_live_like(tmp_path / "bundle")


def megabytes(bundle: Bundle, *subsets: str) -> float:
    """What the stems and some engines are estimated to take, and a little more."""
    footprints, manifest = Footprints(), bundle.manifest
    files = [*(files["fp32"] for files in manifest.stems.values())]
    files += [manifest.engines[subset]["fp32"] for subset in subsets]
    return (sum(footprints.estimate_bytes(bundle, file, "fp32") for file in files) + 1) / 1e6


def options(bundle: Bundle, *subsets: str) -> EngineOptions:
    return EngineOptions(variant="fp32", memory_budget_mb=megabytes(bundle, *subsets))


def states(session: Session) -> dict[str, str]:
    parts = session.stats().pool.parts
    return {name: part.state for name, part in parts.items() if not name.startswith("stem.")}


def test_singles_come_first_then_the_largest_then_pairs() -> None:
    assert preload_order(ALL) == (*SINGLES, ALL[-1], *ALL[3:6])
    assert preload_order(("audio",)) == ("audio",)


def test_without_a_budget_everything_is_open(bundle: Bundle) -> None:
    with Session(bundle, engines=EngineOptions(variant="fp32")) as session:
        assert set(states(session).values()) == {"warm"}
        assert session.stats().pool.memory_budget_mb is None
        assert session.stats().pool.exchanges == 0


@pytest.mark.parametrize(
    ("room", "warm"),
    [
        ((*SINGLES, ALL[-1]), {*SINGLES, ALL[-1]}),
        (SINGLES, set(SINGLES)),
        (("audio", "video"), {"audio", "video"}),
        (ALL, set(ALL)),
    ],
)
def test_what_is_open_fits_the_budget(bundle: Bundle, room: tuple[str, ...], warm: set[str]) -> None:
    chosen = options(bundle, *room)
    with Session(bundle, engines=chosen) as session:
        assert {name for name, state in states(session).items() if state == "warm"} == warm
        stats = session.stats().pool
        assert stats.memory_budget_mb == chosen.memory_budget_mb
        assert session._pool._roster.used_bytes() <= chosen.memory_budget_bytes
        assert all(part.state == "warm" for name, part in stats.parts.items() if name.startswith("stem."))


def test_a_cold_engine_opens_beside_the_hops_and_then_serves(bundle: Bundle) -> None:
    with Session(bundle, engines=options(bundle, *SINGLES, "audio+video")) as session:
        assert states(session)["audio+text"] == "cold"
        speaker = Speaker(session)
        reading = speaker.read_until(lambda reading: reading.states["audio"].state is State.LIVE)
        assert reading.subset == "audio"
        note = "live, but the engine of audio+text is being opened; audio serves meanwhile"
        assert reading.states["text"].why == note
        assert reading.states["audio"].why == ""
        reading = speaker.read_until(lambda reading: reading.subset == "audio+text")
        assert reading.states["text"].why == ""
        (event,) = told(session, EventKind.ENGINE_CHANGED)
        assert event.detail["engine"] == "audio+text"
        assert (session.stats().pool.opened, session.stats().pool.evicted) == (1, 1)
        assert states(session)["audio+video"] == "cold"
        assert threads("edgeemo-engines") == 1
    assert threads("edgeemo-engines") == 0


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def test_the_least_recently_used_engine_goes(bundle: Bundle) -> None:
    room = replace(options(bundle, *SINGLES, "audio+video", "video+text"), subsets=ALL[:-1])
    roster = Roster(open_snapshot(bundle, room), room)

    def used(subset: str) -> None:
        if roster.snapshot.runner(subset) is None:
            roster.install(subset, open_part(bundle, subset, room))
        roster.answered(subset)
        assert roster.used_bytes() <= room.memory_budget_bytes

    def gone_for(subset: str) -> list[str]:
        gone = roster.room_for(subset)
        for runner in gone:
            runner.close()
        return [runner.engine for runner in gone]

    used("audio+video")
    used("audio+text")
    assert gone_for("video+text") == ["audio+video"]
    used("video+text")
    used("audio+text")
    assert gone_for("audio+video") == ["video+text"]
    used("audio+video")
    assert set(roster.snapshot.engines) == {*SINGLES, "audio+text", "audio+video"}
    roster.snapshot.close()


def test_what_answered_last_serves_on_and_singles_go_last(bundle: Bundle) -> None:
    room = options(bundle, *SINGLES, "audio+video")
    roster = Roster(open_snapshot(bundle, room), room)
    roster.answered("audio+video")
    roster.answered("text")
    (gone,) = roster.room_for("audio+text")
    assert gone.engine == "audio+video"
    gone.close()
    everything = round(room.memory_budget_bytes)
    singles = roster.make_room("audio+text", needed=everything)
    assert [runner.engine for runner in singles] == ["audio", "video"]
    for runner in singles:
        runner.close()
    roster.snapshot.close()


def test_a_budget_for_less_than_one_engine_keeps_one(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        Session(bundle, engines=EngineOptions(variant="fp32", memory_budget_mb=0.001)) as session,
    ):
        assert "the memory budget of 0.001 MB is too small for the stems and one engine" in caplog.text
        assert [name for name, state in states(session).items() if state == "warm"] == ["audio"]
        speaker = Speaker(session)
        speaker.sound = False
        first = speaker.read()
        assert first.label == "no signal"
        assert first.states["text"].why == (
            "live, but the engine of text is being opened; nothing else can serve meanwhile"
        )
        speaker.read_until(lambda reading: reading.subset == "text")
        wait_until(lambda: states(session)["audio"] != "warm")
        assert session.stats().pool.evicted == 1
        speaker.sound = True
        reading = speaker.read_until(lambda reading: reading.states["audio"].state is State.LIVE)
        assert reading.subset == "text"
        assert "the engine of audio+text does not fit the memory budget" in reading.states["audio"].why


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="memory_budget_mb must be"):
        EngineOptions(memory_budget_mb=budget)


def test_a_recording_gives_the_same_readings_within_any_budget(bundle: Bundle) -> None:
    def readings(chosen: EngineOptions) -> list[tuple[float, str | None, dict[str, float]]]:
        with Session(bundle, media=RECORDING, engines=chosen) as session:
            found = [(r.time_s, r.subset, dict(r.probabilities)) for r in session]
            assert session.stats().pool.opened == 0 or chosen.memory_budget_mb is not None
            return found

    assert readings(options(bundle, *SINGLES)) != []
    room = options(bundle, *SINGLES, ALL[-1])
    assert readings(room) == readings(EngineOptions(variant="fp32"))


def offered(bundle: Bundle, subset: str, way: str | None = None) -> OrtRunner:
    """An engine as another backend would have it."""
    graph = bundle.read_engine(subset, "fp32").model
    runner = OrtRunner(graph if way is None else break_graph(graph, way), engine=subset, variant="fp32")
    runner.backend = "other"
    return runner


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    with Session(bundle, engines=EngineOptions(variant="fp32")) as opened:
        yield opened


def test_an_engine_of_another_backend_takes_over_between_two_hops(bundle: Bundle, session: Session) -> None:
    speaker = Speaker(session)
    before = speaker.read_until(lambda reading: reading.subset == "audio+text")
    session._pool.offer("audio+text", offered(bundle, "audio+text"), "it is ten times as fast")
    after = speaker.read()
    assert (before.backend, after.backend) == ("cpu", "other")
    (event,) = told(session, EventKind.ENGINE_CHANGED)
    assert event.message.endswith("serves from the next reading on: it is ten times as fast")
    assert event.detail["before"] == "audio+text.fp32 on cpu"
    part = session.stats().pool.parts["audio+text"]
    assert (part.backend, part.standby) == ("other", ("fp32 on cpu",))


def test_what_stood_by_answers_the_hop_in_which_the_offered_engine_fails(
    bundle: Bundle, session: Session
) -> None:
    speaker = Speaker(session)
    speaker.read_until(lambda reading: reading.subset == "audio+text")
    failing_one = offered(bundle, "audio+text", RAISES)
    # On full windows it answers right, and this bundle has no reference windows but such.
    session._pool.offer("audio+text", failing_one, "faster")
    reading = speaker.read()
    assert (reading.subset, reading.backend) == ("audio+text", "cpu")
    (event,) = told(session, EventKind.ENGINE_SET_ASIDE)
    assert event.detail["backend"] == "other"
    assert event.detail["answers"] == "audio+text.fp32 on cpu"
    wait_until(lambda: failing_one.closed)


def test_other_answers_are_refused(bundle: Bundle, session: Session) -> None:
    wrong = offered(bundle, "audio", WRONG)
    with pytest.raises(BackendError, match=r"it gives other answers: it differs by \d+\.\d+% \(rms\)"):
        session._pool.offer("audio", wrong, "faster")
    assert not wrong.closed
    wrong.close()
    with pytest.raises(BackendError, match="was not taken"):
        session._pool.offer("audio", wrong, "faster")
    with pytest.raises(ReloadError, match=r"no 'smell' in use here; there are: stem\.audio"):
        session._pool.offer("smell", wrong, "faster")
    assert session.stats().pool.parts["audio"].backend == "cpu"
    assert told(session, EventKind.ENGINE_CHANGED) == []


def test_answers_are_compared_on_the_reference_windows() -> None:
    """The shipped fp16 engines pass for the int8 ones, features of half as much again do not."""
    bundle = Bundle.open(DEFAULT_BUNDLE)
    with Session(bundle, engines=EngineOptions(variant="int8")) as session:
        for name in ("audio+video+text", "stem.audio"):
            runner = open_part(bundle, name, Options(variant="fp16"))
            session._pool.offer(name, runner, "more exact")
            assert session.stats().pool.parts[name].variant == "fp16"
        other = open_part(bundle, "stem.audio", Options(variant="fp16"))
        run = other.run
        other.run = lambda feed: {name: 1.5 * array for name, array in run(feed).items()}  # type: ignore[method-assign]
        with pytest.raises(BackendError, match=r"it gives other answers: it differs by (49|50|51)\.\d+%"):
            session._pool.offer("stem.audio", other, "faster")
        other.close()


def test_an_offer_to_a_closed_session_is_refused(bundle: Bundle) -> None:
    session = Session(bundle, engines=EngineOptions(variant="fp32"))
    session.close()
    with offered(bundle, "audio") as runner, pytest.raises(SessionClosedError):
        session._pool.offer("audio", runner, "faster")


def test_an_offered_engine_outlives_a_reload_of_others_and_goes_with_its_own(
    tmp_path: Path, bundle: Bundle, session: Session
) -> None:
    for subset in ("audio", "text"):
        session._pool.offer(subset, offered(bundle, subset), "faster")
    weights = make_weights()
    weights["head.text"] = weights["head.text"] * np.float32(2)
    fresh = write_live_like(tmp_path / "bundle", weights=weights)
    with Session(bundle.path, engines=EngineOptions(variant="fp32")):
        assert session.reload().result(timeout=60)
    parts = session.stats().pool.parts
    assert (parts["audio"].backend, parts["audio"].standby) == ("other", ("fp32 on cpu",))
    assert (parts["text"].backend, parts["text"].standby) == ("cpu", ())
    with offered(fresh, "text") as old:
        session._pool.offer("text", old, "faster")
        assert session.stats().pool.parts["text"].backend == "other"


def test_what_opens_after_a_reload_is_of_the_newer_bundle(tmp_path: Path, bundle: Bundle) -> None:
    with Session(bundle.path, engines=options(bundle, *SINGLES, "audio+video")) as session:
        weights = make_weights(0) | {name: a for name, a in make_weights(1).items() if "head" in name}
        fresh = write_live_like(tmp_path / "bundle", weights=weights)
        write_live_like(tmp_path / "bundle", weights=make_weights(0) | {"head.text": weights["head.text"]})
        write_live_like(tmp_path / "bundle", weights=weights)
        assert session.reload().result(timeout=60)
        assert states(session)["audio+text"] == "cold"
        assert all((bundle.path / name).exists() for name in fresh.manifest.files)
        speaker = Speaker(session)
        reading = speaker.read_until(lambda reading: reading.subset == "audio+text")
        with Session(fresh, engines=EngineOptions(variant="fp32"), clock=VirtualClock()) as other:
            twin = Speaker(other)
            while twin.hops < speaker.hops:
                expected = twin.read()
        assert reading.probabilities == expected.probabilities


def test_a_reload_gives_what_was_set_aside_a_fresh_chance(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_live_like(folder, change=failing({"text.fp32": RAISES}))
    with Session(folder, engines=EngineOptions(variant="fp32")) as session:
        speaker = Speaker(session)
        speaker.sound = False
        assert not speaker.read().has_signal
        assert states(session)["text"] == "set aside"
        write_live_like(folder)
        assert session.reload().result(timeout=60)
        assert speaker.read().subset == "text"


def test_closing_while_an_engine_opens_leaves_nothing_open(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening is held up for longer than closing waits; what it opens is closed all the same."""
    opening, go_on, opened = threading.Event(), threading.Event(), []

    def slowly(*args: object, **kwargs: object) -> object:
        opening.set()
        go_on.wait(60)
        opened.append(open_part(*args, **kwargs))  # type: ignore[arg-type]  # passed through
        return opened[-1]

    monkeypatch.setattr("edgeemo.session.engines.opener.open_part", slowly)
    session = Session(bundle, engines=options(bundle, *SINGLES, "audio+video"))
    speaker = Speaker(session)
    speaker.read_until(lambda reading: reading.subset == "audio")
    assert opening.wait(60)
    held = session._pool.snapshot
    begun_s = time.monotonic()
    session.close()
    assert time.monotonic() - begun_s < 10
    assert all(runner.closed for runner in held.runners())
    go_on.set()
    wait_until(lambda: threads("edgeemo-engines") == 0)
    assert [runner.closed for runner in opened] == [True]


def test_what_stood_by_goes_first_where_an_offered_engine_needs_the_room(bundle: Bundle) -> None:
    with Session(bundle, engines=options(bundle, *SINGLES)) as session:
        before = session._pool.snapshot.engines["text"]
        session._pool.offer("text", offered(bundle, "text"), "faster")
        wait_until(lambda: before.closed)
        part = session.stats().pool.parts["text"]
        assert (part.backend, part.standby) == ("other", ())
        assert session.stats().pool.evicted == 1


def test_what_was_offered_or_failed_while_a_reload_opened_stays_so(tmp_path: Path, bundle: Bundle) -> None:
    chosen = EngineOptions(variant="fp32")
    snapshot = open_snapshot(bundle, chosen)
    pool = EnginePool(snapshot, chosen)
    weights = make_weights()
    weights["head.text"] = weights["head.text"] * np.float32(2)
    fresh = open_snapshot(write_live_like(tmp_path / "new", weights=weights), chosen, instead_of=snapshot)
    pool.offer("audio", offered(bundle, "audio"), "faster")
    video = snapshot.engines["video"]
    pool._roster.fail("video", video, "it was made to")
    video.close()
    pool.exchange(fresh)
    assert [runner.backend for runner in pool.snapshot.of("audio")] == ["other", "cpu"]
    assert pool.snapshot.runner("video") is None
    assert pool.stats().parts["video"].state == "set aside"
    pool.close()
    assert all(runner.closed for runner in (*fresh.runners(), *pool.snapshot.runners()))
    assert len(snapshot.held) == len(fresh.held) == 0


# What was written to: pages of libraries count as a process's own or not, as others run that have them too.
GROWTH = """
import logging, re
from pathlib import Path
logging.disable(logging.WARNING)
from edgeemo.runtimes.ort import load_onnxruntime
from edgeemo.session import EngineOptions, Session
from edgeemo.session.engines.attempt import warm
def written():
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(re.search(r"Private_Dirty: +([0-9]+) kB", text)[1])
load_onnxruntime()
before = written()
with Session(engines=EngineOptions(variant="int8")) as session:
    for runner in session._pool.snapshot.runners():
        warm(runner, session.manifest.labels)
    print(written() - before, session._pool._roster.used_bytes())
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux: /proc")
def test_estimates_are_what_a_process_really_takes() -> None:
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    grown, estimated = map(int, done.stdout.split())
    assert 0.8 < grown / estimated < 1.4
