"""Reads the weights of somebody else's network without running anything that the file says."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgeemo.errors import CheckpointError


def load_weights(path: str | Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Returns a state dict, name -> tensor on the CPU, for ``module.load_state_dict``.

    A ``.pt`` or ``.pth`` file is a pickle, and a pickle can run any program when it is opened. It is read
    with ``weights_only=True``, which takes tensors and plain containers and nothing else, or not at all.

    Args:
        path: a ``.safetensors`` file, or whatever ``torch.save`` wrote.
        key: the entry that holds the weights, where the file holds more than them, such as ``"model"``.

    Raises:
        CheckpointError: the file cannot be read, holds more than tensors and plain containers, or no
            state dict where ``key`` says; the message lists what there is.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, or is no file; expected a .pt or .safetensors file")
    content: object
    if path.suffix == ".safetensors":
        try:
            content = load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from None
    else:
        content = _unpickled(path)
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            raise CheckpointError(f"{path} has no entry {key!r}; {_contents(content)}")
        content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} is no state dict, name -> tensor; {_contents(content)}")
    return {str(name): value for name, value in content.items()}


def _unpickled(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; what matters is raised
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from None
    except Exception as error:  # the unpickler fails in as many ways as there are files
        raise CheckpointError(
            f"{path} is damaged or holds more than weights ({_reason(error)}); opening it otherwise could "
            "run any program, so it is not opened. Ask for the state dict alone, as "
            "torch.save(model.state_dict(), path) writes it, or for a .safetensors file"
        ) from None
    return content


def _contents(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"found a {type(content).__name__}"
    names = [str(name) for name in content]
    return f"it has: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}. key= says which to take"


def _reason(error: Exception) -> str:
    """Returns what is wrong out of the advice that torch wraps it in."""
    message = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line] or lines
    return telling[0].split(". ")[0].rstrip(".") if telling else type(error).__name__
