"""Leaving is immediate, joining waits, and nothing from before a loss counts after it."""

from __future__ import annotations

import numpy as np

from edgeemo.session.judge import Judge
from edgeemo.session.states import Outage, State
from edgeemo.session.streams.base import USABLE, Stream, Usability
from edgeemo.windows import Float32

DEADLINE_S, HOLD_S, NEEDED = 0.5, 0.25, 1.0


class Plain(Stream):
    """A stream whose answers the test sets."""

    modality = "audio"

    def __init__(self) -> None:
        self.newest_s: float | None = None
        self.verdict = USABLE
        self.filled = 2.0
        self.forgotten = 0

    def advance(self, at_s: float) -> None: ...

    def usability(self, at_s: float) -> Usability:
        return self.verdict

    def fill(self, at_s: float) -> tuple[float, float]:
        return self.filled, NEEDED

    def window(self, at_s: float) -> tuple[Float32, Float32]:
        return np.zeros((1, 1, 1), np.float32), np.zeros((1, 1), np.float32)

    def evidence_s(self, at_s: float) -> float | None:
        return self.newest_s

    def forget(self) -> None:
        self.forgotten += 1

    def reset(self) -> None: ...


def judged(stream: Plain, judge: Judge, at_s: float, outage: Outage | None = None) -> State:
    return judge.judge(at_s, outage).state


def start() -> tuple[Plain, Judge]:
    stream = Plain()
    return stream, Judge(stream, deadline_s=DEADLINE_S, hold_s=HOLD_S)


def test_before_the_first_data_it_is_absent() -> None:
    stream, judge = start()
    assert judged(stream, judge, 0.5) is State.ABSENT


def test_it_joins_once_the_window_is_filled() -> None:
    stream, judge = start()
    stream.newest_s, stream.filled = 0.5, 0.5
    assert judged(stream, judge, 0.5) is State.QUIET
    assert judge.status.why == "filling: 0.5 of 1"
    stream.newest_s, stream.filled = 1.0, 1.0
    assert judged(stream, judge, 1.0) is State.LIVE


def test_it_is_lost_past_the_deadline_and_its_window_is_emptied() -> None:
    stream, judge = start()
    stream.newest_s = 0.5
    assert judged(stream, judge, 0.5) is State.LIVE
    assert judged(stream, judge, 0.99) is State.LIVE
    assert judged(stream, judge, 1.0) is State.LOST
    assert judge.status.since_s == 1.0
    assert stream.forgotten == 1
    assert judged(stream, judge, 1.5) is State.LOST
    assert judge.status.since_s == 1.0
    assert stream.forgotten == 1


def test_it_comes_back_only_after_the_hold() -> None:
    stream, judge = start()
    stream.newest_s = 0.5
    judged(stream, judge, 0.5)
    assert judged(stream, judge, 2.0) is State.LOST
    stream.newest_s = 2.1
    assert judged(stream, judge, 2.1) is State.QUIET
    assert judge.status.why.startswith("holding")
    assert judged(stream, judge, 2.25) is State.LIVE


def test_what_the_sensor_says_comes_before_what_the_data_says() -> None:
    stream, judge = start()
    stream.newest_s = 0.5
    outage = Outage(State.LOST, "unplugged")
    assert judged(stream, judge, 0.5, outage) is State.LOST
    assert judge.status.why == "unplugged"


def test_quiet_keeps_the_window_and_poor_empties_it() -> None:
    stream, judge = start()
    stream.newest_s = 0.5
    judged(stream, judge, 0.5)
    stream.verdict = Usability(State.QUIET, "silence")
    assert judged(stream, judge, 0.6) is State.QUIET
    assert stream.forgotten == 0
    stream.verdict = Usability(State.POOR, "clipped")
    assert judged(stream, judge, 0.7) is State.POOR
    assert stream.forgotten == 1


def test_muted_comes_first() -> None:
    stream, judge = start()
    stream.newest_s = 0.5
    judge.muted = True
    assert judged(stream, judge, 0.5, Outage(State.ABSENT, "no device")) is State.MUTED


def test_words_count_until_they_are_old_even_after_their_source_has_gone() -> None:
    stream = Plain()
    judge = Judge(stream, deadline_s=float("inf"), hold_s=HOLD_S)
    ended = Outage(State.LOST, "end of input")
    assert judged(stream, judge, 0.5, ended) is State.LOST
    stream.newest_s = 0.6
    assert judged(stream, judge, 1.0, ended) is State.LIVE
    stream.verdict = Usability(State.QUIET, "no words")
    assert judged(stream, judge, 2.0, ended) is State.LOST
