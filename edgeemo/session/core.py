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
from edgeemo.bundle import probabilities_from_row
from edgeemo.errors import SubsetError
from edgeemo.modality import subset_members
from edgeemo.session.engines.pool import Answer, EnginePool
from edgeemo.session.engines.snapshot import Snapshot
from edgeemo.session.faces import FaceReading, read_faces
from edgeemo.session.judge import Judge
from edgeemo.session.over_time.completion import OverTime
from edgeemo.session.over_time.transitions import Tell
from edgeemo.session.reading import NO_SIGNAL, Reading
from edgeemo.session.settings import Settings
from edgeemo.session.states import Outage, State, Status
from edgeemo.session.streams.base import Stream
from edgeemo.session.streams.open import open_stream
from edgeemo.session.streams.video import VideoStream
from edgeemo.windows import Float32

_KEPT_LATENCIES = 1000
_NOBODY_SEEN = (State.ABSENT, State.LOST, State.MUTED)
_NO_OUTAGES: Mapping[str, Outage] = {}


class Core:
    """Streams, states, engines and what readings say over time, without a clock, a thread or a device.

    Not safe for several threads at once; `edgeemo.Session` is.

    Args:
        pool: opened engines; closed by its owner.
        settings: deadlines, fills and smoothing.
        tell: takes the events of changes, as `EventLog.add`.
    """

    def __init__(self, pool: EnginePool, settings: Settings, *, tell: Tell) -> None:
        self.pool, self.settings = pool, settings
        manifest = pool.snapshot.manifest
        self.hop_s = manifest.hop_s if settings.hop_s is None else settings.hop_s
        self.streams: dict[str, Stream] = {
            name: open_stream(manifest.modality(name), pool.stem(name), settings)
            for name in pool.snapshot.stems
        }
        self._judges = {
            name: Judge(
                stream,
                deadline_s=stream.deadline_s,
                hold_s=settings.hold_s,
                suspect_s=settings.suspect_s,
            )
            for name, stream in self.streams.items()
        }
        self._over_time = OverTime(labels=manifest.labels, settings=settings, tell=tell)
        self.reset()

    @property
    def snapshot(self) -> Snapshot:
        """The bundle and the engines that are open now."""
        return self.pool.snapshot

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed; what is muted stays muted."""
        for name, stream in self.streams.items():
            stream.reset()
            muted = self._judges[name].muted
            self._judges[name].reset()
            self._judges[name].muted = muted
        self._over_time.reset()
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

    @property
    def face_searches(self) -> int:
        """Times that a whole frame was searched for faces."""
        return sum(stream.searches for stream in self.streams.values() if isinstance(stream, VideoStream))

    def take_suspects(self) -> tuple[str, ...]:
        """Returns the modalities that have been poor for `suspect_s`, each once until it was live again."""
        return tuple([name for name, judge in self._judges.items() if judge.take_suspect()])

    def read(self, at_s: float, outages: Mapping[str, Outage] = _NO_OUTAGES) -> Reading:
        """Returns the reading at capture time `at_s`; nothing captured later is looked at.

        Args:
            at_s: not before the last reading.
            outages: what sensors say themselves of not giving data, now or since the last reading.
        """
        begun = time.perf_counter()
        states = self._states(at_s, outages)
        live = tuple([name for name, status in states.items() if status.state is State.LIVE])
        answer = self.pool.recognize(live, lambda name: self.streams[name].window(at_s), at_s=at_s)
        for name, why in answer.notes.items():
            states[name] = replace(states[name], why=why)
        reading = self._reading(answer, at_s, states)
        self._over_time.tell(reading)
        self.swaps += answer.subset != self._subset and self.hops > 0
        self._subset = answer.subset
        self.hops += 1
        self.latencies_ms.append((time.perf_counter() - begun) * 1e3)
        return reading

    def _states(self, at_s: float, outages: Mapping[str, Outage]) -> dict[str, Status]:
        """Returns the state of every modality, once its stem has seen what came until `at_s`."""
        judges = self._judges
        for name, stream in self.streams.items():
            if not judges[name].muted:
                stream.advance(at_s)
        troubles = self.pool.stem_troubles()
        states = {}
        for name, stream in self.streams.items():
            outage = Outage(State.ABSENT, stream.unavailable) if stream.unavailable else outages.get(name)
            states[name] = judges[name].judge(at_s, outage, broken=troubles.get(name, ""))
        return states

    def _faces(self, at_s: float, states: Mapping[str, Status]) -> tuple[FaceReading, ...]:
        """Returns a reading of each face by itself, where the stream follows more than one."""
        video = self.streams.get("video")
        if not isinstance(video, VideoStream) or not video.many_faces:
            return ()
        if states["video"].state in _NOBODY_SEEN:
            return ()
        manifest = self.snapshot.manifest

        def recognize(features: Float32, mask: Float32) -> NDArray[Any] | None:
            if "video" not in self.snapshot.engines:
                return None  # opened for the faces it could push out what the session itself needs
            answer = self.pool.recognize(("video",), lambda name: (features, mask), at_s=at_s)
            return None if answer.subset is None else np.asarray(answer.outputs["logits"][0])

        return read_faces(video.faces(at_s), recognize, manifest.subsets.get("video"), manifest.labels)

    def _reading(self, answer: Answer, at_s: float, states: Mapping[str, Status]) -> Reading:
        """Returns the reading of this hop; made in one piece, for copies cost more than its sums."""
        subset, engine, faces = answer.subset, answer.runner, self._faces(at_s, states)
        if subset is None or engine is None:
            self._over_time.hear(None, {}, at_s=at_s, hop_s=self.hop_s, spec=None)
            return Reading(time_s=at_s, label=NO_SIGNAL, states=states, faces=faces)
        manifest = self.snapshot.manifest
        labels, members, spec = manifest.labels, subset_members(subset), manifest.subsets[subset]
        p = probabilities_from_row(answer.outputs["logits"][0].tolist(), spec)
        probabilities = dict(zip(labels, p, strict=True))
        evidence = {
            name: dict(zip(labels, answer.outputs[key][0].tolist(), strict=True))
            for name in members
            if (key := f"evidence.{name}") in answer.outputs
        }
        over_time = self._over_time.hear(p, evidence, at_s=at_s, hop_s=self.hop_s, spec=spec)
        affect = valence_arousal(probabilities)
        best = max(p)
        ages = [
            at_s - newest for name in members if (newest := self.streams[name].evidence_s(at_s)) is not None
        ]
        return Reading(
            time_s=at_s,
            label=labels[p.index(best)],
            states=states,
            confidence=best,
            probabilities=probabilities,
            emotion=over_time.emotion,
            mood=over_time.mood,
            mood_probabilities=over_time.mood_probabilities,
            valence=None if affect is None else affect[0],
            arousal=None if affect is None else affect[1],
            evidence=evidence,
            modality_probabilities=over_time.modality_probabilities,
            contradiction=over_time.contradiction,
            subset=subset,
            age_s=max(ages, default=None),
            engine=f"{subset}.{engine.variant}",
            backend=engine.backend,
            faces=faces,
        )
