"""What Prometheus reads: the newest reading, states, hops and clients, collected when it asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edgeemo import __version__
from edgeemo.serve.clients import Clients
from edgeemo.serve.guard import Guard
from edgeemo.serve.hub import Hub
from edgeemo.session import Reading, SessionStats, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class SessionCollector(Collector):
    """Gives the figures of one session and its server.

    Args:
        hub: the session's.
        clients: live sockets.
        guard: what refuses requests.
    """

    def __init__(self, hub: Hub, clients: Clients, guard: Guard) -> None:
        self._hub, self._clients, self._guard = hub, clients, guard

    def collect(self) -> Iterator[Metric]:
        """Yields every figure as of now."""
        hub, stats = self._hub, self._hub.stats
        about = {"version": __version__, "model": hub.session.manifest.model_id}
        yield InfoMetricFamily(
            "edgeemo", "what runs here", value={**about, "manifest_sha256": stats.manifest_sha256}
        )
        yield _gauge("edgeemo_ready", "1 while readings come", float(not hub.why_not_ready()))
        yield from _from_reading(hub.newest, hub.session.manifest.labels)
        yield from _from_states(hub)
        yield from _from_stats(stats)
        yield _gauge("edgeemo_clients", "live sockets", float(len(self._clients)))
        clients, guard = self._clients, self._guard
        yield from _counters(
            ("edgeemo_clients_cut_off", "live sockets that were cut off, not reading", clients.cut_off),
            ("edgeemo_clients_refused", "live sockets that found no room", clients.refused),
            ("edgeemo_messages_replaced", "messages replaced by newer ones, not sent", clients.replaced),
            ("edgeemo_requests_refused", "requests that the guard refused", guard.refused),
        )


def metrics_text(registry: CollectorRegistry) -> bytes:
    """Returns what Prometheus reads."""
    return generate_latest(registry)


def registry_of(collector: Collector) -> CollectorRegistry:
    """Returns a registry with this collector alone: nothing of the process's other libraries."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return registry


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counters(*counts: tuple[str, str, int]) -> Iterator[Metric]:
    for name, text, value in counts:
        yield CounterMetricFamily(name, text, value=float(value))


def _labelled(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family


def _from_reading(reading: Reading | None, labels: Iterable[str]) -> Iterator[Metric]:
    """Yields what the newest reading says; without a signal there are no probabilities, not zeros."""
    if reading is None:
        return
    yield _gauge("edgeemo_reading_time_seconds", "capture time of the newest reading", reading.time_s)
    yield _gauge(
        "edgeemo_signal", "1 where there is anything to recognise an emotion from", float(reading.has_signal)
    )
    yield _labelled(
        "edgeemo_probability", "calibrated probability of each label in the newest reading", "label",
        reading.probabilities.items(),
    )  # fmt: skip
    yield _labelled(
        "edgeemo_emotion", "1 for the momentary emotion, 0 for the others", "label",
        ((label, float(label == reading.emotion)) for label in labels),
    )  # fmt: skip
    yield _labelled(
        "edgeemo_mood", "1 for the sustained mood, 0 for the others", "label",
        ((label, float(label == reading.mood)) for label in labels),
    )  # fmt: skip
    for name, value in (("valence", reading.valence), ("arousal", reading.arousal)):
        if value is not None:
            yield _gauge(f"edgeemo_{name}", f"{name} of the newest reading, -1 to 1", value)
    if reading.age_s is not None:
        yield _gauge("edgeemo_data_age_seconds", "age of the oldest newest data that was used", reading.age_s)
    if reading.engine is not None:
        serving = GaugeMetricFamily(
            "edgeemo_engine_serving", "the engine that answers", labels=["engine", "backend", "subset"]
        )
        serving.add_metric([reading.engine, reading.backend or "", reading.subset or ""], 1.0)
        yield serving


def _from_states(hub: Hub) -> Iterator[Metric]:
    """Yields the state of every modality: 1 for the one that it is in, 0 for the others."""
    reading = hub.newest
    family = GaugeMetricFamily(
        "edgeemo_modality_state", "1 for the state that a modality is in", labels=["modality", "state"]
    )
    for modality, status in (reading.states if reading else {}).items():
        for state in State:
            family.add_metric([modality, str(state)], float(status.state is state))
    yield family
    yield _labelled(
        "edgeemo_muted", "1 where somebody has switched a modality off", "modality",
        ((modality, float(modality in hub.muted)) for modality in hub.modalities),
    )  # fmt: skip


def _from_stats(stats: SessionStats) -> Iterator[Metric]:
    yield from _counters(
        ("edgeemo_hops", "readings made", stats.hops),
        ("edgeemo_late_hops", "hops left out as the machine was busy past them", stats.late_hops),
        ("edgeemo_missed_readings", "readings dropped before they could be told", stats.missed_by_callbacks),
        ("edgeemo_swaps", "times that the set of modalities changed", stats.swaps),
        ("edgeemo_engines_set_aside", "times that an engine failed", stats.pool.set_aside),
    )
    yield _labelled(
        "edgeemo_latency_ms", "time that a reading takes, over the last 1000", "quantile",
        ((f"0.{name[1:]}", value) for name, value in stats.latency_ms.items()),
    )  # fmt: skip
    yield _gauge("edgeemo_engine_memory_mb", "estimate of what open engines take", stats.pool.memory_mb)
    for name, text in (
        ("chunks", "pieces of data received"),
        ("drops", "pieces of data lost"),
        ("overflows", "times that a driver reported losses of its own"),
        ("reconnects", "times that a device was opened again"),
    ):
        family = CounterMetricFamily(f"edgeemo_sensor_{name}", text, labels=["modality"])
        for modality, status in stats.sensors.items():
            family.add_metric([modality], float(getattr(status, name)))
        yield family
    engines = GaugeMetricFamily(
        "edgeemo_engine_info",
        "what each stem and engine runs as",
        labels=["part", "state", "variant", "backend"],
    )
    for part, found in stats.pool.parts.items():
        engines.add_metric([part, found.state, found.variant or "", found.backend or ""], 1.0)
    yield engines
