"""Running an engine or stem so that a failure is a sentence, and numbers that are none count as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np

from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.base import Array, Runner
from edgeemo.runtimes.choose import typical_feed

_WARM_UP_RUNS = 3


def attempt(runner: Runner, feed: Mapping[str, Array]) -> tuple[dict[str, Array], str]:
    """Returns the answers of one call and why they cannot be used; empty where they can.

    Whatever the backend raises counts: an accelerator's library raises what it likes.
    """
    try:
        answers = runner.run(feed)
    except Exception as error:
        return {}, sentence_of(error)
    return answers, not_finite(answers)


def not_finite(arrays: Mapping[str, Array]) -> str:
    """Says which array holds numbers that are not finite; empty where all are."""
    for name, array in arrays.items():
        # The sum of squares is finite only where all numbers are, and half as dear as asking each; where it
        # overflows, each is asked.
        flat = array.reshape(-1)
        if not isfinite(flat.dot(flat)) and not np.isfinite(array).all():
            return f"it gives numbers that are not finite in {name!r}"
    return ""


def sentence_of(error: Exception) -> str:
    """Returns what an error says, in one line."""
    text = str(error) if isinstance(error, EdgeEmoError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def warm(runner: Runner, labels: Sequence[str]) -> str:
    """Runs an engine or stem a few times, so that its first hop is not its slowest.

    Returns:
        why it cannot be used: it fails, gives numbers that are not finite, or an engine gives other than
        one logit a label; empty where it can.
    """
    feed = typical_feed(runner.inputs)
    for _ in range(_WARM_UP_RUNS):
        answers, why = attempt(runner, feed)
        if why:
            return why
    logits = answers.get("logits")
    if logits is not None and logits.shape != (1, len(labels)):
        return f"it gives logits of shape {list(logits.shape)}; expected {[1, len(labels)]}"
    return ""
