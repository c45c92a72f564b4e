"""Runs the ``model.onnx`` beside this file in Triton's python backend, with onnxruntime.

Needs numpy and onnxruntime in the Python that Triton starts, and nothing of edgeemo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # there in Triton alone


class TritonPythonModel:
    """What Triton looks for in a ``model.py``."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the graph on the device that this instance was given.

        Raises:
            TritonModelException: onnxruntime has no CUDA here, and the instance was to run on a GPU.
        """
        self._config = json.loads(args["model_config"])
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # instances, not threads, fill the cores: the networks are small
        options.log_severity_level = 3
        providers: list[Any] = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            providers = [("CUDAExecutionProvider", {"device_id": args["model_instance_device_id"]})]
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
        if self._session.get_providers()[0] != wanted:
            raise pb_utils.TritonModelException(
                f"{args['model_name']} is to run on a GPU, and onnxruntime opened it "
                f"on {self._session.get_providers()[0]}. Install onnxruntime-gpu for the Python that Triton "
                "starts, or write the repository with --instance-group cpu"
            )
        self._inputs = [item["name"] for item in self._config["input"]]
        self._outputs = [item["name"] for item in self._config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers requests that Triton put together, in one run of the graph."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        wrong = [_not_finite(feed) for feed in feeds]
        answers = iter(self._answers([feed for feed, name in zip(feeds, wrong, strict=True) if not name]))
        return [
            _failure(f"{name} holds numbers that are not finite")
            if name
            else self._response(request, answers)
            for request, name in zip(requests, wrong, strict=True)
        ]

    def finalize(self) -> None:
        """Closes the graph."""
        del self._session

    def _answers(self, feeds: list[dict[str, Any]]) -> list[list[Any] | str]:
        """Returns the outputs of each feed, or what onnxruntime says against it."""
        if not feeds:
            return []
        together = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        try:
            outputs = self._session.run(self._outputs, together)
        except Exception as error:  # its classes have no public name
            if len(feeds) == 1:
                return [str(error)]
            # One bad request must not fail those that happened to share its run.
            return [answer for feed in feeds for answer in self._answers([feed])]
        ends = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        return [list(parts) for parts in zip(*(np.split(output, ends) for output in outputs), strict=True)]

    def _response(self, request: Any, answers: Iterator[list[Any] | str]) -> Any:
        answer = next(answers)
        if isinstance(answer, str):
            return _failure(answer)
        wanted = request.requested_output_names()
        named = zip(self._outputs, answer, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in named if name in wanted]
        )


def _not_finite(feed: dict[str, Any]) -> str:
    """Returns the input that no sensor can have given: an engine would make something finite of it."""
    return next((name for name, array in feed.items() if not np.isfinite(array).all()), "")


def _failure(sentence: str) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(sentence))
