"""Tiny random encoders of transformers, built from a config, exported as their users export them."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

EXPORTERS = ("names", "folded", "renamed")
"""torch.onnx.export with dynamo and every name kept, with its own optimizer, and the older exporter."""


class Hidden(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A model that answers with one tensor; what people write around one to export it."""

    def __init__(self, model: nn.Module, answer: str) -> None:
        super().__init__()
        self.model = model
        self.answer = answer

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        result: Tensor = getattr(output, self.answer)
        return result


def tokens() -> tuple[Tensor, Tensor]:
    """Two sentences of seven tokens, the second one padded."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 50, (2, 7), generator=generator)
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 5:] = 0
    return ids, mask


def randomized(model: nn.Module) -> nn.Module:
    """Makes biases and norms random too (exporters store equal tensors once), in eval mode."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tiny_bert(head: str = "") -> nn.Module:
    """A BERT of two layers of width 24, with a head for ``"sequence"`` or ``"token"`` labels where asked."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertModel,
    )

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=40,
        max_position_embeddings=16,
        num_labels=3,
    )
    if head:
        kinds = {"sequence": BertForSequenceClassification, "token": BertForTokenClassification}
        return randomized(kinds[head](config))
    return randomized(BertModel(config, add_pooling_layer=False))


def tiny_gpt2() -> nn.Module:
    """A GPT-2 of one layer of width 24: its layers are Conv1D, which hold their weight (in, out)."""
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=24, n_layer=1, n_head=2, n_positions=16, use_cache=False)
    return randomized(GPT2Model(config))


class Shared(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """One weight for two modules, one module called twice, an embedding that is the head's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 6)
        self.twice = nn.Linear(6, 6)
        self.twin = nn.Linear(6, 6)
        self.head = nn.Linear(6, 50, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        hidden = self.twice(torch.relu(self.twice(self.embedding(input_ids))))
        answer = self.head(self.twin(torch.relu(hidden))) * attention_mask.unsqueeze(-1)
        return SimpleNamespace(last_hidden_state=answer)


def shared_network() -> nn.Module:
    """A `Shared` whose two modules have equal weights, as exporters store once."""
    torch.manual_seed(0)
    network = randomized(Shared())
    network.twin.load_state_dict(network.twice.state_dict())
    network.head.weight = network.embedding.weight
    return network


def export(model: nn.Module, path: Path, exporter: str, answer: str) -> Path:
    """Writes ``model`` as ONNX with one of the `EXPORTERS`."""
    options: dict[str, Any] = {"input_names": ["input_ids", "attention_mask"], "output_names": ["answer"]}
    wrapped = Hidden(copy.deepcopy(model), answer).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracers' own
        if exporter == "renamed":
            torch.onnx.export(wrapped, tokens(), path, dynamo=False, opset_version=17, **options)
        else:
            options |= {"optimize": exporter == "folded", "external_data": False, "verbose": False}
            torch.onnx.export(wrapped, tokens(), path, dynamo=True, opset_version=20, **options)
    return path


def torch_answer(model: nn.Module, answer: str) -> NDArray[np.float32]:
    """What torch says for the `tokens`."""
    with torch.no_grad():
        result: NDArray[np.float32] = Hidden(model.eval(), answer)(*tokens()).numpy()
    return result


def onnx_answer(path: Path) -> NDArray[np.float32]:
    """What onnxruntime says for the `tokens`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns about CastLike nodes that it does not fold
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ids, mask = tokens()
    result: NDArray[np.float32] = session.run(
        None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    )[0]
    return result
