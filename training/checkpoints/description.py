"""What a checkpoint is described with: its modalities, its windows, its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[Any]


@dataclass(frozen=True)
class ModalityPart:
    """One modality of a checkpoint: its stem, its window, and inputs to check and calibrate it with.

    Attributes:
        name: such as ``"audio"``.
        front_end: the whole front-end specification, as it goes into JSON.
        stem: the frozen encoder, (B, items, *item_shape) -> (B, n, D), one feature for each stride.
        width: D.
        length: positions in a window, T.
        period_s: seconds from one position to the next.
        window_s: seconds that a window looks back.
        item_shape: shape of one input item.
        examples: (N, left_context + block, *item_shape) synthetic inputs, N >= 2; saved with the
            stem's answers. Never a recording.
        calibration: (N, left_context + block, *item_shape) inputs from training data; only activation
            ranges are kept of them.
        stride: input items for each position.
        left_context: items of the past that a block of input starts with.
        block: new items in one block, a multiple of the stride.
        scope: ``"stream"`` (blocks follow each other) or ``"window"`` (a block is a whole window).
    """

    name: str
    front_end: Mapping[str, Any]
    stem: nn.Module
    width: int
    length: int
    period_s: float
    window_s: float
    item_shape: tuple[int, ...]
    examples: Array
    calibration: Array
    stride: int = 1
    left_context: int = 0
    block: int = 1
    scope: str = "stream"

    def as_json(self) -> dict[str, Any]:
        """Returns the entry of ``checkpoint.json``."""
        return {
            "name": self.name,
            "front_end": dict(self.front_end),
            "feature_width": self.width,
            "window": {"length": self.length, "period_s": self.period_s, "window_s": self.window_s},
            "stem": {
                "graph": f"graphs/stem.{self.name}.onnx",
                "stride": self.stride,
                "left_context": self.left_context,
                "block": self.block,
                "scope": self.scope,
                "item_shape": list(self.item_shape),
                "dtype": str(self.examples.dtype),
            },
        }


@dataclass(frozen=True)
class Windows:
    """Feature windows: modality -> features (N, T, D) and mask (N, T), float32."""

    features: dict[str, Array]
    masks: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.masks.values())))

    def rounded(self) -> Windows:
        """Returns the windows as the reference file will hold them: through float16 and back."""

        def through_half(arrays: dict[str, Array]) -> dict[str, Array]:
            return {m: array.astype(np.float16).astype(np.float32) for m, array in arrays.items()}

        return Windows(through_half(self.features), through_half(self.masks))


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself besides its weights.

    Attributes:
        model_id: such as ``"live"``.
        family: of the trunk, such as ``"mculora"``; a word of your own for a network of your own.
        labels: class names in the order of the logits.
        hop_s: seconds between two readings.
        data: name, licence and use of each data set.
        licence: of the weights: ``weights`` (its name), ``non_commercial`` (true or false), ``notice``.
        temperatures: subset -> T in ``softmax(logits / T + log prior)``; None for 1 everywhere.
        priors: subset -> class probabilities, each above 0; None where the logits hold the prior already,
            as those of a network trained with plain cross entropy do.
        trunk: arguments to build the trunk again (`edgeemo.training.checkpoints.load`); not for foreign
            networks.
        metrics: validation figures.
        thresholds: named numbers for sessions (`edgeemo.session.Settings`), as they were fitted.
    """

    model_id: str
    family: str
    labels: Sequence[str]
    hop_s: float
    data: Sequence[Mapping[str, str]]
    licence: Mapping[str, Any]
    temperatures: Mapping[str, float] | None = None
    priors: Mapping[str, Sequence[float]] | None = None
    trunk: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def temperature(self, subset: str) -> float:
        """Returns T of a subset."""
        return 1.0 if self.temperatures is None else float(self.temperatures[subset])

    def prior(self, subset: str) -> list[float]:
        """Returns the class probabilities of a subset."""
        if self.priors is None:
            return [1.0 / len(self.labels)] * len(self.labels)
        return [float(value) for value in self.priors[subset]]
