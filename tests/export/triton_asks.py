"""Asks a Triton server; runs in the Python that holds tritonclient.

triton_asks.py schema REPOSITORY
triton_asks.py each HTTP GRPC REQUESTS.npz ANSWERS.npz
triton_asks.py together HTTP GRPC REQUESTS.npz ANSWERS.npz
triton_asks.py refused HTTP GRPC REQUESTS.npz

REQUESTS.npz holds arrays named MODEL/NUMBER/INPUT. Standard output is JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc  # all of these are in the other Python
import tritonclient.http
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

Requests = dict[tuple[str, str], dict[str, Any]]


def read_configs(repository: str) -> dict[str, Any]:
    """Every ``config.pbtxt`` by Triton's own schema, which refuses a field or word that it does not know."""
    found = {}
    for path in sorted(Path(repository).glob("*/config.pbtxt")):
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        found[path.parent.name] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return found


def read_requests(path: str) -> Requests:
    requests: Requests = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            model, number, name = key.split("/")
            requests.setdefault((model, number), {})[name] = arrays[key]
    return requests


def ask(client: Any, kind: Any, model: str, feed: dict[str, Any]) -> dict[str, Any]:
    inputs = []
    for name, array in feed.items():
        value = kind.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        value.set_data_from_numpy(array)
        inputs.append(value)
    result = client.infer(model, inputs)
    described = result.get_response()
    names = (
        [item["name"] for item in described["outputs"]]
        if isinstance(described, dict)
        else [item.name for item in described.outputs]
    )
    return {name: result.as_numpy(name) for name in names}


def ask_each(http: Any, grpc: Any, requests: Requests) -> dict[str, Any]:
    answers = {}
    for (model, number), feed in requests.items():
        for word, kind, client in (("http", tritonclient.http, http), ("grpc", tritonclient.grpc, grpc)):
            for name, array in ask(client, kind, model, feed).items():
                answers[f"{word}/{model}/{number}/{name}"] = array
    return answers


def ask_together(url: str, requests: Requests) -> tuple[dict[str, Any], dict[str, str]]:
    """Asks all at once, each from a client of its own; returns answers and errors."""
    start = threading.Barrier(len(requests))
    answers: dict[str, Any] = {}
    errors: dict[str, str] = {}

    def one(model: str, number: str, feed: dict[str, Any]) -> None:
        with tritonclient.http.InferenceServerClient(url) as client:
            start.wait()
            try:
                for name, array in ask(client, tritonclient.http, model, feed).items():
                    answers[f"{model}/{number}/{name}"] = array
            except InferenceServerException as error:
                errors[f"{model}/{number}"] = str(error)

    threads = [threading.Thread(target=one, args=(*key, feed)) for key, feed in requests.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, errors


def refusal(client: Any, model: str, feed: dict[str, Any]) -> str:
    try:
        ask(client, tritonclient.http, model, feed)
    except InferenceServerException as error:
        return str(error)
    return ""


def statistics(client: Any) -> dict[str, Any]:
    found = {}
    for one in client.get_inference_statistics()["model_stats"]:
        sizes = {item["batch_size"]: item["compute_infer"]["count"] for item in one.get("batch_stats", [])}
        found[one["name"]] = {
            "requests": one["inference_count"],
            "runs": one["execution_count"],
            "batches": sizes,
        }
    return found


def main(what: str, *words: str) -> None:
    if what == "schema":
        print(json.dumps(read_configs(words[0])))
        return
    http = tritonclient.http.InferenceServerClient(words[0])
    grpc = tritonclient.grpc.InferenceServerClient(words[1])
    requests = read_requests(words[2])
    if what == "refused":
        told = {f"{model}/{number}": refusal(http, model, feed) for (model, number), feed in requests.items()}
        print(json.dumps(told))
    elif what == "each":
        np.savez(words[3], **ask_each(http, grpc, requests))
        ready = {model: [http.is_model_ready(model), grpc.is_model_ready(model)] for model, _ in requests}
        print(json.dumps(ready))
    else:
        answers, errors = ask_together(words[0], requests)
        np.savez(words[3], **answers)
        print(json.dumps({"errors": errors, "statistics": statistics(http)}))
    http.close()
    grpc.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
