"""What must be true at each moment, worked out from the faults alone and without the session's code.

For sound and pictures the truth follows from when the fault begins and ends. For words it follows from what
the device handed over: words count until they are too old, whatever becomes of their source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.faults.device import DEADLINE_S, LONGEST_PAUSE_S, STEP_S, Delivery
from benchmarks.faults.scenario import FLAP_S, STALL_S, Fault, Kind, Scenario
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.session import Settings

_ERROR_S = 0.1  # detection deadline of an error
_BLOCK_S = {AUDIO: 0.5, VIDEO: 0.25}  # the stems look at pieces of this length
_BEHIND_S = {AUDIO: 0.07, VIDEO: 0.1}  # and at nothing younger than this, or than the newest frame
_LEAD_S = 0.1  # the first block may begin this long before the first sound, with silence
_FIND_S = {AUDIO: 0.0, VIDEO: 0.4}  # until a face is searched for again
_RATE_S = 2.0  # over which the rate of a device is counted
_GATE_S = 1.5  # noise, and sound that repeats itself, are noticed within this time


class Truth(Enum):
    """Whether a modality may be used at a moment."""

    IN = "in"
    OUT = "out"
    EITHER = "either"


@dataclass(frozen=True)
class Effect:
    """What a kind of fault must do to a modality.

    Attributes:
        leaves_s: after how many seconds at most it is no longer used; None where it goes on being used.
        says: what the reading calls it then; each of these words at least once.
        states: what the reading may call it besides, such as while the device is opened again.
        empties: whether its window must be filled anew afterwards: what was captured before does not count.
        returns_s: seconds after the fault's end that pass before the device is well again, at most.
    """

    leaves_s: float | None
    says: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    empties: bool = False
    returns_s: float = 0.0


def effects(modality: str, settings: Settings) -> Mapping[Kind, Effect]:
    """Returns what each kind of fault must do to sound or pictures, as the package's docstring says."""
    block_s, behind_s = _BLOCK_S[modality], _BEHIND_S[modality]
    quiet_s = settings.quiet_after_s + block_s + behind_s
    gone = _out(_ERROR_S, "", "absent lost", empties=True, returns_s=LONGEST_PAUSE_S)
    common = {
        Kind.ABSENT: _out(_ERROR_S, "absent", "lost", empties=True, returns_s=LONGEST_PAUSE_S),
        Kind.UNPLUGGED: gone,
        Kind.COMES_BACK: gone,
        Kind.HANGS: _out(
            DEADLINE_S + STEP_S[modality], "lost", "quiet", empties=True, returns_s=LONGEST_PAUSE_S
        ),
        Kind.FLAPS: _out(_ERROR_S + FLAP_S, "", "lost absent quiet", empties=True, returns_s=LONGEST_PAUSE_S),
        Kind.WRONG_RATE: _out(
            # Few pictures are true pictures; sound with samples missing is no sound.
            _RATE_S + DEADLINE_S,
            "lost",
            "quiet",
            empties=modality == AUDIO,
            returns_s=_RATE_S,
        ),
        Kind.CLOCK_JUMP: Effect(None, returns_s=DEADLINE_S),
    }
    if modality == AUDIO:
        return {
            **common,
            Kind.REPEATS: _out(_GATE_S, "poor", "lost quiet", empties=True, returns_s=_GATE_S),
            Kind.ZEROS: _out(quiet_s, "quiet"),
            Kind.NOISE: _out(_GATE_S, "poor", "lost quiet", empties=True, returns_s=_GATE_S),
            Kind.SLOW_CONSUMER: _out(2 * STALL_S, "", "quiet lost", returns_s=STALL_S),
        }
    frozen_s = settings.video_frozen_s + block_s + behind_s
    return {
        **common,
        Kind.REPEATS: _out(frozen_s, "poor", "lost quiet", returns_s=LONGEST_PAUSE_S),
        Kind.ZEROS: _out(block_s + behind_s, "poor", "lost quiet", returns_s=LONGEST_PAUSE_S),
        Kind.NOISE: _out(quiet_s, "", "quiet poor lost", returns_s=LONGEST_PAUSE_S),
        Kind.SLOW_CONSUMER: Effect(None),
    }


def _out(
    leaves_s: float, says: str, states: str = "", *, empties: bool = False, returns_s: float = 0.0
) -> Effect:
    return Effect(
        leaves_s, frozenset(says.split()), frozenset(f"{says} {states}".split()), empties, returns_s
    )


@dataclass(frozen=True)
class Line:
    """The truth about one modality through a whole run.

    Attributes:
        modality: which.
        marks: times, each with what holds from then on; the first at 0.
    """

    modality: str
    marks: tuple[tuple[float, Truth], ...]

    def at(self, time_s: float) -> Truth:
        """Returns what holds at a time."""
        return [truth for start_s, truth in self.marks if start_s <= time_s][-1]

    def steady_since(self, time_s: float) -> float:
        """Returns since when what holds at a time has been holding."""
        return max(start_s for start_s, _ in self.marks if start_s <= time_s)


def truth_lines(
    scenario: Scenario, *, settings: Settings, hop_s: float, delivered: Sequence[Delivery]
) -> dict[str, Line]:
    """Returns the truth about every modality.

    Args:
        scenario: what fails when.
        settings: fills and deadlines, as promised to the user.
        hop_s: seconds between readings.
        delivered: what the devices handed over.
    """
    longest_hop_s = hop_s + (STALL_S if scenario.stall else 0.0)
    lines = {}
    for modality in (AUDIO, VIDEO):
        pieces = [piece for piece in delivered if piece.modality == modality]
        line = _device_line(modality, scenario.of(modality), settings, longest_hop_s, pieces)
        lines[modality] = _uncounted(line, scenario) if scenario.stall else line
    words = [piece for piece in delivered if piece.modality == TEXT and piece.words]
    lines[TEXT] = _words_line(words, settings, longest_hop_s)
    return lines


def _device_line(
    modality: str, fault: Fault | None, settings: Settings, hop_s: float, pieces: Sequence[Delivery]
) -> Line:
    """The truth about sound or pictures: from the start and end of the fault.

    What was delivered only tells how soon a window can be full at the earliest.
    """
    fill_s = settings.audio_min_fill_s if modality == AUDIO else settings.video_min_fill_s
    # Two pictures may fill a window, where they lie in two slots.
    least_s = fill_s - _LEAD_S if modality == AUDIO else max(STEP_S[VIDEO], settings.hold_s)
    length_s = STEP_S[AUDIO] if modality == AUDIO else 0.0
    joins_s = fill_s + _BLOCK_S[modality] + _BEHIND_S[modality] + _FIND_S[modality] + settings.hold_s + hop_s

    def filled_s(from_s: float) -> float:
        begun = [piece.captured_s - length_s for piece in pieces if piece.handed_s >= from_s]
        return max(from_s, (begun[0] if begun else from_s) + least_s)

    marks = [(0.0, Truth.OUT), (filled_s(0.0), Truth.EITHER), (joins_s, Truth.IN)]
    effect = effects(modality, settings)[fault.kind] if fault else Effect(None)
    if fault is None or (effect.leaves_s is None and fault.kind is not Kind.CLOCK_JUMP):
        return Line(modality, tuple(marks))
    back_s = fault.end_s + effect.returns_s
    if fault.kind is Kind.ABSENT:
        marks = [(0.0, Truth.OUT)]
    else:
        marks.append((fault.start_s, Truth.EITHER))
        if effect.leaves_s is not None:
            marks.append((fault.start_s + effect.leaves_s, Truth.OUT))
    if fault.end_s < float("inf"):
        again_s = filled_s(fault.end_s) if effect.empties else fault.end_s
        marks += [(again_s, Truth.EITHER), (back_s + joins_s, Truth.IN)]
    return Line(modality, tuple(marks))


def _uncounted(line: Line, scenario: Scenario) -> Line:
    """Pictures that come too seldom are only noticed by who looks often; those that come are true."""
    fault = scenario.of(line.modality)
    if line.modality != VIDEO or fault is None or fault.kind is not Kind.WRONG_RATE:
        return line
    return Line(
        VIDEO,
        tuple(
            (at_s, Truth.EITHER if at_s > fault.start_s and truth is Truth.OUT else truth)
            for at_s, truth in line.marks
        ),
    )


def _words_line(words: Sequence[Delivery], settings: Settings, hop_s: float) -> Line:
    """The truth about words: in while some are young enough, out while none are.

    Words that came with a false time may be used or refused; they are never younger than they are.
    """
    spans = _spans(words, settings.text_ttl_s)
    truthful = _spans([word for word in words if word.is_truthful], settings.text_ttl_s)
    joins_s = settings.hold_s + hop_s
    edges = {0.0, *(edge for span in (*spans, *truthful) for edge in (span[0], span[0] + joins_s, span[1]))}

    def truth(time_s: float) -> Truth:
        if any(begin_s + joins_s <= time_s < end_s for begin_s, end_s in truthful):
            return Truth.IN
        return Truth.EITHER if any(begin_s <= time_s < end_s for begin_s, end_s in spans) else Truth.OUT

    return Line(TEXT, tuple((edge, truth(edge)) for edge in sorted(edges)))


def _spans(words: Sequence[Delivery], live_s: float) -> list[tuple[float, float]]:
    """Returns the stretches of time, from-to, in which some words are younger than `live_s`."""
    spans: list[tuple[float, float]] = []
    for word in words:
        begin_s, end_s = word.handed_s, word.captured_s + live_s
        if spans and begin_s <= spans[-1][1]:
            begin_s = spans.pop()[0]
        spans.append((begin_s, end_s))
    return spans
