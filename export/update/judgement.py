"""What new adapters are judged by: the answers that they bring, or those of the unmerged network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeemo.bundle.tensors import Array, read_tensors
from edgeemo.errors import CheckpointError
from edgeemo.export.adapters.unmerged import UnmergedNetwork
from edgeemo.export.checkpoint import COMMON, REFERENCE, Checkpoint
from edgeemo.export.graph import io_shapes
from edgeemo.modality import subset_members

BROUGHT = "the adapter's own reference"
UNMERGED = "the unmerged network"
MIN_WINDOWS = 16
"""Windows that an adapter's own reference must have."""
MAX_WINDOWS = 64
"""Windows of it, or of the base's, that are looked at: a device has a second for an engine."""


def answers_to_judge_by(
    source: Checkpoint, network: UnmergedNetwork, folders: Mapping[str, Path]
) -> tuple[str, dict[str, Array]]:
    """Returns windows and answers that the engine of a subset must give, and where they come from.

    The subset's own adapter is asked first, then the common one: a ``reference.safetensors`` in its folder
    holds ``logits.<subset>`` (N, C), further ``evidence.<subset>.<m>`` and ``frame_logits.<subset>`` as the
    training framework computed them, for the windows of the base's own reference or for
    ``features.<m>`` (N, T_m, D_m) and ``mask.<m>`` (N, T_m) in the same file. What it does not hold is
    answered by the network with base and adapters apart.

    Args:
        source: the checkpoint with the new adapters in the place of the old.
        network: the one of the engine that is judged, with the new adapters.
        folders: new adapter -> its folder.

    Raises:
        CheckpointError: a tensor of the reference is missing, misshapen or not finite (named).
    """
    subset = network.subset
    windows = _windows_of(source.reference, subset)
    places = [folders[key] / REFERENCE for key in (subset, COMMON) if key in folders]
    for place in places:
        if place.is_file():
            brought = read_tensors(place, CheckpointError)
            windows, answers = (_few(part) for part in _checked(place, brought, windows, source, subset))
            if len(answers) < len(source.engine_graphs[subset].graph.output):
                answers = {**network.answers(windows), **answers}
            return BROUGHT, {**windows, **answers}
    windows = _few(windows)
    return UNMERGED, {**windows, **network.answers(windows)}


def _windows_of(reference: Mapping[str, Array], subset: str) -> dict[str, Array]:
    names = [f"{kind}.{name}" for name in subset_members(subset) for kind in ("features", "mask")]
    return {name: reference[name] for name in names}


def _few(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns some rows of each array, the same of all and evenly spread."""
    count = max(map(len, arrays.values()))
    rows = np.linspace(0, count - 1, min(MAX_WINDOWS, count)).round().astype(int)
    return {name: array[rows[rows < len(array)]] for name, array in arrays.items()}


def _checked(
    place: Path, brought: Mapping[str, Array], windows: Mapping[str, Array], source: Checkpoint, subset: str
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Returns windows and answers of an adapter's own reference, with the shapes that they must have."""
    logits, frames = f"logits.{subset}", f"frame_logits.{subset}"
    own = any(name in brought for name in windows)
    for name in (logits, *(windows if own else ())):
        if name not in brought:
            raise CheckpointError(
                f"{place}: missing tensor {name!r}; expected the answers for the engine {subset}, and "
                "either no windows or the features and masks of all its modalities"
            )
    count, base_count = len(brought[logits]), len(next(iter(windows.values())))
    if count < MIN_WINDOWS or (not own and count != base_count):
        wanted = f"at least {MIN_WINDOWS}" if own else f"{base_count}, those of the base's reference"
        raise CheckpointError(f"{place}: {logits!r} has {count} windows; expected {wanted}")
    shapes: dict[str, tuple[int | str, ...]] = {logits: (count, len(source.labels))}
    if own:
        shapes |= {name: (count, *array.shape[1:]) for name, array in windows.items()}
    for name in subset_members(subset):
        if f"evidence.{subset}.{name}" in brought:
            shapes[f"evidence.{subset}.{name}"] = (count, len(source.labels))
    if frames in brought:
        frame_shape = io_shapes(source.engine_graphs[subset].graph.output).get("frame_logits", (0,))
        shapes[frames] = (min(count, len(brought[frames])), *frame_shape[1:])
    for name, shape in shapes.items():
        array = brought[name]
        if array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
            raise CheckpointError(
                f"{place}: {name!r} is {array.dtype} {list(array.shape)}; expected finite floating-point "
                f"numbers of shape {list(shape)}"
            )
    answers = {name: brought[name] for name in shapes if name not in windows}
    return {name: (brought if own else windows)[name] for name in windows}, answers
