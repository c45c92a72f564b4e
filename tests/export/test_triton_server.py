"""A model repository in a real Triton server: its schema, its python backend, many devices at once.

The server comes with nvidia-pytriton, which wants numpy 1 and so lives in a virtual environment of its own,
made once a session. EDGEEMO_TRITON_PYTHON may name the Python of one that is there already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from triton_host import ASKS, TritonPython, TritonServer, started
from triton_repositories import IDS, Arrays, items_of, relative_error, requests_of, session_answers

from edgeemo.bundle import Bundle
from edgeemo.export import RepositoryReport, ServingOptions, write_triton_repository
from edgeemo.features.audio import LogMelSpec, log_mel
from edgeemo.features.text import TextSpec, text_window
from edgeemo.modality import subset_members
from edgeemo.runtimes import OrtRunner
from edgeemo.shipped import DEFAULT_BUNDLE

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("nvidia-pytriton==0.7.0", "numpy<2", f"onnxruntime=={onnxruntime.__version__}")
# Root mean square, of what is expected: batches of other sizes are summed in another order, and where a
# number is rounded on the way it may tip over.
TOLERANCE = 0.01
KINDS = {np.dtype(np.float32): "TYPE_FP32", np.dtype(np.int64): "TYPE_INT64"}
# So long that requests sent at once are put together on a machine however busy; nobody waits for more of
# them where as many are there as a batch holds.
PATIENT_US = 300_000


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> TritonPython:
    """A Python with a Triton server."""
    if given := os.environ.get("EDGEEMO_TRITON_PYTHON"):
        return TritonPython.look_into(Path(given))
    folder = tmp_path_factory.mktemp("triton")
    venv.create(folder)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *PACKAGES]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs {PACKAGES[0]} from a package index: {done.stderr[-300:]}")
    return TritonPython.look_into(python)


@pytest.fixture(scope="module")
def bundle(tiny_export: Path) -> Bundle:
    return Bundle.open(tiny_export)


@pytest.fixture(scope="module")
def report(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> RepositoryReport:
    """The repository that is served: every subset, through the python backend."""
    options = ServingOptions(
        backend="python", instance_group="cpu", variant="int8", max_batch=8, max_queue_delay_us=PATIENT_US
    )
    return write_triton_repository(bundle, tmp_path_factory.mktemp("models") / "all", options=options)


@pytest.fixture(scope="module")
def server(
    triton: TritonPython, report: RepositoryReport, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    with started(triton, report.repository, tmp_path_factory.mktemp("server")) as ready:
        yield ready


def save(folder: Path, requests: dict[str, list[Arrays]]) -> Path:
    """Writes requests of models as `triton_asks.py` reads them."""
    arrays = {
        f"{model}/{number}/{name}": array
        for model, several in requests.items()
        for number, feed in enumerate(several)
        for name, array in feed.items()
    }
    np.savez(folder / "requests.npz", **arrays)  # type: ignore[arg-type]  # names are free
    return folder / "requests.npz"


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
@pytest.mark.parametrize("group", ["gpu", "cpu"])
def test_configurations_fit_the_schema_and_each_other(
    triton: TritonPython, bundle: Bundle, tmp_path: Path, backend: str, group: str
) -> None:
    options = ServingOptions(backend=backend, instance_group=group, max_batch=16)
    written = write_triton_repository(bundle, tmp_path / "out", options=options)
    configs = json.loads(triton.run(ASKS, "schema", tmp_path / "out"))
    assert set(configs) == set(written.models)
    for name, config in configs.items():
        assert config["name"] == name
        assert config["max_batch_size"] == 16
        assert config["parameters"]["bundle_sha256"]["string_value"] == bundle.manifest_sha256
        assert (tmp_path / "out" / name / "1").is_dir()
        if "ensemble_scheduling" in config:
            check_ensemble(config, configs)
        else:
            check_graph(config, tmp_path / "out" / name / "1" / "model.onnx")
            assert config["backend"] == backend
            assert config["instance_group"] == [{"count": 1, "kind": f"KIND_{group.upper()}"}]
            assert config["dynamic_batching"] == {
                "preferred_batch_size": [4, 8, 16],
                "max_queue_delay_microseconds": "2000",
            }


def tensors(values: list[dict[str, Any]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {item["name"]: (item["data_type"], tuple(map(int, item["dims"]))) for item in values}


def check_graph(config: dict[str, Any], graph: Path) -> None:
    """What the configuration says of inputs and outputs is what the graph has behind its batch."""
    with OrtRunner(graph.read_bytes()) as runner:
        for said, there in ((config["input"], runner.inputs), (config["output"], runner.outputs)):
            assert tensors(said) == {item.name: (KINDS[item.dtype], item.shape[1:]) for item in there}


def check_ensemble(config: dict[str, Any], configs: dict[str, Any]) -> None:
    """The rules by which Triton takes an ensemble, and the one by which it prunes its steps."""
    known = tensors(config["input"])
    taken: set[str] = set()
    for step in config["ensemble_scheduling"]["step"]:
        model = configs[step["model_name"]]
        assert config["max_batch_size"] <= model["max_batch_size"]
        inputs, outputs = tensors(model["input"]), tensors(model["output"])
        assert set(step["input_map"]) == set(inputs)
        assert set(step["output_map"]) == set(outputs)
        for name, tensor in step["input_map"].items():
            assert known[tensor] == inputs[name], (config["name"], tensor)
            taken.add(tensor)
        for name, tensor in step["output_map"].items():
            assert tensor not in known, f"{tensor} is made twice"
            known[tensor] = outputs[name]
    given = tensors(config["output"])
    assert given.items() <= known.items()
    assert not taken & set(given)
    assert set(tensors(config["input"])) <= taken


def test_both_ways_of_asking_get_the_answers_of_a_session(
    server: TritonServer, bundle: Bundle, report: RepositoryReport, tmp_path: Path
) -> None:
    """Asked for eight windows in one request, which is a full batch and waits for no others."""
    asked: dict[str, list[Arrays]] = {}
    expected: dict[str, Arrays] = {}
    for subset, model in report.ensembles.items():
        requests = requests_of(bundle, subset, count=8)
        answers = stack(session_answers(bundle, subset, "int8", requests))
        features = [name for name in answers if name.partition(".")[0] in ("features", "mask")]
        asked[model] = [stack(requests)]
        asked[report.from_features[subset]] = [{name: answers.pop(name) for name in features}]
        expected[model] = expected[report.from_features[subset]] = answers
        assert set(answers) == {"logits", "probabilities", *(f"evidence.{m}" for m in subset_members(subset))}
    ready = json.loads(server.ask("each", save(tmp_path, asked), tmp_path / "answers.npz"))
    assert ready == {model: [True, True] for model in asked}
    with np.load(tmp_path / "answers.npz") as found:
        assert len(found.files) == 2 * sum(map(len, expected.values()))
        for model, answers in expected.items():
            for way in ("http", "grpc"):
                for name, answer in answers.items():
                    got = found[f"{way}/{model}/0/{name}"]
                    assert relative_error(got, answer) <= TOLERANCE, (way, model, name)


def stack(several: list[Arrays]) -> Arrays:
    return {name: np.concatenate([one[name] for one in several]) for name in several[0]}


def test_devices_that_ask_at_once_share_runs_and_not_their_mistakes(
    server: TritonServer, bundle: Bundle, report: RepositoryReport, tmp_path: Path
) -> None:
    model = report.ensembles["text"]
    requests = requests_of(bundle, "text", count=8)
    expected = session_answers(bundle, "text", "int8", requests)
    bad = {**requests[3], "input.text": np.full_like(requests[3]["input.text"], IDS)}
    silly = {**requests[5], "mask.text": np.full_like(requests[5]["mask.text"], np.nan)}
    asked = [*requests[:3], bad, requests[4], silly, *requests[6:]]
    told = json.loads(server.ask("together", save(tmp_path, {model: asked}), tmp_path / "answers.npz"))
    assert set(told["errors"]) == {f"{model}/3", f"{model}/5"}
    assert "mask.text holds numbers that are not finite" in told["errors"][f"{model}/5"]
    assert "out of data bounds" in told["errors"][f"{model}/3"]
    with np.load(tmp_path / "answers.npz") as found:
        for number in (0, 1, 2, 4, 6, 7):
            got: NDArray[Any] = found[f"{model}/{number}/logits"]
            assert relative_error(got, expected[number]["logits"]) <= TOLERANCE
    seen = told["statistics"]["engine-text"]
    assert max(map(int, seen["batches"])) > 1, seen
    assert seen["runs"] < seen["requests"]


def test_what_cannot_be_answered_is_said(
    server: TritonServer, bundle: Bundle, report: RepositoryReport, tmp_path: Path
) -> None:
    (good,) = requests_of(bundle, "audio", count=1)
    asked = {
        "emotion-audio": [
            {**good, "mask.audio": good["mask.audio"][:, 1:]},
            {"input.audio": good["input.audio"]},
            {**good, "mask.audio": good["mask.audio"].astype(np.int64)},
            {name: np.repeat(array, 9, axis=0) for name, array in good.items()},
        ],
        "emotion-smell": [good],
    }
    told = json.loads(server.ask("refused", save(tmp_path, asked)))
    assert (
        "unexpected shape for input 'mask.audio' for model 'emotion-audio'. Expected [-1,4], got [1,3]"
        in (told["emotion-audio/0"])
    )
    assert "missing required input(s) ['mask.audio']" in told["emotion-audio/1"]
    assert "data-type is 'INT64'" in told["emotion-audio/2"]
    assert "batch-size must be <= 8 for 'emotion-audio'" in told["emotion-audio/3"]
    assert "unknown model: 'emotion-smell'" in told["emotion-smell/0"]


def test_a_gpu_that_is_not_there_is_refused(triton: TritonPython, bundle: Bundle, tmp_path: Path) -> None:
    """The python backend never runs on the CPU what was to run on a GPU."""
    options = ServingOptions(backend="python", instance_group="cpu")
    write_triton_repository(bundle, tmp_path / "out", subsets=["text"], options=options)
    code = (
        "import sys, types\n"
        "pb = types.ModuleType('triton_python_backend_utils')\n"
        "pb.TritonModelException = type('TritonModelException', (Exception,), {})\n"
        "sys.modules[pb.__name__] = pb\n"
        "import model\n"
        "folder, kind = sys.argv[1:]\n"
        "model.TritonPythonModel().initialize({'model_config': '{\"input\": [], \"output\": []}',\n"
        "    'model_repository': folder, 'model_version': '1', 'model_name': 'engine-text',\n"
        "    'model_instance_kind': kind, 'model_instance_device_id': '0'})\n"
        "print('opened')\n"
    )
    script = tmp_path / "open.py"
    script.write_text(code)
    folder = tmp_path / "out" / "engine-text"
    assert "opened" in triton.run(script, folder, "CPU", PYTHONPATH=str(folder / "1"))
    with pytest.raises(AssertionError, match="engine-text is to run on a GPU, and onnxruntime opened it"):
        triton.run(script, folder, "GPU", PYTHONPATH=str(folder / "1"))


def test_the_load_program_measures_a_server(server: TritonServer) -> None:
    words = ["--model", "emotion-audio-text", "--clients", "4", "--seconds", "1"]
    told = json.loads(
        server.python.run(PROJECT / "benchmarks" / "triton_load.py", f"127.0.0.1:{server.http}", *words)
    )
    runs = told["windows_in_a_run"]
    assert set(runs) == {"stem-audio", "stem-text", "engine-audio-text", "probabilities-audio-text"}
    assert all(1 <= windows <= 4 for windows in runs.values())
    assert told["windows_per_s"] > 0
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"]


def test_a_device_without_engines(triton: TritonPython, tmp_path: Path) -> None:
    """The sample: front-ends on the device, another ensemble from when the microphone fails."""
    bundle = Bundle.open(DEFAULT_BUNDLE)
    options = ServingOptions(backend="python", instance_group="cpu")
    out = tmp_path / "models"
    write_triton_repository(bundle, out, subsets=["text", "audio+text"], options=options)
    sound = np.concatenate([speech_like(second, rate_hz=16000) for second in range(3)])
    pcm = np.round(sound * 32767).astype("<i2")
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(pcm.tobytes())
    words = ["--words", "I am so happy today", "--lose-sound", "2"]
    with started(triton, out, tmp_path) as server:
        sample = PROJECT / "samples" / "triton_client.py"
        place = f"127.0.0.1:{server.http}"
        shown = triton.run(
            sample, tmp_path / "speech.wav", *words, "--server", place, PYTHONPATH=str(PROJECT)
        )
    lines = [line.split() for line in shown.splitlines()]
    assert [line[3] for line in lines] == ["emotion-audio-text"] * 4 + ["emotion-text"] * 2
    text = bundle.manifest.modality("text")
    ids, text_mask = text_window("I am so happy today", TextSpec.from_json(text.front_end))
    spec = bundle.manifest.modality("audio")
    frames = log_mel((pcm[: 2 * 16000] / 32768).astype(np.float32), LogMelSpec.from_json(spec.front_end))
    items, mask = np.zeros((1, items_of(spec), 64), np.float32), np.zeros((1, 40), np.float32)
    items[0, -len(frames) :], mask[0, -len(frames) // spec.stem.stride :] = frames, 1.0
    request: Arrays = {
        "input.audio": items,
        "mask.audio": mask,
        "input.text": ids[None],
        "mask.text": text_mask[None],
    }
    for subset, line in (("audio+text", lines[3]), ("text", lines[4])):
        (answer,) = session_answers(bundle, subset, "int8", [request])
        share, place, label = line[2].split(":")
        best = int(answer["probabilities"].argmax())
        assert (int(place), label) == (best, bundle.manifest.labels[best])
        assert abs(float(share) - answer["probabilities"].max()) <= 1e-3


def speech_like(seed: int, *, rate_hz: int) -> NDArray[np.float64]:
    """A second of noise that comes and goes."""
    noise = np.random.default_rng(seed).normal(scale=0.1, size=rate_hz)
    loudness = np.sin(np.linspace(0, 9, rate_hz)) ** 2
    return np.asarray(np.clip(noise * loudness, -1, 1))
