"""The heart of a session: pushes go in with their capture times, a truthful reading comes out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.affect import valence_arousal
from edgeemo.bundle import probabilities_from_logits
from edgeemo.errors import SubsetError
from edgeemo.modality import subset_members
from edgeemo.session.choice import choose_subset
from edgeemo.session.engines.snapshot import Snapshot
from edgeemo.session.judge import Judge
from edgeemo.session.reading import NO_SIGNAL, Reading
from edgeemo.session.settings import Settings
from edgeemo.session.smoothing import Smoother
from edgeemo.session.states import Outage, State, Status
from edgeemo.session.streams.base import Stream
from edgeemo.session.streams.open import open_stream

_KEPT_LATENCIES = 1000
_NO_OUTAGES: Mapping[str, Outage] = {}


class Core:
    """Streams, states, engines and smoothing, without a clock, a thread or a device.

    Not safe for several threads at once; `edgeemo.Session` is.

    Args:
        snapshot: opened engines; closed by its owner.
        settings: deadlines, fills and smoothing.
    """

    def __init__(self, snapshot: Snapshot, settings: Settings) -> None:
        self.snapshot, self.settings = snapshot, settings
        manifest = snapshot.manifest
        self.streams: dict[str, Stream] = {
            name: open_stream(manifest.modality(name), stem, settings)
            for name, stem in snapshot.stems.items()
        }
        deadlines = {"audio": settings.audio_deadline_s, "video": settings.video_deadline_s}
        self._judges = {
            name: Judge(stream, deadline_s=deadlines.get(name, float("inf")), hold_s=settings.hold_s)
            for name, stream in self.streams.items()
        }
        self._smoother = Smoother(
            labels=len(manifest.labels), margin=settings.emotion_margin, tau_s=settings.mood_tau_s
        )
        self.reset()

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed; what is muted stays muted."""
        for name, stream in self.streams.items():
            stream.reset()
            muted = self._judges[name].muted
            self._judges[name].reset()
            self._judges[name].muted = muted
        self._smoother.reset()
        self._subset: str | None = None
        self.hops = 0
        self.swaps = 0
        self.latencies_ms: deque[float] = deque(maxlen=_KEPT_LATENCIES)

    def stream(self, modality: str) -> Any:
        """Returns the stream of a modality.

        Raises:
            SubsetError: the engines in use have no such modality; the message lists those they have.
        """
        try:
            return self.streams[modality]
        except KeyError:
            raise SubsetError(
                f"this session has no {modality!r}; its engines take: {', '.join(self.streams)}"
            ) from None

    def mute(self, modality: str, muted: bool) -> None:
        """Stops or resumes using a modality; what was seen before never counts afterwards.

        Raises:
            SubsetError: as `stream`.
        """
        stream = self.stream(modality)
        if self._judges[modality].muted != muted:
            stream.reset()
            self._judges[modality].muted = muted

    def muted(self, modality: str) -> bool:
        """Whether a modality is muted."""
        return modality in self._judges and self._judges[modality].muted

    def read(self, at_s: float, outages: Mapping[str, Outage] = _NO_OUTAGES) -> Reading:
        """Returns the reading at capture time `at_s`; nothing captured later is looked at.

        Args:
            at_s: not before the last reading.
            outages: modalities whose sensors say themselves that they give nothing.
        """
        begun = time.perf_counter()
        states: dict[str, Status] = {}
        for name, stream in self.streams.items():
            if not self._judges[name].muted:
                stream.advance(at_s)
            missing = Outage(State.ABSENT, stream.unavailable) if stream.unavailable else None
            states[name] = self._judges[name].judge(at_s, missing or outages.get(name))
        live = [name for name, status in states.items() if status.state is State.LIVE]
        subset = choose_subset(live, tuple(self.snapshot.engines))
        for name in set(live) - set(subset_members(subset) if subset else ()):
            states[name] = replace(states[name], why="live, but no engine here takes it with the others")
        reading = self._recognize(subset, at_s, states) if subset else self._no_signal(at_s, states)
        self.swaps += subset != self._subset and self.hops > 0
        self._subset = subset
        self.hops += 1
        self.latencies_ms.append((time.perf_counter() - begun) * 1e3)
        return reading

    def _no_signal(self, at_s: float, states: Mapping[str, Status]) -> Reading:
        self._smoother.update(None, at_s=at_s, hop_s=self.snapshot.manifest.hop_s)
        return Reading(time_s=at_s, label=NO_SIGNAL, states=states)

    def _recognize(self, subset: str, at_s: float, states: Mapping[str, Status]) -> Reading:
        manifest, engine = self.snapshot.manifest, self.snapshot.engines[subset]
        members = subset_members(subset)
        feed = {}
        for name in members:
            feed[f"features.{name}"], feed[f"mask.{name}"] = self.streams[name].window(at_s)
        answers = engine.run(feed)
        p = probabilities_from_logits(answers["logits"][0], manifest.subsets[subset])
        self._smoother.update(p, at_s=at_s, hop_s=manifest.hop_s)
        labels = manifest.labels
        probabilities = _named(labels, p)
        affect = valence_arousal(probabilities)
        emotion, mood = self._smoother.emotion, self._smoother.mood
        ages = [
            at_s - newest for name in members if (newest := self.streams[name].evidence_s(at_s)) is not None
        ]
        return Reading(
            time_s=at_s,
            label=labels[int(np.argmax(p))],
            states=states,
            confidence=float(p.max()),
            probabilities=probabilities,
            emotion=None if emotion is None else labels[emotion],
            mood=None if mood is None else labels[int(np.argmax(mood))],
            mood_probabilities={} if mood is None else _named(labels, mood),
            valence=None if affect is None else affect[0],
            arousal=None if affect is None else affect[1],
            evidence={
                name: _named(labels, answers[key][0])
                for name in members
                if (key := f"evidence.{name}") in answers
            },
            subset=subset,
            age_s=max(ages, default=None),
            engine=f"{subset}.{engine.variant}",
            backend=engine.backend,
        )


def _named(labels: tuple[str, ...], values: NDArray[Any]) -> dict[str, float]:
    return {label: float(value) for label, value in zip(labels, values, strict=True)}
