"""Whether a runner answers as the bundle says it must, on the windows that every bundle carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, BundleError
from edgeemo.modality import subset_members
from edgeemo.runtimes.base import Array, Runner
from edgeemo.runtimes.choose import typical_feed

STEM = "stem."
MOST_RMS_ERROR = 0.2
"""Root mean square error of the answers over that of the answers themselves. The exporter lets int8 stems
pass with 0.15, and eight bits leave engines under 0.1; a wrong input or a broken kernel gives 1 or more."""
DECIDED_MARGIN = 0.05
"""Lead of the best label in probability from which on a variant may not choose another; as the exporter."""


@dataclass(frozen=True)
class Agreement:
    """How a runner's answers compare with those in the bundle.

    Attributes:
        rms_error: root mean square of the differences, over that of the bundle's answers.
        changed: windows whose label differs although it was decided; 0 for stems.
        windows: windows compared.
    """

    rms_error: float
    changed: int
    windows: int

    @property
    def agrees(self) -> bool:
        """Whether this is the same engine as far as a variant may differ."""
        return self.rms_error <= MOST_RMS_ERROR and self.changed == 0

    def __str__(self) -> str:
        return (
            f"differs by {self.rms_error:.2%} (rms) from the right answers on {self.windows} windows, "
            f"{self.changed} labels changed"
        )


def compare_with_reference(runner: Runner, bundle: Bundle, name: str) -> Agreement:
    """Runs a runner on the bundle's reference windows, one at a time as a session does.

    Args:
        runner: opened from this bundle, on any backend, in any variant.
        bundle: where the windows and the right answers are.
        name: a subset, or ``stem.<modality>``.

    Raises:
        BackendError: the runner fails, or gives numbers that are not finite.
        BundleError: the bundle has no windows for this engine.
    """
    feeds, expected = reference_windows(bundle, name)
    return _agreement(_answers(runner, name, feeds), expected.astype(np.float64), name)


def compare_runners(runner: Runner, other: Runner, name: str) -> Agreement:
    """Runs two runners on the same window of noise: for a bundle without reference windows.

    Args:
        runner: the one in question.
        other: the one that is trusted.
        name: a subset, or ``stem.<modality>``.

    Raises:
        BackendError: one fails, or gives numbers that are not finite.
    """
    feeds = [typical_feed(other.inputs)]
    return _agreement(_answers(runner, name, feeds), _answers(other, name, feeds), name)


def _answers(runner: Runner, name: str, feeds: list[dict[str, Array]]) -> Array:
    output = f"features.{name.removeprefix(STEM)}" if name.startswith(STEM) else "logits"
    found: Array = np.concatenate([runner.run(feed)[output] for feed in feeds]).astype(np.float64)
    if not np.isfinite(found).all():
        raise BackendError(f"{runner!r} gives numbers that are not finite")
    return found


def _agreement(found: Array, expected: Array, name: str) -> Agreement:
    error = float(np.sqrt(np.mean((found - expected) ** 2)) / max(np.sqrt(np.mean(expected**2)), 1e-12))
    changed = 0 if name.startswith(STEM) else _changed_labels(found, expected)
    return Agreement(error, changed, len(found))


def reference_windows(bundle: Bundle, name: str) -> tuple[list[dict[str, Array]], Array]:
    """Returns one feed for each window and the right answers (N, ...).

    Args:
        bundle: where the windows are.
        name: a subset, or ``stem.<modality>``.

    Raises:
        BundleError: the bundle has no windows for this engine.
    """
    reference = bundle.reference()
    if name.startswith(STEM):
        modality = name.removeprefix(STEM)
        inputs = {f"input.{modality}": f"{name}.input"}
        answers = f"{name}.output"
    else:
        keys = [f"{kind}.{m}" for m in subset_members(name) for kind in ("features", "mask")]
        inputs = {key: key for key in keys}
        answers = f"logits.{name}"
    missing = [key for key in (*inputs.values(), answers) if key not in reference]
    if missing:
        raise BundleError(f"{bundle.path}: its reference windows lack {missing[0]}; export the bundle again")
    arrays = {key: _wide(reference[stored]) for key, stored in inputs.items()}
    count = len(reference[answers])
    feeds = [{key: array[row : row + 1] for key, array in arrays.items()} for row in range(count)]
    return feeds, reference[answers]


def _wide(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _changed_labels(found: Array, expected: Array) -> int:
    shifted = np.exp(expected - expected.max(axis=1, keepdims=True))
    ordered = np.sort(shifted / shifted.sum(axis=1, keepdims=True), axis=1)
    decided = ordered[:, -1] - ordered[:, -2] > DECIDED_MARGIN
    return int(np.sum((found.argmax(axis=1) != expected.argmax(axis=1)) & decided))
