"""Sessions that take turns call by call, so that whatever else happens on the machine meets all alike."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

WARM_UP = 20
_FATAL = 4


@dataclass(frozen=True)
class Time:
    """Percentiles of the time of one call in milliseconds."""

    p50_ms: float
    p10_ms: float


def open_session(model: onnx.ModelProto, *, defaults: bool = False, profile: str | None = None) -> Any:
    """Returns a session with onnxruntime's defaults, on one thread unless ``defaults``."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    if not defaults:
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def random_feed(session: Any, present: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Returns a full window, with zeros for every modality that is not ``present``."""
    rng = np.random.default_rng(0)
    feed = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        kind, _, modality = value.name.partition(".")
        if present is not None and modality not in present:
            feed[value.name] = np.zeros(shape, np.float32)
        elif kind == "mask":
            feed[value.name] = np.ones(shape, np.float32)
        else:
            feed[value.name] = rng.normal(size=shape).astype(np.float32)
    return feed


def call_of(session: Any, present: tuple[str, ...] | None = None) -> Callable[[], object]:
    """Returns a call of a session on a window."""
    feed = random_feed(session, present)
    return lambda: session.run(None, feed)


def bound_call_of(session: Any) -> Callable[[], object]:
    """Returns a call of a session whose inputs and outputs lie ready in memory."""
    rng = np.random.default_rng(0)
    binding = session.io_binding()
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int32)": np.int32}
    for value in session.get_inputs():
        array = (
            rng.integers(0, 255, value.shape)
            if value.type == "tensor(uint8)"
            else rng.normal(size=value.shape)
        )
        held = onnxruntime.OrtValue.ortvalue_from_numpy(array.astype(kinds[value.type]))
        binding.bind_ortvalue_input(value.name, held)
    for value in session.get_outputs():
        held = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(value.shape, kinds[value.type]))
        binding.bind_ortvalue_output(value.name, held)
    return lambda: session.run_with_iobinding(binding)


def time_in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Time]:
    """Returns the time of each call; everybody follows everybody equally often."""
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-WARM_UP, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    times = {}
    for name in names:
        p50, p10 = np.percentile(np.array(seconds[name]) * 1e3, (50, 10))
        times[name] = Time(round(float(p50), 4), round(float(p10), 4))
    return times


def profile_operators(model: onnx.ModelProto, rounds: int) -> dict[str, tuple[int, float]]:
    """Returns operator -> how many nodes onnxruntime runs of it, and their time in microseconds.

    The profiler counts whole microseconds and costs about one a node, so the sum is above the time of a
    call; what it shows is which operator has which share.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, profile=str(Path(folder) / "profile"))
        call = call_of(session)
        for _ in range(rounds):
            call()
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: dict[str, list[int]] = {}
    operator: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent.setdefault(event["name"], []).append(event["dur"])
            operator[event["name"]] = event["args"]["op_name"]
    found: dict[str, tuple[int, float]] = {}
    for name, durations in spent.items():
        middle = np.sort(durations)[len(durations) // 10 : -len(durations) // 4]
        count, total = found.get(operator[name], (0, 0.0))
        found[operator[name]] = (count + 1, total + float(middle.mean()))
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))
