"""How many windows a second a Triton server answers: many devices at once, each waiting for its answer.

python benchmarks/triton_load.py localhost:8000 --model emotion-audio-video-text --clients 32

Runs in any Python with numpy and tritonclient[http]; the server runs what ``edgeemo export --format triton``
wrote. Only this program may ask the server meanwhile: the batches are read from the server's own statistics.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from typing import Any

import numpy as np
from tritonclient import http, utils  # only where this runs


def main() -> None:
    """Prints one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server", help="HTTP endpoint, such as localhost:8000")
    parser.add_argument("--model", default="emotion-audio-video-text", help="an ensemble")
    parser.add_argument("--clients", type=int, default=32, metavar="N", help="devices at once (default 32)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long (default 10)")
    args = parser.parse_args()
    client = http.InferenceServerClient(args.server)
    config = client.get_model_config(args.model)
    feed = _inputs(config)
    client.infer(args.model, feed)  # nobody waits for the first run of a model
    before = _batches(client)
    latencies_ms = _ask_for(args.server, args.model, feed, clients=args.clients, seconds=args.seconds)
    after = _batches(client)
    steps = [step["model_name"] for step in config["ensemble_scheduling"]["step"]]
    document = {
        "model": args.model,
        "clients": args.clients,
        "windows_per_s": round(len(latencies_ms) / args.seconds, 1),
        "latency_ms": {
            f"p{share}": round(float(np.percentile(latencies_ms, share)), 1) for share in (50, 95, 99)
        },
        "windows_in_a_run": {
            name: round((after[name][0] - before[name][0]) / max(after[name][1] - before[name][1], 1), 1)
            for name in steps
        },
    }
    print(json.dumps(document, indent=1))


def _inputs(config: dict[str, Any]) -> list[Any]:
    """Returns a window of noise (of zeros where ids are wanted) in the shapes that the server names."""
    rng = np.random.default_rng(0)
    inputs = []
    for tensor in config["input"]:
        shape = (1, *map(int, tensor["dims"]))
        whole = tensor["data_type"] == "TYPE_INT64"
        array = np.zeros(shape, np.int64) if whole else rng.random(shape, np.float32)
        if tensor["name"].startswith("mask."):
            array = np.ones(shape, np.float32)
        inputs.append(http.InferInput(tensor["name"], shape, utils.np_to_triton_dtype(array.dtype)))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def _ask_for(server: str, model: str, feed: list[Any], *, clients: int, seconds: float) -> list[float]:
    """Returns how long each answer took, in milliseconds."""
    latencies_ms: list[float] = []
    start = threading.Barrier(clients)

    def one() -> None:
        own = http.InferenceServerClient(server)
        start.wait()
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            own.infer(model, feed)
            latencies_ms.append((time.perf_counter() - begun) * 1e3)

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies_ms


def _batches(client: Any) -> dict[str, tuple[int, int]]:
    """Returns windows and runs of each model since the server began."""
    models = client.get_inference_statistics()["model_stats"]
    return {one["name"]: (one["inference_count"], one["execution_count"]) for one in models}


if __name__ == "__main__":
    main()
