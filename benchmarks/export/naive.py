"""What an engineer gets by hand: torch.onnx.export of the whole network, and quantize_dynamic of that.

Two networks. As trained: base and adapters side by side, what ``torch.onnx.export`` writes of the module
that training leaves. Merged by hand: the adapters of all three modalities added to the weights first.
Either serves every subset, with zeros for what is missing.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import quantize_dynamic

from edgeemo.modality import all_subsets

AS_TRAINED, MERGED = "as trained", "merged by hand"


def naive_networks(checkpoint: Path) -> dict[str, dict[str, onnx.ModelProto]]:
    """Returns network -> ``"fp32"`` or ``"int8"`` -> its graph; needs torch."""
    import torch

    from edgeemo.training.checkpoints.load import trunk_from_checkpoint

    model = trunk_from_checkpoint(checkpoint)
    found = {AS_TRAINED: _pair(model, model.trunk)}
    subset = all_subsets(model.order)[-1]
    with torch.no_grad():
        for name in model.modules_of[subset]:
            model.linears[name].weight.copy_(model.merged_weight(name, subset).float())
    found[MERGED] = _pair(model.trunk, model.trunk)
    return found


def _pair(module: Any, trunk: Any) -> dict[str, onnx.ModelProto]:
    exported = _export(module, trunk)
    return {"fp32": exported, "int8": _quantize(exported)}


def _export(module: Any, trunk: Any) -> onnx.ModelProto:
    """Returns what ``torch.onnx.export`` writes, with its own defaults but for a symbolic batch."""
    import torch

    order = tuple(trunk.widths)

    class Positional(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        """The network as a function of tensors in a row."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Any) -> tuple[Any, ...]:
            """Returns logits and the evidence of each modality."""
            logits, evidence = self.module(
                dict(zip(order, inputs[0::2], strict=True)), dict(zip(order, inputs[1::2], strict=True))
            )
            return (logits, *(evidence[name] for name in order))

    inputs, names = [], []
    for name in order:
        inputs += [
            torch.zeros(2, trunk.lengths[name], trunk.widths[name]),
            torch.ones(2, trunk.lengths[name]),
        ]
        names += [f"features.{name}", f"mask.{name}"]
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Positional().eval(),
            tuple(inputs),
            dynamo=True,
            input_names=names,
            output_names=["logits", *(f"evidence.{name}" for name in order)],
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    return model


def _quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns what ``quantize_dynamic`` makes of it with its defaults.

    It stops at shapes that the tracer wrote down wrongly, so these are taken off first.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "int8.onnx"
        quantize_dynamic(copy, place)
        return onnx.load(place)
