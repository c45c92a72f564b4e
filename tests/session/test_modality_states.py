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
    assert stream.forgotten == 2  # what came meanwhile does not count either


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


def test_what_is_only_covered_stays_in_the_window() -> None:
    stream, judge = start()
    stream.newest_s = 0.5
    judged(stream, judge, 0.5)
    stream.verdict = Usability(State.POOR, "several voices", spoils=False)
    assert judged(stream, judge, 0.7) is State.POOR
    assert stream.forgotten == 0
    stream.verdict = Usability(State.POOR, "clipped")
    assert judged(stream, judge, 0.9) is State.POOR
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


def running(*, trouble_s: float | None) -> Outage:
    return Outage(State.LIVE, "", trouble_s=trouble_s)


def test_trouble_between_two_hops_counts() -> None:
    stream, judge = start()
    stream.newest_s = 1.0
    assert judged(stream, judge, 1.0, running(trouble_s=0.1)) is State.LIVE
    stream.newest_s = 1.5
    assert judged(stream, judge, 1.5, running(trouble_s=1.4)) is State.LOST
    assert judge.status.why == "its device gave nothing 0.1 s ago"
    assert stream.forgotten == 1
    stream.newest_s = 1.6
    assert judged(stream, judge, 1.6, running(trouble_s=1.4)) is State.QUIET
    assert judge.status.why == "holding: usable for 0.2 of 0.25 s"
    assert judged(stream, judge, 1.65, running(trouble_s=1.4)) is State.LIVE
    assert stream.forgotten == 1


def test_a_sensor_that_flaps_between_hops_stays_out() -> None:
    """Gone for 200 ms, there for 200 ms: at every hop it may happen to run."""
    stream, judge = start()
    stream.newest_s = 0.5
    assert judged(stream, judge, 0.5) is State.LIVE
    for number in range(2, 12):
        at_s = number / 2
        stream.newest_s = at_s
        since_s = (at_s % 0.4) - 0.2
        outage = (
            Outage(State.LOST, "gone", trouble_s=at_s) if since_s < 0 else running(trouble_s=at_s - since_s)
        )
        assert judged(stream, judge, at_s, outage) is not State.LIVE
    stream.newest_s = 6.0
    assert judged(stream, judge, 6.0, running(trouble_s=5.4)) is State.LIVE


def test_what_came_after_the_start_counts() -> None:
    """Before its first data a sensor was in trouble too: that empties no window."""
    stream, judge = start()
    stream.newest_s = None
    assert judged(stream, judge, 0.5, Outage(State.LOST, "starting", trouble_s=0.5)) is State.LOST
    forgotten = stream.forgotten
    stream.newest_s = 1.0
    assert judged(stream, judge, 1.0, running(trouble_s=0.6)) is State.LIVE
    assert stream.forgotten == forgotten


def test_words_outlive_the_trouble_of_their_source() -> None:
    stream = Plain()
    judge = Judge(stream, deadline_s=float("inf"), hold_s=HOLD_S)
    stream.newest_s = 0.6
    assert judged(stream, judge, 1.0, running(trouble_s=0.5)) is State.LIVE
    assert judged(stream, judge, 1.5, running(trouble_s=1.4)) is State.LIVE


def test_what_cannot_be_computed_is_lost_whatever_the_sensor_says() -> None:
    stream = Plain()
    judge = Judge(stream, deadline_s=float("inf"), hold_s=HOLD_S)
    stream.newest_s = 0.6
    assert judged(stream, judge, 1.0) is State.LIVE
    status = judge.judge(1.5, running(trouble_s=None), broken="its stem failed")
    assert (status.state, status.why) == (State.LOST, "its stem failed")
    assert stream.forgotten == 1
    judge.judge(1.75, None, broken="its stem failed")
    assert stream.forgotten == 2
    judge.muted = True
    assert judge.judge(2.0, None, broken="its stem failed").state is State.MUTED


def test_a_device_that_is_poor_for_long_is_suspected_once() -> None:
    stream = Plain()
    judge = Judge(stream, deadline_s=DEADLINE_S, hold_s=HOLD_S, suspect_s=2.0)

    def suspects(*times_s: float) -> list[bool]:
        found = []
        for at_s in times_s:
            stream.newest_s = at_s
            judge.judge(at_s, None)
            found.append(judge.take_suspect())
        return found

    stream.verdict = Usability(State.POOR, "black")
    assert suspects(0.5, 1.0, 2.0, 2.5, 3.0, 9.0) == [False, False, False, True, False, False]
    judge.judge(9.5, Outage(State.LOST, "opened anew", trouble_s=9.5))
    assert suspects(10.0, 15.0) == [False, False]
    stream.verdict = USABLE
    assert suspects(16.0) == [False]
    assert judge.status.state is State.LIVE
    stream.verdict = Usability(State.POOR, "black")
    assert suspects(17.0, 19.5) == [False, True]
