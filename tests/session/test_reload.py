"""A running session takes over newer engines: no pause, no lost reading, no mixture, no half-way state."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live_like import LABELS, Weights, make_weights, write_live_like

from edgeemo.bundle import Bundle, BundleWriter, Manifest
from edgeemo.errors import BundleError, InputError, ReloadError, SessionClosedError
from edgeemo.sensors import MediaFile
from edgeemo.session import EngineOptions, Event, EventKind, Reading, Session
from edgeemo.session.engines.preload import open_snapshot
from edgeemo.session.events import EventLog
from edgeemo.shipped import RECORDING

FP32 = EngineOptions(variant="fp32")


def new_heads(seed: int) -> Weights:
    """The weights of seed 0 with other heads: engines change, stems do not."""
    return make_weights(0) | {name: a for name, a in make_weights(seed).items() if name.startswith("head.")}


def change_manifest(folder: Path, change: Callable[[Manifest], Manifest]) -> Bundle:
    with BundleWriter(folder) as writer:
        existing = writer.existing()
        assert existing is not None
        return writer.commit(change(existing.manifest))


def change_modality(folder: Path, name: str, **fields: object) -> Bundle:
    def changed(manifest: Manifest) -> Manifest:
        specs = (replace(m, **fields) if m.name == name else m for m in manifest.modalities)  # type: ignore[arg-type]  # any field
        return replace(manifest, modalities=tuple(specs))

    return change_manifest(folder, changed)


def reload_events(session: Session, *, after: int = 0) -> list[Event]:
    kinds = (EventKind.RELOADED, EventKind.RELOAD_FAILED)
    return [event for event in session.events(after=after) if event.kind in kinds]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_live_like(tmp_path / "bundle").path


@pytest.fixture
def session(folder: Path) -> Iterator[Session]:
    with Session(folder, engines=FP32) as opened:
        yield opened


def test_newer_engines_answer_about_what_was_seen_before(session: Session, folder: Path) -> None:
    def say(to: Session) -> None:
        to.push_text("I am so happy that you came", time_s=1.0)

    say(session)
    before = session.read(at_s=1.5)
    bundle = write_live_like(folder, weights=new_heads(1))
    assert session.read(at_s=2.0).probabilities == before.probabilities
    assert session.reload().result(timeout=60)
    after = session.read(at_s=2.5)
    assert after.subset == "text"
    with Session(folder, engines=FP32) as fresh:
        say(fresh)
        assert after.probabilities == fresh.read(at_s=2.5).probabilities != before.probabilities
    stats = session.stats()
    assert stats.manifest_sha256 == bundle.manifest_sha256
    assert (stats.reloads.reloads, stats.reloads.failed) == (1, 0)
    assert stats.reloads.swap_ms is not None
    assert stats.reloads.open_s is not None
    (event,) = reload_events(session)
    assert event.kind is EventKind.RELOADED
    assert "audio+video+text" in event.message
    assert reload_events(session, after=event.number) == []


def test_temperatures_come_with_the_engines(session: Session, folder: Path) -> None:
    session.push_text("I am so happy", time_s=1.0)
    before = session.read(at_s=1.5).confidence
    hotter = {"text": 15.0}
    change_manifest(
        folder,
        lambda manifest: replace(
            manifest,
            subsets={
                key: replace(spec, temperature=hotter.get(key, spec.temperature))
                for key, spec in manifest.subsets.items()
            },
        ),
    )
    assert session.reload().result(timeout=60)
    assert session.read(at_s=2.0).confidence < before
    assert "no engine" in reload_events(session)[-1].message


def test_nothing_new_is_no_reload(session: Session) -> None:
    assert not session.reload().result(timeout=60)
    assert reload_events(session) == []
    assert session.stats().reloads.reloads == 0
    assert session.stats().reloads.swap_ms is None


def test_only_what_changed_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_live_like(folder, variants=("fp32", "int8"))
    with Session(folder) as session:
        old = session._snapshot
        weights = make_weights(0)
        weights["head.text"] = weights["head.text"] * np.float32(2)
        write_live_like(folder, variants=("fp32", "int8"), weights=weights)
        assert session.reload().result(timeout=60)
        fresh = session._snapshot
        for modality, stem in fresh.stems.items():
            assert stem is old.stems[modality]
        for subset, engine in fresh.engines.items():
            touched = "text" in subset
            assert (engine is not old.engines[subset]) == touched
            assert old.engines[subset].closed == touched
            assert not engine.closed
            if touched:
                assert engine.variant == old.engines[subset].variant
                assert engine.choice is not None
                assert engine.choice.source == "kept"
    assert all(runner.closed for runner in fresh.runners())
    assert not len(fresh.held) + len(old.held)


REFUSED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "labels": (
        "the labels of the session's bundle: neutral, happy",
        lambda folder: change_manifest(folder, lambda m: replace(m, labels=tuple(reversed(LABELS)))),
    ),
    "hop": (
        r"the time between readings .* 0\.5 s; of the new one: 1 s",
        lambda folder: change_manifest(folder, lambda m: replace(m, hop_s=1.0)),
    ),
    "front-end": (
        r"the front-end of video .*'min_face': 0\.1.*'min_face': 0\.2",
        lambda folder: change_modality(
            folder,
            "video",
            front_end={**Bundle.open(folder).manifest.modality("video").front_end, "min_face": 0.2},
        ),
    ),
    "windows": (
        "windows or stem of audio",
        lambda folder: change_modality(
            folder,
            "audio",
            window=replace(Bundle.open(folder).manifest.modality("audio").window, window_s=3.0),
        ),
    ),
    "stems": (
        "the stem of audio",
        lambda folder: write_live_like(folder, weights=make_weights(1)),
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_and_the_old_engines_go_on(
    session: Session, folder: Path, what: str
) -> None:
    message, change = REFUSED[what]
    session.push_text("so happy", time_s=1.0)
    before = session.read(at_s=1.5)
    in_use = session.stats().manifest_sha256
    change(folder)
    with pytest.raises(ReloadError, match=message):
        session.reload().result(timeout=60)
    (event,) = reload_events(session)
    assert event.kind is EventKind.RELOAD_FAILED
    assert "the engines in use go on" in event.message
    assert session.read(at_s=2.0).probabilities == before.probabilities
    assert session.stats().manifest_sha256 == in_use
    assert session.stats().reloads.failed == 1


def test_fewer_modalities_are_refused(session: Session, folder: Path) -> None:
    def without_text(manifest: Manifest) -> Manifest:
        engines = {key: files for key, files in manifest.engines.items() if "text" not in key}
        stems = {name: files for name, files in manifest.stems.items() if name != "text"}
        used = {file for group in (engines, stems) for files in group.values() for file in files.values()}
        return replace(
            manifest,
            modalities=tuple(m for m in manifest.modalities if m.name != "text"),
            subsets={key: manifest.subsets[key] for key in engines},
            engines=engines,
            stems=stems,
            files={name: entry for name, entry in manifest.files.items() if name in used},
        )

    change_manifest(folder, without_text)
    with pytest.raises(
        ReloadError, match=r"the modalities .* audio, video, text; of the new one: audio, video"
    ):
        session.reload().result(timeout=60)


def test_a_damaged_engine_is_refused(session: Session, folder: Path) -> None:
    bundle = write_live_like(folder, weights=new_heads(1))
    place = bundle.engine_path("audio+text", "fp32")
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    held = len(session._snapshot.held)
    with pytest.raises(BundleError, match="SHA-256"):
        session.reload().result(timeout=60)
    assert "SHA-256" in reload_events(session)[-1].message
    assert not any(runner.closed for runner in session._snapshot.runners())
    assert len(session._snapshot.held) == held


def test_an_engine_that_is_not_finite_is_refused(session: Session, folder: Path) -> None:
    weights = new_heads(1)
    weights["head.video"] = weights["head.video"] * np.float32(np.inf)
    write_live_like(folder, weights=weights)
    with pytest.raises(ReloadError, match=r"not finite in '(evidence\.video|logits)'"):
        session.reload().result(timeout=60)
    assert reload_events(session)[-1].kind is EventKind.RELOAD_FAILED


def test_a_bundle_that_went_away_is_an_event(session: Session, folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match="no manifest"):
        session.reload().result(timeout=60)
    assert session.read(at_s=1.0).label == "no signal"
    assert [event.kind for event in reload_events(session)] == [EventKind.RELOAD_FAILED]


def readings(folder: Path) -> list[Reading]:
    with Session(folder, media=RECORDING, engines=FP32) as session:
        return list(session)


def test_no_reading_is_lost_and_each_is_of_one_state(tmp_path: Path) -> None:
    """Reloads go on all the time while a recording is replayed; temperatures and engines differ."""
    folders = [
        write_live_like(tmp_path / "0").path,
        write_live_like(tmp_path / "1", weights=new_heads(1)).path,
    ]
    for key in (0, 1):
        change_manifest(
            folders[key],
            lambda m, key=key: replace(  # type: ignore[misc]  # the default binds the loop's value
                m, subsets={name: replace(s, temperature=1.0 + key) for name, s in m.subsets.items()}
            ),
        )
    expected = [{r.time_s: (r.subset, r.probabilities) for r in readings(folder)} for folder in folders]
    manifests = [(folder / "manifest.json").read_bytes() for folder in folders]
    both = folders[0]
    for place in folders[1].glob("graphs/*"):
        (both / "graphs" / place.name).write_bytes(place.read_bytes())
    seen = []
    with Session(both, media=MediaFile(RECORDING, chunk_s=0.05), engines=FP32) as session:
        for number, reading in enumerate(session):
            at = reading.time_s
            seen.append(at)
            state = [(reading.subset, reading.probabilities) == each[at] for each in expected]
            assert any(state), f"at {at} s: of neither state"
            if number % 3 == 0:
                # The reload of the last turn may still be under way, in the middle of the next hops.
                temporary = both / "manifest.new"
                temporary.write_bytes(manifests[number // 3 % 2 - 1])
                temporary.replace(both / "manifest.json")
                session.reload()
        session.reload().result(timeout=60)
        assert session.stats().reloads.reloads > 2
        assert session.stats().reloads.failed == 0
        assert session.stats().late_hops == 0
    assert seen == sorted(expected[0])


def test_the_hop_goes_on_while_engines_are_opened(
    session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening is held up for as long as the test likes; readings do not notice."""
    go_on = threading.Event()

    def slowly(*args: object, **kwargs: object) -> object:
        go_on.wait(60)
        return open_snapshot(*args, **kwargs)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr("edgeemo.session.engines.reload.open_snapshot", slowly)
    write_live_like(folder, weights=new_heads(1))
    session.push_text("so happy", time_s=1.0)
    before = session.read(at_s=1.0).probabilities
    future = session.reload()
    for tick in range(1, 20):
        assert session.read(at_s=1.0 + tick / 10).probabilities == before
    assert not future.done()
    go_on.set()
    assert future.result(timeout=60)
    assert session.read(at_s=4.0).probabilities != before


def test_closing_ends_a_reload_under_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(folder, engines=FP32)
    opening, go_on = threading.Event(), threading.Event()
    opened = []

    def slowly(*args: object, **kwargs: object) -> object:
        opening.set()
        go_on.wait(60)
        opened.append(open_snapshot(*args, **kwargs))  # type: ignore[arg-type]  # passed through
        return opened[-1]

    monkeypatch.setattr("edgeemo.session.engines.reload.open_snapshot", slowly)
    write_live_like(folder, weights=new_heads(1))
    future = session.reload()
    assert opening.wait(60)
    closing = threading.Thread(target=session.close)
    closing.start()
    while not session._closed.is_set():
        time.sleep(0.001)
    go_on.set()
    closing.join(60)
    with pytest.raises(SessionClosedError):
        future.result(timeout=60)
    assert all(runner.closed for runner in (*opened[0].runners(), *session._snapshot.runners()))
    with pytest.raises(SessionClosedError):
        session.reload()
    assert reload_events(session) == []


def test_reloads_follow_one_another(session: Session, folder: Path) -> None:
    write_live_like(folder, weights=new_heads(1))
    futures: list[Future[bool]] = [session.reload() for _ in range(5)]
    assert sum(future.result(timeout=60) for future in futures) == 1


def test_a_commit_while_it_opens_is_followed(
    session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commits between reading the manifest and opening: the files it names are gone by then."""
    states = iter((2, 3))

    def late(bundle: Bundle, *args: object, **kwargs: object) -> object:
        for seed in states:
            write_live_like(folder, weights=new_heads(seed))
        return open_snapshot(bundle, *args, **kwargs)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr("edgeemo.session.engines.reload.open_snapshot", late)
    write_live_like(folder, weights=new_heads(1))
    assert session.reload().result(timeout=60)
    assert session.stats().manifest_sha256 == Bundle.open(folder).manifest_sha256


def test_a_session_opens_a_bundle_that_is_being_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter((1, 2))

    def late(*args: object, **kwargs: object) -> object:
        for seed in states:
            write_live_like(folder, weights=new_heads(seed))
        return open_snapshot(*args, **kwargs)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr("edgeemo.session.session.open_snapshot", late)
    with Session(folder, engines=FP32) as session:
        assert session.stats().manifest_sha256 == Bundle.open(folder).manifest_sha256


def test_a_watched_bundle_is_taken_over(session: Session, folder: Path) -> None:
    session.watch(every_s=0.01)
    session.watch(every_s=0.01)
    for number, seed in enumerate((1, 2), 1):
        bundle = write_live_like(folder, weights=new_heads(seed))
        wait_until(lambda number=number: len(reload_events(session)) == number)  # type: ignore[misc]  # as above
        assert session.stats().manifest_sha256 == bundle.manifest_sha256
    (folder / "manifest.json").unlink()
    wait_until(lambda: reload_events(session)[-1].kind is EventKind.RELOAD_FAILED)


def wait_until(done: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_a_watch_without_a_pause_is_refused(session: Session) -> None:
    for every_s in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive"):
            session.watch(every_s=every_s)


def test_a_change_before_the_watch_is_seen(session: Session, folder: Path) -> None:
    bundle = write_live_like(folder, weights=new_heads(1))
    session.watch(every_s=60.0)
    wait_until(lambda: len(reload_events(session)) == 1)
    assert session.stats().manifest_sha256 == bundle.manifest_sha256


def test_what_a_session_has_open_is_not_collected(folder: Path) -> None:
    first = set(Bundle.open(folder).manifest.files)
    with Session(folder, engines=FP32):
        for seed in (1, 2, 3):
            write_live_like(folder, weights=new_heads(seed))
        assert all((folder / name).is_file() for name in first)
    write_live_like(folder, weights=new_heads(4))
    engines = {name for name in first if "stem" not in name}
    assert not any((folder / name).exists() for name in engines)


def test_events_are_numbered_and_bounded() -> None:
    log = EventLog(kept=3)
    for number in range(5):
        log.add(EventKind.RELOADED, str(number), time_s=float(number))
    assert [event.number for event in log.after(0)] == [3, 4, 5]
    assert [event.number for event in log.after(4)] == [5]
    assert log.after(5) == ()
    assert log.after(4)[0].to_json() == {
        "number": 5,
        "time_s": 4.0,
        "kind": "reloaded",
        "message": "4",
        "detail": {},
    }


def test_an_event_tells_programs_in_plain_data_what_its_sentence_tells_people() -> None:
    detail: dict[str, object] = {"from": "neutral", "to": None}
    event = EventLog().add(EventKind.MOOD_CHANGED, "the mood faded", time_s=1.5, detail=detail)
    detail["to"] = "changed afterwards"
    assert json.loads(json.dumps(event.to_json())) == {
        "number": 1,
        "time_s": 1.5,
        "kind": "mood_changed",
        "message": "the mood faded",
        "detail": {"from": "neutral", "to": None},
    }


def test_a_storm_of_one_kind_pushes_out_no_other() -> None:
    log = EventLog(kept=4)
    log.add(EventKind.ENGINE_SET_ASIDE, "gone", time_s=0.0)
    for number in range(50):
        log.add(EventKind.STATE_CHANGED, str(number), time_s=1.0)
    assert [event.number for event in log.after(0)] == [1, 48, 49, 50, 51]
