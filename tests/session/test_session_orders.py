"""Pushes, reads, mutes and resets in any order: a session never loses or invents anything.

Two sessions get the same data. One gets sound in the pieces that were drawn, and between them everything that
must be refused; the other gets it cut into other pieces, and nothing that is refused. They say the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from benchmarks.faults.recording import Recording, load_recording
from edgeemo.clock import VirtualClock
from edgeemo.errors import InputError, SubsetError
from edgeemo.session import EngineOptions, Reading, Session

INT8 = EngineOptions(variant="int8", backend="cpu")
MODALITIES = ("audio", "video", "text")
GAPS_S = (0.0, 0.0, 0.0, 0.15, 0.5, 3.0)  # none, one that is bridged, one that is not, one that is a loss
RATES_HZ = (16000, 8000)
BAD_SOUND: tuple[Any, ...] = (
    np.array([0.0, np.nan], np.float32),
    np.zeros((2, 2, 2), np.float32),
    np.array(["x"]),
    None,
)
BAD_FRAMES: tuple[Any, ...] = (np.zeros((4, 4, 3), np.float32), np.zeros((4,), np.uint8), None, "frame")


@cache
def recording() -> Recording:
    return load_recording()


@cache
def sessions() -> tuple[Session, Session, VirtualClock]:
    """Opened once: every example begins with a reset, which must leave nothing of the one before."""
    clock = VirtualClock(1000.0)
    return Session(engines=INT8, clock=clock), Session(engines=INT8, clock=clock), clock


@pytest.fixture(scope="module", autouse=True)
def closed_at_the_end() -> Iterator[None]:
    yield
    for session in sessions()[:2]:
        session.close()


class AnyOrder(RuleBasedStateMachine):
    """What an application may do, in any order."""

    @initialize()
    def begin(self) -> None:
        self.session, self.twin, self.clock = sessions()
        for name in MODALITIES:
            self.session.unmute(name)
            self.twin.unmute(name)
        self.reset()
        self.muted: set[str] = set()
        self.sample = self.frame_number = 0

    def note(self, name: str, newest_s: float) -> None:
        self.newest_s[name] = newest_s
        if name not in self.muted:
            self.pushed.add(name)

    def both(self, act: Callable[[Session], Any]) -> None:
        act(self.session)
        act(self.twin)

    @rule()
    def reset(self) -> None:
        self.both(lambda session: session.reset())
        self.newest_s = dict.fromkeys(MODALITIES, 0.0)  # no push lies before this
        self.read_s = 0.0
        self.readings: list[Reading] = []
        self.pushed: set[str] = set()  # since the reset, or since it was muted

    @rule(
        count=st.integers(1, 4800),
        gap_s=st.sampled_from(GAPS_S),
        rate_hz=st.sampled_from(RATES_HZ),
        cuts=st.lists(st.integers(0, 4800), max_size=4),
    )
    def push_sound(self, count: int, gap_s: float, rate_hz: int, cuts: list[int]) -> None:
        count = min(count, round(0.3 * rate_hz))  # longer pieces make a session more patient
        sound = recording().samples(self.sample, count)
        time_s = self.newest_s["audio"] + gap_s
        self.session.push_audio(sound, rate_hz=rate_hz, time_s=time_s)
        edges = sorted({0, count, *(cut % count for cut in cuts)})
        for start, stop in itertools.pairwise(edges):
            self.twin.push_audio(sound[start:stop], rate_hz=rate_hz, time_s=time_s + start / rate_hz)
        self.sample += count
        self.note("audio", time_s + count / rate_hz)

    @rule(cuts=st.lists(st.integers(0, 4800), max_size=4), behind=st.booleans(), nonsense=st.booleans())
    def let_a_face_talk(self, cuts: list[int], behind: bool, nonsense: bool) -> None:
        """A second and a half of everything, then a reading about its end or its middle."""
        for name in MODALITIES:
            self.newest_s[name] = max(self.newest_s.values())
        begun_s = self.newest_s["audio"]
        self.push_words(gap_s=0.0, text="I am so happy")
        for _ in range(5):
            self.push_sound(count=4800, gap_s=0.0, rate_hz=16000, cuts=cuts)
            self.push_frame(gap_s=0.3, black=False)
        if nonsense:
            self.push_at_times_that_are_refused(time_s=-1.0)
        at_s = max(self.read_s, begun_s + (0.75 if behind else 1.5))
        self.compare(self.session.read(at_s=at_s), self.twin.read(at_s=at_s))

    @rule(waits_s=st.lists(st.sampled_from((0.0, 0.01, 0.07)), min_size=2, max_size=6))
    def push_small_pieces_as_they_come(self, waits_s: list[float]) -> None:
        """Ten milliseconds at a time, by an application that is sometimes late."""
        for wait_s in waits_s:
            self.clock.advance(wait_s)
            self.push_sound_captured_now(count=160)

    @rule(gap_s=st.sampled_from((0.0, 0.1, 0.4, 2.0)), black=st.booleans())
    def push_frame(self, gap_s: float, black: bool) -> None:
        frame = recording().frame(self.frame_number)
        self.frame_number += 1
        time_s = self.newest_s["video"] + gap_s
        self.both(lambda session: session.push_frame(frame * (not black), time_s=time_s))
        self.note("video", time_s)

    @rule(gap_s=st.sampled_from((0.0, 0.5, 5.0, 20.0)), text=st.text(max_size=20) | st.just("I am so happy"))
    def push_words(self, gap_s: float, text: str) -> None:
        time_s = self.newest_s["text"] + gap_s
        self.both(lambda session: session.push_text(text, time_s=time_s))
        self.note("text", time_s)

    @rule(seconds=st.sampled_from((0.07, 0.26, 0.9, 4.1)))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(text=st.sampled_from(("so sad", "wow")))
    def push_words_said_now(self, text: str) -> None:
        self.both(lambda session: session.push_text(text))
        self.note("text", max(self.newest_s["text"], self.session.now_s))

    @rule(count=st.integers(1, 4800))
    def push_sound_captured_now(self, count: int) -> None:
        sound = recording().samples(self.sample, count)
        self.both(lambda session: session.push_audio(sound, rate_hz=16000))
        # Nobody said when; a later push goes on from what the session's clock can have made of it.
        self.note("audio", max(self.newest_s["audio"], self.session.now_s) + count / 16000)

    @rule(name=st.sampled_from(MODALITIES))
    def mute(self, name: str) -> None:
        self.both(lambda session: session.mute(name))
        self.muted.add(name)
        self.pushed.discard(name)

    @rule(name=st.sampled_from(MODALITIES))
    def unmute(self, name: str) -> None:
        self.both(lambda session: session.unmute(name))
        self.muted.discard(name)

    @rule(name=st.sampled_from(MODALITIES))
    def mute_for_a_moment(self, name: str) -> None:
        """What was pushed before does not count afterwards, however short it was."""
        self.let_a_face_talk(cuts=[], behind=False, nonsense=False)
        self.mute(name)
        self.unmute(name)
        self.read(ahead_s=0.0)

    @rule(ahead_s=st.sampled_from((0.0, 0.1, 0.5, 0.5, 2.0, 15.0)))
    def read(self, ahead_s: float) -> None:
        """Reads both, about the newest data or later."""
        at_s = max(self.read_s, *self.newest_s.values()) + ahead_s
        self.compare(self.session.read(at_s=at_s), self.twin.read(at_s=at_s))
        assert self.readings[-1].time_s == at_s

    @rule(share=st.floats(0.0, 1.0))
    def read_behind(self, share: float) -> None:
        """Reads both about a time before the newest data: what came later must not count."""
        at_s = self.read_s + share * max(0.0, max(self.newest_s.values()) - self.read_s)
        self.compare(self.session.read(at_s=at_s), self.twin.read(at_s=at_s))

    @rule()
    def read_now(self) -> None:
        self.compare(self.session.read(), self.twin.read())

    def compare(self, reading: Reading, other: Reading) -> None:
        assert reading.to_json() == other.to_json()
        assert reading.time_s >= self.read_s
        live = [name for name in MODALITIES if reading.states[name].state == "live"]
        assert reading.subset == ("+".join(live) or None)
        assert set(live) <= self.pushed
        if reading.subset is None:
            assert (reading.label, reading.confidence, dict(reading.probabilities)) == ("no signal", 0.0, {})
            assert (reading.age_s, reading.engine, reading.emotion) == (None, None, None)
        else:
            assert sum(reading.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
            assert reading.engine == f"{reading.subset}.int8"
            assert reading.age_s is not None
            assert 0.0 <= reading.age_s <= self.session.manifest.modality("text").window.window_s
        self.read_s = reading.time_s
        self.readings.append(reading)

    @rule(bad=st.sampled_from(range(len(BAD_SOUND))))
    def sound_that_is_refused(self, bad: int) -> None:
        with pytest.raises(InputError):
            self.session.push_audio(BAD_SOUND[bad], rate_hz=16000, time_s=self.newest_s["audio"])

    @rule(rate_hz=st.sampled_from((0, -1, None, "x", 44100.5, True)))
    def a_rate_that_is_refused(self, rate_hz: Any) -> None:
        with pytest.raises(InputError):
            self.session.push_audio(np.zeros(160, np.float32), rate_hz=rate_hz)

    @rule(bad=st.sampled_from(range(len(BAD_FRAMES))))
    @precondition(lambda self: "video" not in self.muted)
    def a_frame_that_is_refused(self, bad: int) -> None:
        with pytest.raises(InputError):
            self.session.push_frame(BAD_FRAMES[bad], time_s=self.newest_s["video"])

    @rule(time_s=st.sampled_from((-1.0, float("nan"), float("inf"), 1e12)))
    def push_at_times_that_are_refused(self, time_s: float) -> None:
        sound, frame = np.zeros(160, np.float32), recording().frame(0)
        pushes: dict[str, Callable[[], None]] = {
            "audio": lambda: self.session.push_audio(sound, rate_hz=16000, time_s=time_s),
            "video": lambda: self.session.push_frame(frame, time_s=time_s),
            "text": lambda: self.session.push_text("no", time_s=time_s),
        }
        for name, push in pushes.items():
            if name not in self.muted:  # what is muted is not looked at
                with pytest.raises(InputError):
                    push()

    @rule()
    @precondition(lambda self: self.newest_s["text"] > 0.01 and "text" in self.pushed)
    def words_from_before_are_refused(self) -> None:
        with pytest.raises(InputError, match="go back"):
            self.session.push_text("no", time_s=self.newest_s["text"] - 0.01)

    @rule()
    @precondition(lambda self: self.read_s > 0)
    def a_reading_about_the_past_is_refused(self) -> None:
        with pytest.raises(InputError, match="forward"):
            self.session.read(at_s=self.read_s - 0.01)

    @rule()
    def a_modality_that_is_not_there_is_refused(self) -> None:
        with pytest.raises(SubsetError, match="audio, video, text"):
            self.session.mute("smell")

    @invariant()
    def no_reading_is_lost(self) -> None:
        if hasattr(self, "readings"):
            assert self.session.stats().hops == len(self.readings)


AnyOrder.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # the same examples in every run
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase
