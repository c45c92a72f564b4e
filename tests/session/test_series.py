"""A modality of one's own in a session: pushed or from its own sensor, followed, judged, lost and found."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from series_bundle import HEART, LABELS, MODALITIES, MOTION, with_front_end, write_bundle

from edgeemo.bundle import Bundle
from edgeemo.cli.main import main
from edgeemo.clock import VirtualClock
from edgeemo.errors import BundleError, InputError, SensorError, SubsetError
from edgeemo.features.series import series_items
from edgeemo.records import convert_record, header_from_manifest, open_recorder, read_records
from edgeemo.sensors import CallableSeries, Chunk, CsvSeries, sensor_from_spec
from edgeemo.sensors.drop import Drop, parse_drop
from edgeemo.session import Reading, Session, State


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("series") / "bundle")


@pytest.fixture
def session(bundle: Bundle) -> Iterator[Session]:
    with Session(bundle) as opened:
        yield opened


def table(path: Path, rows: list[tuple[float, float]]) -> Path:
    path.write_text("# made up\ntime_s,bpm\n" + "".join(f"{t},{bpm}\n" for t, bpm in rows))
    return path


def excitement(reading: Reading) -> float:
    """The second logit, which is the sum of the features of a window."""
    p = [reading.probabilities[label] for label in LABELS]
    return math.log(p[1] / p[0])


def test_a_pushed_heart_rate_is_read(session: Session) -> None:
    beats = [60.0, 65.0, 72.0, 80.0, 71.0]
    for second, bpm in enumerate(beats):
        session.push_series("heart_rate", bpm, time_s=float(second))
    reading = session.read(at_s=4.5)
    assert reading.subset == "heart_rate"
    assert reading.states["motion"].state is State.ABSENT
    assert reading.age_s == pytest.approx(1.5)  # the slot of the newest is not complete
    items = series_items(beats, np.arange(5.0), HEART)
    assert excitement(reading) == pytest.approx(float(items.sum()), abs=1e-4)


def test_several_channels_in_pieces_at_another_rate(session: Session) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(150, 3)).astype(np.float32)
    for start in range(0, 150, 50):
        session.push_series("motion", samples[start : start + 50], rate_hz=50, time_s=start / 50)
    reading = session.read(at_s=3.0)
    assert reading.subset == "motion"
    items = series_items(samples, np.arange(150) / 50, MOTION)
    blocks = items[: len(items) // 4 * 4][::2][-8:]  # the stem takes every second item, in blocks of four
    assert excitement(reading) == pytest.approx(float(blocks.sum()), abs=1e-4)


def replayed(bundle: Bundle, cuts: Callable[[int], int]) -> list[str]:
    """Readings of ten seconds of motion, with a gap, pushed in pieces of some size."""
    samples = np.random.default_rng(1).normal(size=(1000, 3))
    with Session(bundle) as session:
        found, start, hop = [], 0, 1
        while start < 1000:
            size = cuts(start)
            if start < 400:  # a piece never spans the gap
                size = min(size, 400 - start)
            at_s = start / 100 + (1.0 if start >= 400 else 0.0)
            while at_s >= hop * 0.5:
                found.append(json.dumps(session.read(at_s=hop * 0.5).to_json()))
                hop += 1
            session.push_series("motion", samples[start : start + size], rate_hz=100, time_s=at_s)
            start += size
        return found


@pytest.mark.parametrize("size", [1, 7, 33])
def test_readings_do_not_depend_on_the_chunks(bundle: Bundle, size: int) -> None:
    expected = replayed(bundle, lambda start: 10)
    got = replayed(bundle, lambda start: size)
    assert got == expected[: len(got)]
    assert sum('"motion"' in line for line in got) > 10


def test_a_silent_sensor_is_lost_and_nothing_of_it_remains(session: Session) -> None:
    for second in range(6):
        session.push_series("heart_rate", 120.0 + second, time_s=float(second))
    assert session.read(at_s=5.5).subset == "heart_rate"
    assert session.read(at_s=7.5).subset == "heart_rate"
    lost = session.read(at_s=8.0)
    assert lost.subset is None
    assert lost.states["heart_rate"].state is State.LOST
    assert lost.states["heart_rate"].why == "no data for 3.0 s"
    for second in range(20, 23):
        session.push_series("heart_rate", 70.0 + second / 100, time_s=float(second))
    back = session.read(at_s=22.4)
    assert back.states["heart_rate"].why == "filling: 2 of 2" or back.subset == "heart_rate"
    session.push_series("heart_rate", 70.5, time_s=23.0)
    again = session.read(at_s=23.1)
    assert again.subset == "heart_rate"
    assert abs(excitement(again)) < 1.0  # 70 beats are the mean: nothing of the 125 from before


def test_values_that_cannot_be_true_are_poor(session: Session) -> None:
    for second in range(5):
        session.push_series("heart_rate", 80.0 + second, time_s=float(second))
    session.push_series("heart_rate", 0.0, time_s=5.0)
    status = session.read(at_s=5.1).states["heart_rate"]
    assert status.state is State.POOR
    assert status.why == "0 cannot be true: it lies outside 30 to 220"


def test_a_value_that_never_changes_is_poor(session: Session) -> None:
    for second in range(11):
        session.push_series("heart_rate", 80.0, time_s=float(second))
        reading = session.read(at_s=second + 0.1)
        if 4 <= second <= 8:
            assert reading.subset == "heart_rate"
    status = reading.states["heart_rate"]
    assert status.state is State.POOR
    assert status.why == "the same 80 for 10.0 s: the sensor is stuck"
    session.push_series("heart_rate", 81.0, time_s=11.0)
    assert session.read(at_s=11.1).states["heart_rate"].state is State.QUIET  # filling anew


def test_bad_pushes_are_refused_and_nothing_is_lost(session: Session) -> None:
    session.push_series("heart_rate", 70.0, time_s=1.0)
    with pytest.raises(InputError, match="sample 0 of 1 is nan"):
        session.push_series("heart_rate", math.nan, time_s=2.0)
    with pytest.raises(InputError, match=r"heart_rate: time stamps go back, from 1\.000 s to 0\.500 s"):
        session.push_series("heart_rate", 70.0, time_s=0.5)
    with pytest.raises(
        InputError, match=r"at least 0\.33.* Hz, for the sensor counts as lost after 3 s; got 0\.1"
    ):
        session.push_series("heart_rate", [70.0, 71.0], rate_hz=0.1, time_s=2.0)
    with pytest.raises(InputError, match=r"shape \(N, 3\), got \(2,\)"):
        session.push_series("motion", [70.0, 71.0], time_s=2.0)
    with pytest.raises(SubsetError, match="no 'pulse'; its engines take: heart_rate, motion"):
        session.push_series("pulse", 70.0)
    session.push_series("heart_rate", np.zeros(0), time_s=1.5)
    for second in range(2, 5):
        session.push_series("heart_rate", 70.0, time_s=float(second))
    assert session.read(at_s=4.2).subset == "heart_rate"


def test_a_modality_of_another_kind_says_how_it_is_pushed() -> None:
    with (
        Session() as session,
        pytest.raises(InputError, match=r"video takes no series of numbers.*push_frame"),
    ):
        session.push_series("video", 1.0)


def test_without_a_time_the_last_sample_is_from_now(bundle: Bundle) -> None:
    clock = VirtualClock()
    with Session(bundle, clock=clock) as session:
        clock.advance(10.0)
        session.push_series("motion", np.random.default_rng(0).normal(size=(81, 3)), rate_hz=10)
        clock.advance(0.1)
        reading = session.read()
    assert reading.subset == "motion"
    assert reading.age_s == pytest.approx(0.2)  # the last but one completes the block


def test_blocks_end_where_hops_do_whenever_the_sensor_began(session: Session) -> None:
    samples = np.random.default_rng(0).normal(size=(184, 3))
    session.push_series("motion", samples, rate_hz=50, time_s=0.39)  # in the fourth slot of a block of four
    reading = session.read(at_s=4.05)
    assert reading.subset == "motion"
    assert reading.age_s == pytest.approx(4.05 - 3.99)


def test_a_long_piece_is_waited_for(session: Session) -> None:
    session.push_series("motion", np.random.default_rng(0).normal(size=(81, 3)), rate_hz=10, time_s=0.0)
    assert session.read(at_s=9.0).subset == "motion"  # 1 s is past its deadline, but its pieces take 8 s


def test_muting_and_resetting(session: Session) -> None:
    def push(first: int) -> None:
        for second in range(first, first + 4):
            session.push_series("heart_rate", 70.0 + second, time_s=float(second))

    push(0)
    session.mute("heart_rate")
    push(4)
    assert session.read(at_s=7.5).states["heart_rate"].state is State.MUTED
    session.unmute("heart_rate")
    assert session.read(at_s=7.6).subset is None
    push(8)
    assert session.read(at_s=11.4).subset == "heart_rate"
    session.reset()
    assert session.read(at_s=0.0).states["heart_rate"].state is State.ABSENT
    push(0)
    assert session.read(at_s=3.4).subset == "heart_rate"


def test_buffers_stay_small_where_nobody_reads(session: Session) -> None:
    for number in range(2000):
        session.push_series("motion", [[number, 0.0, 1.0]], time_s=number / 20)
    stream = session._core.stream("motion")
    assert len(stream._looks) < 60
    assert len(stream._grid._times) < 60
    assert session.read(at_s=100.0).subset == "motion"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"channels": 2}, r"a stem of scope 'stream' over float32 items \(2,\), got 'stream'.*\(1,\)"),
        ({"rate_hz": 4.0}, "a feature every 0.25 s, but its window counts 0.5 s"),
        ({"min_fill_s": 5.0}, "its window of 4 s can never be filled for 5 s"),
    ],
)
def test_a_modality_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    spec = with_front_end(MODALITIES[0], mean=[], std=[], low=[], high=[], **changes)
    with pytest.raises(BundleError, match=why):
        Session(write_bundle(tmp_path / "bundle", [spec]))


def test_a_table_is_played_and_its_end_is_a_loss(bundle: Bundle, tmp_path: Path) -> None:
    heart = CsvSeries(
        "heart_rate",
        table(tmp_path / "heart.csv", [(second, 60.0 + second) for second in range(8)]),
        connection="inline",
    )
    motion = table(tmp_path / "motion.csv", [])
    motion.write_text("time_s,z,x,y\n" + "".join(f"{n / 10},{n % 7},1,2\n" for n in range(60)))
    moving = CsvSeries("motion", motion, columns=["x", "y", "z"], connection="inline")
    with Session(bundle, sensors=[heart, moving], clock=VirtualClock()) as session:
        seen = [(r.time_s, r.subset, r.states) for r, _ in zip(session, range(24), strict=False)]
        stats = session.stats()
    subsets = {time_s: subset for time_s, subset, _ in seen}
    assert subsets[1.0] is None
    assert subsets[5.5] == "heart_rate+motion"
    assert subsets[6.5] == "heart_rate"
    assert subsets[12.0] is None
    assert seen[-1][2]["motion"].why == "motion of motion.csv has ended"
    assert stats.sensors["motion"].chunks == 60
    assert stats.swaps == 4


def test_a_rehearsed_failure_of_a_live_sensor(bundle: Bundle, tmp_path: Path) -> None:
    path = table(tmp_path / "heart.csv", [(n / 2, 60.0 + n) for n in range(60)])
    sensor = CsvSeries("heart_rate", path, connection="inline")
    drops = [parse_drop("heart_rate@6-10", ["heart_rate"])]
    with Session(bundle, sensors=[sensor], drops=drops, clock=VirtualClock()) as session:
        seen = {reading.time_s: reading for reading, _ in zip(session, range(30), strict=False)}
    assert [seen[at_s].subset for at_s in (5.5, 6.0, 9.5, 10.5)] == ["heart_rate", None, None, None]
    assert seen[6.0].states["heart_rate"].state is State.LOST
    why = "taken away from 6 to 10 s, to rehearse a failure"
    assert seen[9.5].states["heart_rate"].why == why
    assert seen[13.0].subset == "heart_rate"
    with pytest.raises(
        InputError, match="motion@1-2 takes away a sensor that was not given; there are: heart"
    ):
        Session(bundle, sensors=[sensor], drops=[Drop("motion", 1, 2)])
    with pytest.raises(InputError, match="drops rehearse failures of sensors or of a recording; give"):
        Session(bundle, drops=drops)


def test_a_muted_table_goes_on_where_it_would_be(bundle: Bundle, tmp_path: Path) -> None:
    path = table(tmp_path / "heart.csv", [(second, 60.0 + second) for second in range(20)])
    sensor = CsvSeries("heart_rate", path, connection="inline")
    with Session(bundle, sensors=[sensor], clock=VirtualClock()) as session:
        for reading in session:
            if reading.time_s == 5.0:
                session.mute("heart_rate")
                assert sensor.status.state == "absent"
            if reading.time_s == 10.0:
                session.unmute("heart_rate")
            if reading.time_s == 14.5:
                break
    assert reading.subset == "heart_rate"
    assert reading.age_s == pytest.approx(1.5)


def test_a_function_is_asked_again_and_again(bundle: Bundle) -> None:
    answers = iter([70.0, None, 75.0, 80.0])
    sensor = CallableSeries("heart_rate", lambda: next(answers), interval_s=0.01)
    taken: list[Chunk] = []
    with sensor:
        sensor.start(iter(np.arange(0.0, 1e4, 0.005)).__next__)
        while len(taken) < 3:
            taken += sensor.poll(1.0)
        while "StopIteration" not in sensor.status.why:
            sensor.poll(0.01)
    assert [chunk.array.tolist() for chunk in taken] == [[[70.0]], [[75.0]], [[80.0]]]
    assert {chunk.modality for chunk in taken} == {"heart_rate"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "needs a column 'time_s' in its first line; it has: none"),
        ("time_s\n1\n", "needs a column of values in its first line; it has: time_s"),
        ("seconds,bpm\n1,70\n", "needs a column 'time_s' in its first line; it has: seconds, bpm"),
        ("time_s,bpm\n", "no row of numbers"),
        ("time_s,bpm\n1,fast\n", "row 1: expected finite numbers, got '1,fast'"),
        ("time_s,bpm\n1,70\n2\n", "row 2: expected finite numbers, got '2'"),
        ("time_s,bpm\n1,nan\n", "row 1: expected finite numbers"),
        ("time_s,bpm\n2,70\n1,71\n", "row 2: times go back from 2 to 1 s"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "heart.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=why):
        CsvSeries("heart_rate", path)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        CsvSeries("heart_rate", tmp_path / "none.csv")
    (tmp_path / "sound.wav").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"sound\.wav is no comma-separated text"):
        CsvSeries("heart_rate", tmp_path / "sound.wav")
    with pytest.raises(InputError, match="video is no series of numbers"):
        CsvSeries("video", tmp_path / "none.csv")
    with pytest.raises(InputError, match="interval_s must be above 0 s, got 0"):
        CallableSeries("heart_rate", lambda: 1.0, interval_s=0)


def test_a_table_has_a_word(tmp_path: Path) -> None:
    path = table(tmp_path / "heart.csv", [(0, 70)])
    sensor = sensor_from_spec(f"csv:heart_rate={path}")
    assert (sensor.modality, sensor.name) == ("heart_rate", "heart_rate of heart.csv")
    with pytest.raises(SensorError, match="is written csv:MODALITY=FILE, got 'heart'"):
        sensor_from_spec("csv:heart")


def test_records_hold_it(bundle: Bundle, tmp_path: Path) -> None:
    with Session(bundle) as session:
        header = header_from_manifest(session.manifest, hop_s=session.hop_s)
        for name in ("record.jsonl", "record.parquet"):
            session.reset()
            for second in range(5):
                session.push_series("heart_rate", 70.0 + second, time_s=float(second))
            with open_recorder(tmp_path / name, header) as recorder:
                recorder.write(session.read(at_s=4.5))
            (kept,) = read_records(tmp_path / name)
            assert kept["subset"] == "heart_rate"
            assert kept["states"]["heart_rate"]["state"] == "live"
    convert_record(tmp_path / "record.jsonl", tmp_path / "record.xml")
    assert 'expressed-through="heart_rate"' in (tmp_path / "record.xml").read_text()


def test_the_command_line_knows_it(bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "heart.csv", [(n / 10, 60.0 + n) for n in range(100)])
    record = tmp_path / "record.jsonl"
    command = ["run", "--bundle", str(bundle.path), "--seconds", "4"]  # no device that the model cannot use
    assert main([*command, "--sensor", f"csv:heart_rate={path}", "--record", str(record)]) == 0
    head, *lines = capfd.readouterr().out.splitlines()[1:]
    assert head.split()[1:3] == ["H", "M"]
    assert "heart_rate.fp32" in lines[-1]
    assert "motion: no sensor was given for it" in lines[-1]
    assert main(["inspect", str(bundle.path)]) == 0
    assert "heart_rate: front-end series, items 1 float32" in capfd.readouterr().out
    assert main([*command, "--mic", "pattern", "--sensor", f"csv:heart_rate={path}"]) == 1
    assert "a sensor gives 'audio'; this model takes: heart_rate, motion" in capfd.readouterr().err


def test_labels_without_a_valence_are_drawn(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    record = tmp_path / "record.jsonl"
    with Session(bundle) as session:
        header = header_from_manifest(session.manifest, hop_s=session.hop_s)
        with open_recorder(record, header) as recorder:
            for second in range(1, 7):
                session.push_series("heart_rate", 70.0 + second, time_s=float(second))
                recorder.write(session.read(at_s=second + 0.5))
    assert main(["plot", str(record), "--out", str(tmp_path / "record.png")]) == 0
    assert (tmp_path / "record.png").stat().st_size > 10_000
