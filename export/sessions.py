"""onnxruntime for the exporter's own checks: one thread, the CPU, everything that could vary fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import MissingDependencyError

try:
    import onnxruntime
except ImportError:
    raise MissingDependencyError("export", "onnxruntime", "pip install 'edgeemo[export,cpu]'") from None

_ERRORS_ONLY = 3


class Value(Protocol):
    """An input or output of an open graph."""

    name: str
    shape: list[int | str | None]
    type: str


class Session(Protocol):
    """The part of `onnxruntime.InferenceSession` that the exporter uses."""

    def run(
        self, names: list[str] | None, feed: Mapping[str, NDArray[np.generic]]
    ) -> list[NDArray[np.generic]]:
        """Returns the outputs called ``names``, or all of them."""

    def get_inputs(self) -> list[Value]:
        """Returns the graph's inputs."""

    def get_outputs(self) -> list[Value]:
        """Returns the graph's outputs."""


def open_session(model: bytes, *, optimize: bool = True) -> Session:
    """Returns a graph opened on the CPU with one thread.

    Args:
        model: the serialized model.
        optimize: whether onnxruntime may fuse operators, as it does at run time.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Without VNNI, the fast kernels for signed weights saturate; these do not, and agree everywhere.
    options.add_session_config_entry("session.x64quantprecision", "1")
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    session: Session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session
