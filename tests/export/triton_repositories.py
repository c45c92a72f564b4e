"""What a device sends to a model repository, and what a session answers to the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle, ModalitySpec, probabilities_from_logits
from edgeemo.modality import subset_members
from edgeemo.runtimes import Runner, open_engine, open_stem
from edgeemo.windows import BlockBuffer, FeatureWindow

Arrays = dict[str, NDArray[Any]]
IDS = 16
"""Rows of the tiny bundle's table of words."""


def requests_of(bundle: Bundle, subset: str, *, count: int) -> list[Arrays]:
    """Returns random streams as a device would send them: their newest window, with holes in some."""
    rng = np.random.default_rng(len(subset))
    requests: list[Arrays] = []
    for number in range(count):
        request: Arrays = {}
        for m in subset_members(subset):
            spec = bundle.manifest.modality(m)
            mask = np.ones((1, spec.window.length), np.float32)
            mask[0, : number % spec.window.length] = 0.0
            shape = (1, items_of(spec), *spec.stem.item_shape)
            whole = spec.stem.dtype == "int64"
            request[f"input.{m}"] = (
                rng.integers(1, IDS, shape) if whole else rng.normal(size=shape).astype(np.float32)
            )
            request[f"mask.{m}"] = mask
        requests.append(request)
    return requests


def items_of(spec: ModalitySpec) -> int:
    """Returns the items that the features of a window are made of."""
    if spec.stem.scope == "window":
        return spec.stem.block
    blocks = -(-spec.window.length // spec.stem.features_per_block)
    return spec.stem.left_context + blocks * spec.stem.block


def session_answers(bundle: Bundle, subset: str, variant: str, requests: Sequence[Arrays]) -> list[Arrays]:
    """Returns features and answers as a session computes them: block by block, one window at a time."""
    answers: list[Arrays] = []
    with ExitStack() as opened:
        engine = opened.enter_context(open_engine(bundle, subset, variant=variant, backend="cpu"))
        stems = {
            m: opened.enter_context(open_stem(bundle, m, variant=variant, backend="cpu"))
            for m in subset_members(subset)
        }
        for request in requests:
            feed: Arrays = {}
            for m, stem in stems.items():
                items, mask = request[f"input.{m}"], request[f"mask.{m}"]
                feed[f"features.{m}"] = session_features(bundle.manifest.modality(m), stem, items, mask)
                feed[f"mask.{m}"] = mask
            outputs = engine.run(feed)
            outputs["probabilities"] = probabilities_from_logits(
                outputs["logits"], bundle.manifest.subsets[subset]
            )
            answers.append({**feed, **outputs})
    return answers


def session_features(
    spec: ModalitySpec, stem: Runner, items: NDArray[Any], mask: NDArray[Any]
) -> NDArray[np.float32]:
    """Returns the features (1, T, D) of a window, made in the blocks of a stream that ends with it."""
    if spec.stem.scope == "window":
        return stem.run({f"input.{spec.name}": items})[f"features.{spec.name}"]
    # The stream begins so far back that the window's left context is its own and no zeros.
    lead = -spec.stem.left_context % spec.stem.block
    older = np.zeros((lead, *spec.stem.item_shape), np.float32)
    stream = np.concatenate([older, items[0]])
    blocks = BlockBuffer(
        block=spec.stem.block, left_context=spec.stem.left_context, item_shape=spec.stem.item_shape
    )
    blocks.push(stream)
    made = [
        feature
        for block in blocks.take(up_to_item=len(stream))
        for feature in stem.run({f"input.{spec.name}": block[None]})[f"features.{spec.name}"][0]
    ]
    window = FeatureWindow(length=spec.window.length, width=spec.feature_width)
    first = len(made) - spec.window.length
    for slot, feature in enumerate(made):
        if slot >= first and mask[0, slot - first]:
            window.put(slot, feature)
    features, held = window.view(len(made) - 1)
    assert (held == mask).all()
    return features


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Returns the root mean square of the differences over that of what is expected."""
    scale = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64)))) or 1.0
    return float(np.sqrt(np.mean(np.square(found.astype(np.float64) - expected)))) / scale
