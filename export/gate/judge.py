"""Nothing ships that gives other answers than the trained network.

Engines run on the checkpoint's reference windows, whose answers the training framework computed with
the adapters active and unmerged. int8 engines run window by window, as a session runs them: their
activations are quantized over the batch. fp16 graphs are judged in real fp16, operator by operator, and
have to open in onnxruntime as well. Stems run on the checkpoint's reference blocks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeemo.bundle.manifest import SubsetSpec
from edgeemo.bundle.probabilities import probabilities_from_logits
from edgeemo.bundle.tensors import Array
from edgeemo.errors import GateError
from edgeemo.export.dialect import STANDARD
from edgeemo.export.gate.half import run_in_half
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.graph import bytes_from_model
from edgeemo.export.variants.make import DIALECT_OF, FP16, FP32, INT8_TRT
from edgeemo.modality import subset_members
from edgeemo.runtimes.ort import OrtRunner

FRAMES = "frame_logits"
_WARM_UP_RUNS = 5
_TIMED_RUNS = 30
_ADVICE = "Leave this variant out with --variant, or let --tune find the operators that should stay float"


@dataclass(frozen=True)
class Verdict:
    """What the gate measured on one graph.

    Attributes:
        deviation: largest difference from the reference, of the reference's largest number.
        rms_error: root mean square difference, of the reference's root mean square.
        changed: part of the decided windows whose label differs; None for stems.
        decided: windows whose reference margin exceeds `Thresholds.decided_margin`; None for stems.
        changed_frames: part of the decided frames whose label differs; None where there are none.
        largest: largest magnitude inside the graph in real fp16; None for variants without fp16.
        latency_ms: median of a run on one window or block, one thread, onnxruntime's CPU provider, on this
            machine. It says nothing about the GPUs that fp16 variants are for.
    """

    deviation: float
    rms_error: float
    changed: float | None
    decided: int | None
    changed_frames: float | None
    largest: float | None
    latency_ms: float


def judge_engine(
    model: onnx.ModelProto,
    subset: str,
    variant: str,
    spec: SubsetSpec,
    reference: Mapping[str, Array],
    *,
    thresholds: Thresholds | None = None,
) -> Verdict:
    """Returns how an engine's answers compare with the reference.

    Args:
        model: the engine, whole.
        subset: its subset.
        variant: which of the thresholds it is held to.
        spec: temperature and prior, which decide over labels and margins.
        reference: ``reference.safetensors`` of the checkpoint, with ``frame_logits.<subset>`` where the
            engine has frame logits.
        thresholds: the limits; the built-in ones if None.

    Raises:
        GateError: the engine fails; the message names it and says by how much.
    """
    limits = thresholds or Thresholds()
    name = f"the engine {subset} ({variant})"
    feed = engine_feed(subset, reference)
    expected = engine_answers(subset, reference)
    found, largest, latency_ms = _run(model, subset, variant, feed)
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise GateError(f"{name} answers {unknown[0]!r}, and the reference has nothing to compare it with")
    scale = float(np.abs(expected["logits"]).max())  # evidence is a part of the logits
    deviation = max(
        _deviation(found[key][: len(want)], want, None if key == FRAMES else scale)
        for key, want in expected.items()
    )
    _check_numbers(f"{name} on the reference windows", variant, deviation, largest, limits)
    changed, decided = changed_labels(found["logits"], expected["logits"], spec, limits.decided_margin)
    frames = None
    if FRAMES in expected:
        rows = len(expected[FRAMES])
        frames, _ = changed_labels(
            _flat(found[FRAMES][:rows]), _flat(expected[FRAMES]), spec, limits.decided_margin
        )
    verdict = Verdict(
        deviation=deviation,
        rms_error=relative_rms(found["logits"], expected["logits"]),
        changed=changed,
        decided=decided,
        changed_frames=frames,
        largest=largest,
        latency_ms=latency_ms,
    )
    if variant != FP32 and changed > limits.max_changed_labels:
        raise GateError(
            f"{name} changes {changed:.1%} of the labels of {decided} windows whose margin exceeds "
            f"{limits.decided_margin}; expected at most {limits.max_changed_labels:.0%}. {_ADVICE}"
        )
    if variant != FP32 and frames is not None and frames > limits.max_changed_labels:
        raise GateError(
            f"{name} changes {frames:.1%} of the labels of decided frames; expected at most "
            f"{limits.max_changed_labels:.0%}. {_ADVICE}"
        )
    return verdict


def judge_stem(
    model: onnx.ModelProto,
    modality: str,
    variant: str,
    reference: Mapping[str, Array],
    thresholds: Thresholds | None = None,
) -> Verdict:
    """Returns how a stem's features compare with the reference.

    Raises:
        GateError: the stem fails; the message names it and says by how much.
    """
    limits = thresholds or Thresholds()
    name = f"the stem of {modality} ({variant})"
    feed = {f"input.{modality}": reference[f"stem.{modality}.input"]}
    expected = np.asarray(reference[f"stem.{modality}.output"], dtype=np.float32)
    answers, largest, latency_ms = _run(model, f"stem.{modality}", variant, feed)
    found = answers[f"features.{modality}"]
    verdict = Verdict(
        deviation=_deviation(found, expected),
        rms_error=relative_rms(found, expected),
        changed=None,
        decided=None,
        changed_frames=None,
        largest=largest,
        latency_ms=latency_ms,
    )
    _check_numbers(f"{name} on the reference blocks", variant, verdict.deviation, largest, limits)
    limit = limits.max_int8_trt_stem_error if variant == INT8_TRT else limits.max_int8_stem_error
    if variant not in (FP32, FP16) and verdict.rms_error > limit:
        raise GateError(
            f"{name} has a root mean square error of {verdict.rms_error:.1%} of its features; expected at "
            f"most {limit:.0%}. Its ranges.json may not fit its inputs; --tune finds the operators that "
            "should stay float"
        )
    return verdict


def engine_feed(subset: str, reference: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
    """Returns the inputs of a subset's engine, all windows of the reference."""
    return {
        f"{kind}.{name}": np.asarray(reference[f"{kind}.{name}"], dtype=np.float32)
        for name in subset_members(subset)
        for kind in ("features", "mask")
    }


def engine_answers(subset: str, reference: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
    """Returns what the training framework answered: output name -> array."""
    names = {"logits": f"logits.{subset}", FRAMES: f"{FRAMES}.{subset}"}
    names |= {f"evidence.{name}": f"evidence.{subset}.{name}" for name in subset_members(subset)}
    return {
        output: np.asarray(reference[name], dtype=np.float32)
        for output, name in names.items()
        if name in reference
    }


def changed_labels(
    found: NDArray[np.float32], expected: NDArray[np.float32], spec: SubsetSpec, margin: float
) -> tuple[float, int]:
    """Returns which part of the decided windows changes its label, and how many are decided.

    Args:
        found: logits (N, C) of the engine.
        expected: logits (N, C) of the training framework.
        spec: temperature and prior.
        margin: by how much the two likeliest labels of a decided window differ.
    """
    before = probabilities_from_logits(expected, spec)
    after = probabilities_from_logits(found, spec)
    ranked = np.sort(before, axis=1)
    decided = ranked[:, -1] - ranked[:, -2] > margin
    changed = (before.argmax(axis=1) != after.argmax(axis=1)) & decided
    count = int(decided.sum())
    return (float(changed.sum()) / count if count else 0.0), count


def relative_rms(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Returns the root mean square difference, of the root mean square of ``expected``."""
    error = np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2))
    return float(error / max(float(np.sqrt(np.mean(expected.astype(np.float64) ** 2))), 1e-12))


def run_rows(runner: OrtRunner, feed: Mapping[str, Array], *, each: bool) -> dict[str, NDArray[np.float32]]:
    """Returns the outputs of all rows, run one by one where ``each``, else at once."""
    count = len(next(iter(feed.values())))
    rows = [slice(i, i + 1) for i in range(count)] if each else [slice(0, count)]
    parts = [runner.run({key: array[some] for key, array in feed.items()}) for some in rows]
    return {
        spec.name: np.concatenate([np.asarray(part[spec.name], dtype=np.float32) for part in parts])
        for spec in runner.outputs
    }


def _run(
    model: onnx.ModelProto, engine: str, variant: str, feed: Mapping[str, Array]
) -> tuple[dict[str, NDArray[np.float32]], float | None, float]:
    """Returns the answers, the largest magnitude inside (fp16) and the latency of one row."""
    first = {name: array[:1] for name, array in feed.items()}
    with OrtRunner(bytes_from_model(model), engine=engine, variant=variant) as runner:
        latency_ms = _latency_ms(runner, first)
        if DIALECT_OF[variant] == STANDARD:
            answer = run_in_half(model, feed)
            return answer.outputs, answer.largest, latency_ms
        return run_rows(runner, feed, each=variant != FP32), None, latency_ms


def _check_numbers(
    name: str, variant: str, deviation: float, largest: float | None, limits: Thresholds
) -> None:
    if largest is not None and not largest < limits.max_fp16_activation:
        raise GateError(
            f"{name} reaches {largest:.5g} inside; expected less than "
            f"{limits.max_fp16_activation:g}, an eighth of what fp16 holds. Leave this variant out with "
            "--variant, or train with smaller activations (weight decay, normalized inputs)"
        )
    if not np.isfinite(deviation):
        raise GateError(f"{name} gives numbers that are not finite")
    most = {FP32: limits.max_fp32_deviation, FP16: limits.max_fp16_deviation}.get(variant)
    if most is not None and deviation > most:
        raise GateError(
            f"{name} deviates from the trained network by {deviation:.2e} of the largest number of "
            f"its output; expected at most {most:.0e}"
        )


def _deviation(
    found: NDArray[np.float32], expected: NDArray[np.float32], scale: float | None = None
) -> float:
    """Returns the largest difference, of ``scale`` or of the largest number that is expected."""
    largest = float(np.abs(expected).max()) if scale is None else scale
    return float(np.abs(found - expected).max()) / max(largest, 1e-12)


def _flat(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return frames.reshape(-1, frames.shape[-1])


def _latency_ms(runner: OrtRunner, feed: Mapping[str, Array]) -> float:
    for _ in range(_WARM_UP_RUNS):
        runner.run(feed)
    seconds = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        runner.run(feed)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds) * 1e3)
