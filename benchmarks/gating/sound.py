"""What leaving out sound that cannot be trusted changes: accuracy with and without the gates of sound.

Clips of the half of the validation people that no threshold was fitted on are heard in rooms, three seconds
before they begin and five after they end, by whole sessions over the bundle's own engines: one with its
gates, one with all of them open. A face and a sentence of the same label are there all the time
("label-matched": of different people). Every reading counts, hop by hop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.report import Table
from edgeemo.bundle import Bundle
from edgeemo.session import EngineOptions, Session, Settings
from edgeemo.session.judge import Judge
from edgeemo.session.settings import settings_from_thresholds
from edgeemo.session.states import State
from edgeemo.session.streams.base import USABLE, Stream, Usability
from edgeemo.training.augment.noise import KINDS, RATIOS_DB, Samples
from edgeemo.training.live.gate_scenes import CLEAN, OPEN, RATE_HZ, Item, item_scene, matched_items
from edgeemo.windows import Float32

PER_LABEL = 10
PHASES = ("before", "during", "after")
Progress = Callable[[str, int, int], None]
Condition = tuple[str, float]


class GivenFace(Stream):
    """A stream of video that shows one face all the time."""

    modality = "video"

    def __init__(self, features: Float32) -> None:
        self._view = features, np.ones(features.shape[:2], np.float32)
        self._now_s = 0.0

    def reset(self) -> None:
        """Nothing to forget."""

    def forget(self) -> None:
        """Nothing to forget."""

    def advance(self, at_s: float) -> None:
        """Goes on to `at_s`."""
        self.newest_s = self._now_s = at_s

    def usability(self, at_s: float) -> Usability:
        """Always usable."""
        return USABLE

    def fill(self, at_s: float) -> tuple[float, float]:
        """Always full."""
        return 1.0, 1.0

    def window(self, at_s: float) -> tuple[Float32, Float32]:
        """Returns features (1, T, D) and mask (1, T)."""
        return self._view

    def evidence_s(self, at_s: float) -> float:
        """Returns `at_s`."""
        return at_s


@dataclass(frozen=True)
class Hop:
    """One reading of one session in one scene.

    Attributes:
        condition: kind and ratio of the noise.
        item: whose scene.
        phase: before, during or after the clip.
        weight: of the item.
        live: whether sound was used.
        right: whether the label is the true one; None without a signal.
        why: why sound was not used.
    """

    condition: Condition
    item: int
    phase: str
    weight: float
    live: bool
    right: bool | None
    why: str


def conditions() -> list[Condition]:
    """Returns the clean room and every kind and strength of noise."""
    return [CLEAN, *((kind, float(ratio)) for kind in KINDS for ratio in RATIOS_DB)]


def hear(
    bundle: Bundle,
    items: Sequence[Item],
    talkers: Sequence[Samples],
    settings: Settings,
    *,
    companions: bool,
    variant: str = "int8",
    progress: Progress | None = None,
) -> list[Hop]:
    """Returns every reading of a session that hears all items under all conditions.

    Args:
        bundle: what reads.
        items: see `matched_items`.
        talkers: clips to make babble of.
        settings: thresholds; words count for the whole scene whatever they say.
        companions: whether face and words are there as well.
        variant: of engines and stems.
        progress: called with (what, scenes done, scenes).
    """
    found = []
    subsets = None if companions else ("audio",)
    todo = [(condition, number) for condition in conditions() for number in range(len(items))]
    options, chosen = (
        EngineOptions(variant=variant, subsets=subsets, backend="cpu"),
        replace(settings, text_ttl_s=1e6),
    )
    with Session(bundle, engines=options, settings=chosen) as session:
        core = session._core
        for done, (condition, number) in enumerate(todo):
            item = items[number]
            heard = item_scene(item, number, *condition, talkers)
            session.reset()
            if companions:
                core.streams["video"] = GivenFace(item.face)
                core._judges["video"] = Judge(core.streams["video"], deadline_s=np.inf, hold_s=0.0)
                session.push_text(item.text, time_s=0.0)
            session.push_audio(heard.samples, rate_hz=RATE_HZ, time_s=0.0)
            for hop in range(1, int(len(heard.samples) / RATE_HZ / session.manifest.hop_s) + 1):
                at_s = hop * session.manifest.hop_s
                reading = session.read(at_s=at_s)
                status = reading.states["audio"]
                if at_s < 2.0:
                    continue  # devices have just been opened
                label = None if reading.subset is None else session.manifest.labels.index(reading.label)
                phase = "before" if at_s <= heard.starts_s else "during" if at_s <= heard.ends_s else "after"
                found.append(
                    Hop(
                        condition,
                        number,
                        phase,
                        item.weight,
                        status.state is State.LIVE,
                        None if label is None else label == item.label,
                        status.why,
                    )
                )
            if progress is not None:
                progress("sound", done + 1, len(todo))
    return found


def measure(
    bundle: Bundle,
    data: Path,
    *,
    settings: Settings | None = None,
    per_label: int = PER_LABEL,
    variant: str = "int8",
    progress: Progress | None = None,
) -> tuple[dict[str, object], list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: what to measure.
        data: holds the data sets.
        settings: the gates; None for the bundle's own.
        per_label: items of each label.
        variant: of engines and stems.
        progress: called with (what, scenes done, scenes).
    """
    items, talkers = matched_items(bundle, data, half=1, per_label=per_label, variant=variant)
    own = settings or settings_from_thresholds(bundle.manifest.thresholds)
    runs = {}
    for name, limits, companions in (
        ("open", OPEN, True),
        ("gated", own, True),
        ("alone open", OPEN, False),
        ("alone gated", own, False),
    ):
        runs[name] = hear(
            bundle, items, talkers, limits, companions=companions, variant=variant, progress=progress
        )
    without = never_heard(bundle, items, variant=variant)
    figures, *parts = (
        {_name(condition): _figures(runs, condition, without, phase) for condition in conditions()}
        for phase in (None, *PHASES)
    )
    phases = dict(zip(PHASES, parts, strict=True))
    return {"all": figures, "phases": phases, "items": len(items)}, _tables(figures, phases, len(items))


def never_heard(bundle: Bundle, items: Sequence[Item], *, variant: str = "int8") -> float:
    """Returns the weighted accuracy of face and words alone, as a session reads them."""
    right, total = 0.0, 0.0
    with Session(
        bundle, engines=EngineOptions(variant=variant, subsets=("video+text",), backend="cpu")
    ) as session:
        for item in items:
            session.reset()
            core = session._core
            core.streams["video"] = GivenFace(item.face)
            core._judges["video"] = Judge(core.streams["video"], deadline_s=np.inf, hold_s=0.0)
            session.push_text(item.text, time_s=0.0)
            reading = session.read(at_s=0.5)
            right += item.weight * (reading.label == session.manifest.labels[item.label])
            total += item.weight
    return right / total


def _figures(
    runs: dict[str, list[Hop]], condition: Condition, without: float, per_phase: str | None
) -> dict[str, float]:
    def chosen(name: str, phase: str | None = per_phase) -> list[Hop]:
        return [h for h in runs[name] if h.condition == condition and phase in (None, h.phase)]

    # Who knows kind, strength and phase hears the voice exactly where that pays.
    parts = (per_phase,) if per_phase else PHASES
    counts = [len(chosen("open", phase)) for phase in parts]
    best = [max(_right(chosen("open", phase)), without) if chosen("open", phase) else 0.0 for phase in parts]
    low, high = _interval(chosen("open"), chosen("gated"))
    alone, gated_alone = chosen("alone open"), chosen("alone gated")
    return {
        "open": _right(chosen("open")),
        "gated": _right(chosen("gated")),
        "gain_low": low,
        "gain_high": high,
        "never": without,
        "oracle": float(np.average(best, weights=counts)) if sum(counts) else 0.0,
        "used": _share(chosen("gated")),
        "alone_open": _right([hop for hop in alone if hop.right is not None]),
        "alone_gated": _right([hop for hop in gated_alone if hop.right is not None]),
        "coverage": _share(gated_alone),
    }


def _interval(opened: Sequence[Hop], gated: Sequence[Hop]) -> tuple[float, float]:
    """Returns the middle 95 % of the gain over draws of scenes with replacement."""
    count = max(hop.item for hop in opened) + 1
    sums = np.zeros((count, 2))
    for before, after in zip(opened, gated, strict=True):
        sums[before.item] += (before.weight * (bool(after.right) - bool(before.right)), before.weight)
    drawn = np.random.default_rng(67).integers(count, size=(2000, count))
    totals = sums[drawn].sum(axis=1)  # (draws, 2)
    low, high = np.percentile(totals[:, 0] / np.maximum(totals[:, 1], 1e-9), [2.5, 97.5])
    return float(low), float(high)


def _right(hops: Sequence[Hop]) -> float:
    weight = sum(hop.weight for hop in hops)
    return sum(hop.weight for hop in hops if hop.right) / weight if weight else float("nan")


def _share(hops: Sequence[Hop]) -> float:
    return float(np.mean([hop.live for hop in hops])) if hops else 0.0


def _name(condition: Condition) -> str:
    kind, ratio_db = condition
    return kind if kind == CLEAN[0] else f"{kind} {ratio_db:g} dB"


def _tables(
    figures: dict[str, dict[str, float]], phases: dict[str, dict[str, dict[str, float]]], items: int
) -> list[Table]:
    def percent(value: float) -> str:
        return "-" if np.isnan(value) else f"{value:.1%}"

    rows = [
        (
            name,
            *(percent(row[key]) for key in ("open", "gated", "never", "oracle")),
            f"{100 * (row['gated'] - row['open']):+.1f}",
            f"{100 * row['gain_low']:+.1f} to {100 * row['gain_high']:+.1f}",
            percent(row["used"]),
        )
        for name, row in figures.items()
    ]
    alone = [
        (name, *(percent(row[key]) for key in ("alone_open", "alone_gated", "coverage")))
        for name, row in figures.items()
    ]
    by_phase = [
        (
            name,
            *(
                f"{100 * (phases[phase][name]['gated'] - phases[phase][name]['open']):+.1f}"
                for phase in PHASES
            ),
        )
        for name in figures
    ]
    return [
        Table(
            "Sound beside a face and words",
            f"Accuracy of all readings of {items} label-matched scenes, labels weighted by the prior of all "
            "three modalities. Not gated: every sound is used. Never: face and words alone. Oracle: knows "
            "kind and strength of the noise and whether somebody speaks, and uses the sound exactly where "
            "that pays on average. The interval is that of draws of scenes. Clipping's ratio is full scale "
            "over the level of the voice.",
            ("room", "not gated", "gated", "never", "oracle", "gain, points", "95 %", "sound used"),
            rows,
        ),
        Table(
            "Where the gain comes from",
            "Points of accuracy that the gates add before the clip, while it is spoken, and in the five "
            "seconds after it.",
            ("room", *PHASES),
            by_phase,
        ),
        Table(
            "Sound alone",
            "Accuracy of the readings that are given, and the part of the time in which one is given; "
            "without the gates one is always given.",
            ("room", "not gated", "gated", "coverage"),
            alone,
        ),
    ]
