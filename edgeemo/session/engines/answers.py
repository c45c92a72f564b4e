"""Whether an engine on another backend gives the answers of the one that serves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle, probabilities_from_logits
from edgeemo.errors import BackendError, BundleError
from edgeemo.runtimes.base import Array, Runner
from edgeemo.runtimes.choose import typical_feed
from edgeemo.session.engines.attempt import attempt
from edgeemo.session.engines.snapshot import STEM

MOST_PROBABILITY = 0.05
"""Largest difference of a probability: five times what the shipped int8 engines differ from fp16 ones (0.0098
at most over the reference windows of all seven), so it lets every honest variant pass."""
MOST_STEM_ERROR = 0.2
"""Root mean square difference of a stem's features, of that of the features: an exporter lets int8 differ
from fp32 by 0.1 and int8-trt by 0.15, so two of them may differ by the root of the squares' sum."""


def check_answers(bundle: Bundle, name: str, offered: Runner, serving: Runner | None) -> None:
    """Refuses a runner whose answers are not those of the one that serves.

    Both see the bundle's reference windows one by one, as a hop does; where the bundle has none, windows of
    noise. Where nothing serves, the answers in the bundle count, as the trained network gave them.

    Args:
        bundle: with the reference windows.
        name: a subset or ``stem.<modality>``.
        offered: the runner to check.
        serving: what it is compared with.

    Raises:
        BackendError: it fails, gives numbers that are not finite, or other answers; the message says how far.
    """
    windows, expected = _reference(bundle, name, offered)
    if serving is not None:
        with suppress(BackendError):  # it was closed or set aside meanwhile: what the bundle promises counts
            expected = _answers(serving, windows, name)
    found = _answers(offered, windows, name)
    if expected is None:
        return
    if name.startswith(STEM):
        scale = float(np.sqrt(np.mean(np.square(expected)))) or 1.0
        error = float(np.sqrt(np.mean(np.square(found - expected)))) / scale
        if not error <= MOST_STEM_ERROR:
            raise BackendError(
                f"{offered.engine}.{offered.variant} on {offered.backend} gives other features: they differ "
                f"by {error:.3f} of their size, at most {MOST_STEM_ERROR:g} is allowed"
            )
        return
    spec = bundle.manifest.subsets[name]
    ours = np.stack([probabilities_from_logits(row, spec) for row in found])
    theirs = np.stack([probabilities_from_logits(row, spec) for row in expected])
    worst = float(np.abs(ours - theirs).max())
    if not worst <= MOST_PROBABILITY:
        raise BackendError(
            f"{offered.engine}.{offered.variant} on {offered.backend} gives other answers: a probability "
            f"differs by {worst:.3f}, at most {MOST_PROBABILITY:g} is allowed"
        )


def _reference(
    bundle: Bundle, name: str, runner: Runner
) -> tuple[list[dict[str, Array]], NDArray[np.float32] | None]:
    """Returns the windows (each of batch 1) and the answers that the bundle promises for them."""
    try:
        kept: Mapping[str, Array] = bundle.reference()
    except BundleError:
        kept = {}
    keys = {spec.name: spec.name for spec in runner.inputs}
    result = f"logits.{name}"
    if name.startswith(STEM):
        keys = {spec.name: f"{name}.input" for spec in runner.inputs}
        result = f"{name}.output"
    if not all(key in kept for key in keys.values()):
        return [typical_feed(runner.inputs)], None
    count = min(len(kept[key]) for key in keys.values())
    dtypes = {spec.name: spec.dtype for spec in runner.inputs}
    windows = [
        {own: kept[key][row : row + 1].astype(dtypes[own]) for own, key in keys.items()}
        for row in range(count)
    ]
    promised = kept[result][:count].astype(np.float32) if result in kept else None
    return windows, promised


def _answers(runner: Runner, windows: list[dict[str, Array]], name: str) -> NDArray[np.float32]:
    """Returns logits (N, C) or features (N, n, D) for windows.

    Raises:
        BackendError: the runner fails or gives numbers that are not finite.
    """
    output = f"features.{name[len(STEM) :]}" if name.startswith(STEM) else "logits"
    rows = []
    for window in windows:
        answers, why = attempt(runner, window)
        if why:
            raise BackendError(f"{runner.engine}.{runner.variant} on {runner.backend} was not taken: {why}")
        rows.append(np.asarray(answers[output][0], np.float32))
    return np.stack(rows)
