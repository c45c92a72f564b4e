"""What every engine and stem is held to; the manifest of a bundle carries the numbers it was judged by."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edgeemo.export.variants.fp16 import HEADROOM, LARGEST


@dataclass(frozen=True)
class Thresholds:
    """The limits of the gate.

    Attributes:
        max_fp32_deviation: largest deviation of an fp32 graph, of the largest number of the output: a
            hundred times what reordering sums costs.
        max_fp16_deviation: the same in fp16, computed in real fp16: ten times what rounding costs.
        max_fp16_activation: largest magnitude inside an fp16 graph: an eighth of what fp16 holds.
        decided_margin: a window counts where its two likeliest labels differ by this much in the training
            framework.
        max_changed_labels: part of the decided windows whose label may differ.
        max_int8_stem_error: root mean square error of an int8 stem, of that of its features. Eight bits in
            each of eight layers cost 1 to 3 % on speech, faces and texts, where no label in a hundred
            changes, and up to 7 % on a checkpoint's synthetic blocks, which leave the ranges that real
            input taught. A wrong range or a saturated layer costs far more than 10 % (20 dB), a noise that
            training's augmentation exceeds.
        max_int8_trt_stem_error: the same where activations are symmetric: a Relu leaves half of the levels
            unused, one bit less.
        max_accuracy_loss: accuracy on labelled data that a variant may lose against fp32; two items more
            may change than that, or the verdict on a small set would hang on one of them.
    """

    max_fp32_deviation: float = 1e-4
    max_fp16_deviation: float = 1e-2
    max_fp16_activation: float = LARGEST / HEADROOM
    decided_margin: float = 0.05
    max_changed_labels: float = 0.02
    max_int8_stem_error: float = 0.1
    max_int8_trt_stem_error: float = 0.15
    max_accuracy_loss: float = 0.005

    def to_json(self) -> dict[str, float]:
        """Returns name -> number, as a manifest's ``thresholds`` holds them."""
        return asdict(self)
