"""Nothing ships that gives other answers than the trained network.

Engines run on the checkpoint's reference windows, whose answers the training framework computed with
the adapters active and unmerged. int8 engines run window by window, as a session runs them: their
activations are quantized over the batch. Stems run on the checkpoint's reference blocks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.manifest import SubsetSpec
from edgeemo.bundle.probabilities import probabilities_from_logits
from edgeemo.bundle.tensors import Array
from edgeemo.errors import GateError
from edgeemo.modality import subset_members
from edgeemo.runtimes.ort import OrtRunner

FP32 = "fp32"
# Largest deviation of an fp32 engine, of the largest logit: a hundred times what reordering costs.
MAX_FP32_DEVIATION = 1e-4
# A window counts where the two likeliest labels differ by this much in the training framework.
DECIDED_MARGIN = 0.05
MAX_CHANGED_LABELS = 0.02
# Root mean square error of an int8 stem, of that of its features. Eight bits in each of eight layers
# cost 1 to 3 % on speech, faces and texts, where no label in a hundred changes, and up to 7 % on a
# checkpoint's synthetic blocks, which leave the ranges that real input taught. A wrong range or a
# saturated layer costs far more than 10 % (20 dB), a noise that training's augmentation exceeds.
MAX_INT8_STEM_ERROR = 0.1
_WARM_UP_RUNS = 5
_TIMED_RUNS = 30


@dataclass(frozen=True)
class Verdict:
    """What the gate measured on one graph.

    Attributes:
        deviation: largest difference from the reference, of the reference's largest number.
        rms_error: root mean square difference, of the reference's root mean square.
        changed: part of the decided windows whose label differs; None for stems.
        decided: windows whose reference margin exceeds `DECIDED_MARGIN`; None for stems.
        latency_ms: median of a run on one window or block, one thread, on this machine.
    """

    deviation: float
    rms_error: float
    changed: float | None
    decided: int | None
    latency_ms: float


def judge_engine(
    model: bytes, subset: str, variant: str, spec: SubsetSpec, reference: Mapping[str, Array]
) -> Verdict:
    """Returns how an engine's answers compare with the reference.

    Args:
        model: the serialized engine.
        subset: its subset.
        variant: ``"fp32"`` is held to `MAX_FP32_DEVIATION`, any other to `MAX_CHANGED_LABELS`.
        spec: temperature and prior, which decide over labels and margins.
        reference: ``reference.safetensors`` of the checkpoint.

    Raises:
        GateError: the engine fails; the message names it and says by how much.
    """
    members = subset_members(subset)
    feed = {
        f"{kind}.{name}": np.asarray(reference[f"{kind}.{name}"], dtype=np.float32)
        for name in members
        for kind in ("features", "mask")
    }
    expected = {"logits": np.asarray(reference[f"logits.{subset}"], dtype=np.float32)}
    expected |= {
        f"evidence.{name}": np.asarray(reference[f"evidence.{subset}.{name}"], dtype=np.float32)
        for name in members
        if f"evidence.{subset}.{name}" in reference
    }
    runner = OrtRunner(model, engine=subset, variant=variant)
    windows = len(expected["logits"])
    rows = [slice(0, windows)] if variant == FP32 else [slice(i, i + 1) for i in range(windows)]
    found = _run(runner, feed, rows)
    scale = float(np.abs(expected["logits"]).max())
    deviation = max(float(np.abs(found[name] - want).max()) for name, want in expected.items()) / scale
    changed, decided = changed_labels(found["logits"], expected["logits"], spec)
    verdict = Verdict(
        deviation=deviation,
        rms_error=_relative_rms(found["logits"], expected["logits"]),
        changed=changed,
        decided=decided,
        latency_ms=_latency_ms(runner, {name: array[:1] for name, array in feed.items()}),
    )
    name = f"the engine {subset} ({variant})"
    if not np.isfinite(deviation):
        raise GateError(f"{name} gives numbers that are not finite on the reference windows")
    if variant == FP32 and deviation > MAX_FP32_DEVIATION:
        raise GateError(
            f"{name} deviates from the trained network by {deviation:.2e} of the largest logit; "
            f"expected at most {MAX_FP32_DEVIATION:.0e}"
        )
    if variant != FP32 and changed > MAX_CHANGED_LABELS:
        raise GateError(
            f"{name} changes {changed:.1%} of the labels of {decided} windows whose margin exceeds "
            f"{DECIDED_MARGIN}; expected at most {MAX_CHANGED_LABELS:.0%}. Leave this variant out with "
            "--variant, or train with more regularisation"
        )
    return verdict


def judge_stem(model: bytes, modality: str, variant: str, reference: Mapping[str, Array]) -> Verdict:
    """Returns how a stem's features compare with the reference.

    Raises:
        GateError: fp32 deviates by more than `MAX_FP32_DEVIATION` of the largest feature, or another
            variant's root mean square error exceeds `MAX_INT8_STEM_ERROR` of the features'.
    """
    feed = {f"input.{modality}": reference[f"stem.{modality}.input"]}
    expected = np.asarray(reference[f"stem.{modality}.output"], dtype=np.float32)
    runner = OrtRunner(model, engine=f"stem.{modality}", variant=variant)
    rows = [slice(i, i + 1) for i in range(len(expected))]
    found = _run(runner, feed, rows)[f"features.{modality}"]
    deviation = float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-12)
    verdict = Verdict(
        deviation=deviation,
        rms_error=_relative_rms(found, expected),
        changed=None,
        decided=None,
        latency_ms=_latency_ms(runner, {name: array[:1] for name, array in feed.items()}),
    )
    name = f"the stem of {modality} ({variant})"
    if not np.isfinite(deviation):
        raise GateError(f"{name} gives numbers that are not finite on the reference blocks")
    if variant == FP32 and deviation > MAX_FP32_DEVIATION:
        raise GateError(
            f"{name} deviates from the trained network by {deviation:.2e} of the largest feature; "
            f"expected at most {MAX_FP32_DEVIATION:.0e}"
        )
    if variant != FP32 and verdict.rms_error > MAX_INT8_STEM_ERROR:
        raise GateError(
            f"{name} has a root mean square error of {verdict.rms_error:.1%} of its features; expected at "
            f"most {MAX_INT8_STEM_ERROR:.0%}. Its ranges.json may not fit its inputs"
        )
    return verdict


def changed_labels(
    found: NDArray[np.float32], expected: NDArray[np.float32], spec: SubsetSpec
) -> tuple[float, int]:
    """Returns which part of the decided windows changes its label, and how many are decided.

    Args:
        found: logits (N, C) of the engine.
        expected: logits (N, C) of the training framework.
        spec: temperature and prior.
    """
    before = probabilities_from_logits(expected, spec)
    after = probabilities_from_logits(found, spec)
    ranked = np.sort(before, axis=1)
    decided = ranked[:, -1] - ranked[:, -2] > DECIDED_MARGIN
    changed = (before.argmax(axis=1) != after.argmax(axis=1)) & decided
    count = int(decided.sum())
    return (float(changed.sum()) / count if count else 0.0), count


def _run(runner: OrtRunner, feed: Mapping[str, Array], rows: list[slice]) -> dict[str, NDArray[np.float32]]:
    parts = [runner.run({key: array[some] for key, array in feed.items()}) for some in rows]
    return {
        spec.name: np.concatenate([np.asarray(part[spec.name], dtype=np.float32) for part in parts])
        for spec in runner.outputs
    }


def _relative_rms(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    error = np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2))
    return float(error / max(float(np.sqrt(np.mean(expected.astype(np.float64) ** 2))), 1e-12))


def _latency_ms(runner: OrtRunner, feed: Mapping[str, Array]) -> float:
    for _ in range(_WARM_UP_RUNS):
        runner.run(feed)
    seconds = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        runner.run(feed)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds) * 1e3)
