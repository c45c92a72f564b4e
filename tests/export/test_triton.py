"""``edgeemo export --format triton``: what is in the repository, that its graphs answer as a session does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from triton_repositories import (
    Arrays,
    items_of,
    relative_error,
    requests_of,
    session_answers,
    session_features,
)

from edgeemo.bundle import Bundle, SubsetSpec, probabilities_from_logits
from edgeemo.cli.main import main
from edgeemo.errors import ExportError, InputError, SubsetError
from edgeemo.export import ServingOptions, write_triton_repository
from edgeemo.export.triton.graphs import (
    bytes_of,
    probabilities_model,
    read_model,
    sees_its_batch,
    window_stem,
)
from edgeemo.export.triton.names import model_name
from edgeemo.export.triton.pbtxt import Message, Word, pbtxt_from_message
from edgeemo.modality import subset_members
from edgeemo.runtimes import OrtRunner
from edgeemo.schemas import load_schema
from edgeemo.shipped import DEFAULT_BUNDLE

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
CPU = ServingOptions(instance_group="cpu")
# Root mean square, of what is expected: batches of other sizes are summed in another order, and where a
# number is rounded on the way it may tip over.
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "int8": 0.01}


@pytest.fixture(scope="module")
def bundle(tiny_export: Path) -> Bundle:
    return Bundle.open(tiny_export)


def run_graph(repository: Path, model: str, feed: Arrays) -> Arrays:
    with OrtRunner((repository / model / "1" / "model.onnx").read_bytes()) as runner:
        return runner.run({item.name: feed[item.name] for item in runner.inputs})


def run_ensemble(repository: Path, bundle: Bundle, subset: str, feed: Arrays) -> Arrays:
    """Runs the graphs one after the other, as the ensemble's steps say."""
    values = dict(feed)
    for modality in subset_members(subset):
        values |= run_graph(repository, model_name("stem", modality), values)
    values |= run_graph(repository, model_name("engine", subset), values)
    return values | run_graph(repository, model_name("probabilities", subset), values)


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_windows_of_many_devices_get_the_answers_of_a_session(
    bundle: Bundle, tmp_path: Path, variant: str
) -> None:
    report = write_triton_repository(
        bundle, tmp_path / "out", options=ServingOptions(instance_group="cpu", variant=variant)
    )
    assert list(report.ensembles) == list(bundle.manifest.engines)
    for subset in report.ensembles:
        requests = requests_of(bundle, subset, count=5)
        expected = session_answers(bundle, subset, variant, requests)
        together = {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}
        found = run_ensemble(tmp_path / "out", bundle, subset, together)
        for name in expected[0]:
            wanted = np.concatenate([answer[name] for answer in expected])
            assert relative_error(found[name], wanted) <= TOLERANCE[variant], (subset, name)
        assert (found["passed_logits"] == found["logits"]).all()
        assert np.ptp(found["logits"]) > 0.1


def test_nobodys_answer_depends_on_who_shares_the_run(bundle: Bundle, tmp_path: Path) -> None:
    """int8 engines scale their activations over all rows of a run; those of a repository do not."""
    write_triton_repository(bundle, tmp_path / "out", options=CPU)
    loud, quiet = requests_of(bundle, "audio+text", count=2)
    loud = {name: array * 30 if name == "input.audio" else array for name, array in loud.items()}
    alone = run_ensemble(tmp_path / "out", bundle, "audio+text", quiet)
    both = {name: np.concatenate([quiet[name], loud[name]]) for name in quiet}
    shared = run_ensemble(tmp_path / "out", bundle, "audio+text", both)
    assert (shared["logits"][:1] == alone["logits"]).all()
    assert sees_its_batch(read_model(bundle.read_engine("audio+text", "int8")))
    with OrtRunner(bundle.read_engine("audio+text", "int8")) as engine:
        feed = {item.name: shared[item.name] for item in engine.inputs}
        assert np.abs(engine.run(feed)["logits"][:1] - alone["logits"]).max() > 1e-4


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_blocks_of_many_devices_get_the_features_of_a_session(
    bundle: Bundle, tmp_path: Path, variant: str
) -> None:
    options = ServingOptions(instance_group="cpu", variant=variant)
    report = write_triton_repository(bundle, tmp_path / "out", options=options)
    assert {name for name in report.models if "block" in name} == {"stem_block-audio", "stem_block-video"}
    for modality in ("audio", "video"):
        stem = bundle.manifest.modality(modality).stem
        shape = (4, stem.left_context + stem.block, *stem.item_shape)
        blocks = np.random.default_rng(3).normal(size=shape).astype(np.float32)
        name = f"input.{modality}"
        with OrtRunner(bundle.read_stem(modality, variant)) as runner:
            alone = [runner.run({name: block[None]})[f"features.{modality}"] for block in blocks]
        found = run_graph(tmp_path / "out", f"stem_block-{modality}", {name: blocks})
        assert relative_error(found[f"features.{modality}"], np.concatenate(alone)) <= TOLERANCE[variant]


def test_a_window_that_is_no_whole_number_of_blocks(bundle: Bundle) -> None:
    """The oldest features of the oldest block are more than the window holds."""
    whole = bundle.manifest.modality("audio")
    spec = replace(whole, window=replace(whole.window, length=3))
    assert spec.window.length % spec.stem.features_per_block
    items = np.random.default_rng(1).normal(size=(1, items_of(spec), *spec.stem.item_shape))
    feed = {"input.audio": items.astype(np.float32), "mask.audio": np.array([[0, 1, 1]], np.float32)}
    graph = bundle.read_stem("audio", "fp32")
    with OrtRunner(bytes_of(window_stem(read_model(graph), spec))) as server, OrtRunner(graph) as stem:
        found = server.run(feed)["features.audio"]
        expected = session_features(spec, stem, feed["input.audio"], feed["mask.audio"])
    assert found.shape == (1, 3, spec.feature_width)
    assert relative_error(found, expected) <= TOLERANCE["fp32"]


def test_probabilities_follow_temperature_and_prior() -> None:
    spec = SubsetSpec(1.7, (0.7, 0.2, 0.1))
    logits = np.random.default_rng(0).normal(scale=5, size=(20, 3)).astype(np.float32)
    with OrtRunner(bytes_of(probabilities_model(spec))) as runner:
        found = runner.run({"logits": logits})["probabilities"]
    scores = logits / spec.temperature + np.log(spec.prior)
    # Four roundings of fp32 on scores of this size.
    tolerance = 4 * np.finfo(np.float32).eps * max(1.0, float(np.abs(scores).max()))
    assert np.abs(found - probabilities_from_logits(logits, spec)).max() <= tolerance


def test_what_is_in_it(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = write_triton_repository(bundle, out, subsets=["text+audio", "audio"], options=CPU)
    assert report.ensembles == {"audio+text": "emotion-audio-text", "audio": "emotion-audio"}
    assert report.from_features["audio+text"] == "emotion_from_features-audio-text"
    folders = {place.name for place in out.iterdir() if place.is_dir()}
    assert folders == set(report.models)
    assert "stem-video" not in folders
    written = sum(place.stat().st_size for place in out.rglob("*") if place.is_file())
    assert written == report.total_bytes + (out / "edgeemo.json").stat().st_size
    assert (out / "probabilities-audio" / "labels.txt").read_text() == "neutral\nhappy\nsad\n"
    config = (out / "engine-audio-text" / "config.pbtxt").read_text()
    for line in (
        'backend: "onnxruntime"',
        "kind: KIND_CPU",
        "preferred_batch_size: [4, 8, 16, 32]",
        "max_queue_delay_microseconds: 2000",
        f'string_value: "{bundle.manifest_sha256}"',
        'string_value: "CC0-1.0"',
    ):
        assert line in config
    mark = json.loads((out / "edgeemo.json").read_text())
    assert mark["bundle_sha256"] == bundle.manifest_sha256
    assert mark["options"]["variant"] == "int8"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_input_gives_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    options = ServingOptions(backend="python", instance_group="cpu")
    for name in ("one", "two"):
        write_triton_repository(bundle, tmp_path / name, options=options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len({data for name, data in contents(tmp_path / "one").items() if "model.py" in name}) == 1


def test_it_replaces_its_own_and_nothing_else(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    write_triton_repository(bundle, out, options=CPU)
    (out / "engine-audio" / "1" / "__pycache__").mkdir()
    (out / "engine-audio" / "1" / "__pycache__" / "model.pyc").write_bytes(b"")  # a server leaves these
    report = write_triton_repository(bundle, out, subsets=["text"], options=CPU)
    assert {place.name for place in out.iterdir()} == {*report.models, "edgeemo.json"}
    assert [place.name for place in out.parent.iterdir()] == ["out"]
    config = out / "engine-text" / "config.pbtxt"
    as_written = config.read_bytes()
    config.write_bytes(as_written + b"# tuned by hand\n")
    with pytest.raises(ExportError, match=r"holds engine-text/config.pbtxt, which was changed since"):
        write_triton_repository(bundle, out, options=CPU)
    assert config.read_bytes() != as_written
    config.write_bytes(as_written)
    (out / "somebodys").mkdir()
    (out / "somebodys" / "config.pbtxt").write_text("precious")
    before = contents(out)
    with pytest.raises(ExportError, match=r"holds somebodys/config.pbtxt, which edgeemo did not write"):
        write_triton_repository(bundle, out, options=CPU)
    assert contents(out) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(ExportError, match="is not empty and holds no repository that edgeemo wrote"):
        write_triton_repository(bundle, other, options=CPU)
    with pytest.raises(ExportError, match="is no plain folder"):
        write_triton_repository(bundle, other / "thesis.txt", options=CPU)


def test_what_fails_leaves_what_was_there(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_triton_repository(bundle, out, subsets=["text"], options=CPU)
    before = contents(out)
    write_bytes: Callable[..., int] = Path.write_bytes

    def full(place: Path, data: bytes) -> int:
        if place.parts[-3:-2] == ("engine-audio",):
            raise OSError(28, "No space left on device")
        return write_bytes(place, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match=r"cannot be written \(No space left on device\)"):
        write_triton_repository(bundle, out, options=CPU)
    assert contents(out) == before
    assert [place.name for place in tmp_path.iterdir()] == ["out"]


def test_bad_orders_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(SubsetError, match="unknown modality 'smell'; this model has: audio, video, text"):
        write_triton_repository(bundle, tmp_path / "out", subsets=["smell"])
    shipped = Bundle.open(DEFAULT_BUNDLE)
    with pytest.raises(InputError, match=r"has no variant 'fp32'; it has: .*--variant fp32"):
        write_triton_repository(shipped, tmp_path / "out", options=ServingOptions(variant="fp32"))
    with pytest.raises(InputError, match="int8 engines are for CPUs"):
        ServingOptions(variant="int8")
    with pytest.raises(InputError, match="no backend of Triton 'pytorch'; there are: onnxruntime, python"):
        ServingOptions(backend="pytorch")
    with pytest.raises(InputError, match="0 windows in a batch; expected a whole number from 1 to 4096"):
        ServingOptions(max_batch=0)
    assert not (tmp_path / "out").exists()


def test_one_window_at_a_time_is_not_batched(bundle: Bundle, tmp_path: Path) -> None:
    options = ServingOptions(instance_group="cpu", max_batch=1)
    write_triton_repository(bundle, tmp_path / "out", subsets=["text"], options=options)
    assert "dynamic_batching" not in (tmp_path / "out" / "engine-text" / "config.pbtxt").read_text()


def test_texts_with_quotes_stay_texts() -> None:
    message: Message = {
        "text": 'a "b" \\ \n é\x01',
        "word": Word("KIND_CPU"),
        "yes": True,
        "none": [],
        "many": [1, 2],
    }
    assert pbtxt_from_message(message) == (
        'text: "a \\"b\\" \\\\ \\n é\\001"\nword: KIND_CPU\nyes: true\nmany: [1, 2]\n'
    )


def test_from_the_command_line(tiny_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--format", "triton", "--instance-group", "cpu", "--subset", "audio", "--subset", "audio+text"]
    assert main(["export", str(tiny_export), "--out", str(tmp_path / "a"), *words]) == 0
    shown = capsys.readouterr().out
    assert "audio+text  emotion-audio-text" in shown
    assert "as int8 for Triton's onnxruntime backend, 11 models" in shown
    words += ["--triton-backend", "python", "--max-batch", "8", "--max-queue-delay-us", "500", "--json"]
    assert main(["export", str(TINY), "--out", str(tmp_path / "b"), *words, "--instances", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    jsonschema.validate(document, load_schema("export-triton"))
    assert document["ensembles"] == {"audio": "emotion-audio", "audio+text": "emotion-audio-text"}
    config = (tmp_path / "b" / "engine-audio" / "config.pbtxt").read_text()
    for line in ('backend: "python"', "max_batch_size: 8", "count: 2", "microseconds: 500"):
        assert line in config
    assert (tmp_path / "b" / "engine-audio" / "1" / "model.py").read_text().startswith('"""Runs')
    # The checkpoint goes through the same export as the bundle did.
    bundle = Bundle.open(tiny_export)
    (request,) = requests_of(bundle, "audio+text", count=1)
    first, second = (run_ensemble(tmp_path / place, bundle, "audio+text", request) for place in ("a", "b"))
    assert (first["probabilities"] == second["probabilities"]).all()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--max-batch", "4"], "--max-batch belongs to --format triton"),
        (["--format", "triton", "--tune"], "--tune belongs to the export of a bundle"),
        (["--format", "triton", "--allow-drop", "audio"], "--allow-drop belongs to the export of a bundle"),
        (["--format", "triton", "--variant", "int8"], "int8 engines are for CPUs"),
        (["--format", "triton", "--variant", "int8-trt"], "no variant for Triton 'int8-trt'"),
        (["--format", "triton", "--variant", "fp16", "--variant", "fp32"], "serves one variant"),
        (["--format", "triton", "--max-batch", "0"], "0 windows in a batch"),
        (["--format", "triton", "--subset", "smell"], "unknown modality 'smell'"),
    ],
)
def test_words_that_do_not_go_together(
    tiny_export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["export", str(tiny_export), "--out", str(tmp_path / "out"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_neither_bundle_nor_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--format", "triton", "--out", str(tmp_path / "out")]
    assert main(["export", str(tmp_path), *words]) == 1
    assert "is neither a bundle (no manifest.json) nor a checkpoint" in capsys.readouterr().err
