"""What commands, sessions and the server really give, held to the JSON Schemas that ship."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_like import write_live_like
from new_adapters import TINY, new_adapter

from edgeemo.bundle import bytes_from_tensors
from edgeemo.cli.main import main
from edgeemo.errors import InputError
from edgeemo.schemas import load_schema, schema_names
from edgeemo.session import Session
from edgeemo.shipped import RECORDING

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")

Give = Callable[[Path, Path], list[Any]]
"""Takes a folder for what it makes and the bundle of the tiny checkpoint; returns real documents."""
GIVERS: dict[str, Give] = {}


def gives(name: str) -> Callable[[Give], Give]:
    """Registers what gives real documents of a schema."""

    def register(give: Give) -> Give:
        GIVERS[name] = give
        return give

    return register


def printed(*words: object, lines: bool = False) -> list[Any]:
    """Returns what a command prints as JSON."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([*map(str, words), "--json"]) == 0
    text = out.getvalue()
    return [json.loads(line) for line in text.splitlines()] if lines else [json.loads(text)]


@gives("reading")
def _readings(folder: Path, bundle: Path) -> list[Any]:
    given = ("run", "--media", RECORDING, "--drop", "video@3-5", "--drop", "audio@3-5", "--seconds", 5)
    return [*printed(*given, lines=True), *printed("run", "--media", RECORDING, "--seconds", 1, lines=True)]


@gives("event")
def _events(folder: Path, bundle: Path) -> list[Any]:
    with Session(media=RECORDING) as opened:
        list(opened)
        return [event.to_json() for event in opened.events()]


@gives("stats")
def _stats(folder: Path, bundle: Path) -> list[Any]:
    with Session(media=RECORDING) as opened:
        next(iter(opened))
        return [json.loads(json.dumps(asdict(opened.stats())))]


@gives("record-header")
def _headers(folder: Path, bundle: Path) -> list[Any]:
    printed("run", "--media", RECORDING, "--seconds", 1, "--record", folder / "a.jsonl", lines=True)
    header, *readings = map(json.loads, (folder / "a.jsonl").read_text().splitlines())
    for reading in readings:
        jsonschema.Draft202012Validator(load_schema("reading")).validate(reading)
    return [header, {**header, "started_at_ms": 1_700_000_000_000}]


@gives("records")
def _records(folder: Path, bundle: Path) -> list[Any]:
    _headers(folder, bundle)
    return printed("records", folder / "a.jsonl", "--out", folder / "b.jsonl")


@gives("plot")
def _plot(folder: Path, bundle: Path) -> list[Any]:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    _headers(folder, bundle)
    return printed("plot", folder / "a.jsonl", "--out", folder / "a.svg")


@gives("devices")
def _devices(folder: Path, bundle: Path) -> list[Any]:
    return printed("devices")


@gives("doctor")
def _doctor(folder: Path, bundle: Path) -> list[Any]:
    return printed("doctor")


@gives("bundle")
def _bundles(folder: Path, bundle: Path) -> list[Any]:
    return [*printed("inspect"), *printed("inspect", bundle)]


@gives("checkpoint")
def _checkpoints(folder: Path, bundle: Path) -> list[Any]:
    return printed("inspect", TINY)


@gives("engine")
def _engines(folder: Path, bundle: Path) -> list[Any]:
    return [
        *printed("inspect", "--engine", "audio+video"),
        *printed("inspect", bundle, "--engine", "stem.audio"),
    ]


@gives("diff")
def _diffs(folder: Path, bundle: Path) -> list[Any]:
    _updates(folder, bundle)
    return [
        *printed("inspect", "--diff", bundle, bundle),
        *printed("inspect", "--diff", bundle, folder / "copy"),
    ]


@gives("eval")
def _evals(folder: Path, bundle: Path) -> list[Any]:
    rows = ["id\tlabels28\tlabels7\ttext", "1\tx\tjoy\tI am glad", "2\tx\tanger\tgo away"]
    (folder / "comments").mkdir()
    (folder / "comments" / "dev.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    live = write_live_like(folder / "live").path
    return printed("eval", live, folder / "comments")


@gives("bench")
def _benches(folder: Path, bundle: Path) -> list[Any]:
    live = write_live_like(folder / "live").path
    return printed("bench", live, "--subset", "text", "--calls", 3, "--variant", "auto")


@gives("export")
def _exports(folder: Path, bundle: Path) -> list[Any]:
    return printed("export", TINY, "--out", folder / "out", "--subset", "text", "--variant", "int8", "--tune")


@gives("export-triton")
def _repositories(folder: Path, bundle: Path) -> list[Any]:
    given = ("--format", "triton", "--instance-group", "cpu", "--out", folder / "models")
    return printed("export", write_live_like(folder / "live").path, *given, "--variant", "fp32")


@gives("update")
def _updates(folder: Path, bundle: Path) -> list[Any]:
    shutil.copytree(bundle, folder / "copy")
    adapter = new_adapter(folder / "new", "text")
    return printed("update", folder / "copy", "--base", TINY, "--adapter", f"text={adapter}")


@gives("rollback")
def _rollbacks(folder: Path, bundle: Path) -> list[Any]:
    _updates(folder, bundle)
    return printed("rollback", folder / "copy")


@gives("merge")
def _merges(folder: Path, bundle: Path) -> list[Any]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "fc.weight")
    node = helper.make_node("Gemm", ["x", "fc.weight"], ["y"], transB=1)
    value = [
        helper.make_tensor_value_info(*each) for each in (("x", 1, (1, 3)), ("y", TensorProto.FLOAT, (1, 4)))
    ]
    graph = helper.make_graph([node], "g", value[:1], value[1:], [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "m.onnx"
    )
    (folder / "adapter").mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["fc"], "bias": "none"}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    pair = {"A": np.ones((2, 3), np.float32), "B": np.ones((4, 2), np.float32)}
    named = {f"base_model.model.fc.lora_{side}.weight": array for side, array in pair.items()}
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(bytes_from_tensors(named))
    return printed("merge", folder / "m.onnx", folder / "adapter", "--out", folder / "out.onnx")


@gives("build")
def _builds(folder: Path, bundle: Path) -> list[Any]:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    words = ("build", bundle, "--backend", "rtx", "--sm", "86", "--subset", "text", "--variant", "fp16")
    return [*printed(*words, lines=True), *printed(*words, lines=True)]


@gives("cache")
def _caches(folder: Path, bundle: Path) -> list[Any]:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    _builds(folder, bundle)
    return printed("cache", "list")


@gives("cache-clear")
def _cleared(folder: Path, bundle: Path) -> list[Any]:
    return printed("cache", "clear")


@gives("batch")
def _batches(folder: Path, bundle: Path) -> list[Any]:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    (folder / "broken.mp4").write_bytes(b"no media")
    return printed("batch", RECORDING, folder / "broken.mp4", "--out", folder / "t.parquet", "--workers", 0)


@gives("train")
def _trainings(folder: Path, bundle: Path) -> list[Any]:
    for name in ("torch", "matplotlib", "rich"):
        pytest.importorskip(name, reason=f"needs {name}")
    from tiny_mosi import write_tiny_mosi

    write_tiny_mosi(folder / "data" / "mosi_trimodal")
    settings = "[trunk]\nwidth = 8\nblocks = 1\n[schedule]\nepochs = 1\nsteps = 1\nbatch = 4\n"
    (folder / "run.toml").write_text(settings)
    out = io.StringIO()
    words = ["--data", folder / "data", "--out", folder / "run", "--config", folder / "run.toml", "--json"]
    with contextlib.redirect_stdout(out):
        assert main(["train", "mculora", *map(str, words)]) == 0
    return [json.loads(out.getvalue().splitlines()[-1])]


@gives("live")
def _messages(folder: Path, bundle: Path) -> list[Any]:
    from edgeemo.serve import messages

    with Session(media=RECORDING) as opened:
        reading = next(iter(opened))
        events = opened.events()
        text = messages.json_text(reading.to_json())
        notice = {"text": "You are seen", "acknowledged": True, "by": "visitor"}
        hello = messages.hello_message(
            opened.manifest,
            hop_s=opened.hop_s,
            time_s=opened.now_s,
            preview=False,
            notice=notice,
            history=[messages.compact_text(reading.to_json())],
            events=events,
        )
        status = messages.status_message(
            opened.stats(),
            modalities=opened.manifest.order,
            meters={"audio": {"level_dbfs": -30.0}},
            muted=["text"],
            clients=2,
            notice=None,
        )
    others = [messages.reading_message(text, 1.5), messages.end_message("it has ended")]
    others += [messages.event_message(event) for event in events]
    return [json.loads(message) for message in (hello, status, *others)]


def spoiled(document: Any, schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields documents each of which breaks one promise of the schema at its top, with what it breaks."""
    for key in schema.get("required", ()):
        yield f"{key} is missing", {name: value for name, value in document.items() if name != key}
    for key, promise in schema.get("properties", {}).items():
        if key in document and ("type" in promise or "$ref" in promise or "enum" in promise):
            yield f"{key} is of another type", {**document, key: [{"another": "type"}, 1]}
    yield "everything is a word", "a word"


@pytest.mark.parametrize("name", schema_names())
def test_what_is_really_given_is_what_the_schema_says(name: str, tmp_path: Path, tiny_export: Path) -> None:
    schema = load_schema(name)
    validator = jsonschema.Draft202012Validator(schema)
    documents = GIVERS[name](tmp_path, tiny_export)
    assert documents
    for document in documents:
        validator.validate(document)
    if name == "engine":
        schema, documents = schema["items"], [documents[0][0]]
        validator = jsonschema.Draft202012Validator({**schema, "$defs": load_schema(name)["$defs"]})
    if name == "live":  # one of several, told apart by their type
        for message in documents:
            for key in message:
                assert not validator.is_valid({**message, key: [None]}), f"{message['type']}.{key}"
        return
    document = documents[0]
    for what, broken in spoiled(document, schema):
        assert not validator.is_valid(broken), f"{name} takes a document in which {what}"
    if "properties" in schema:
        assert set(document) <= set(schema["properties"]), "a key that the schema does not describe"
        validator.validate({**document, "a_key_of_a_later_version": 1})


@pytest.mark.parametrize("name", schema_names())
def test_schemas_are_schemas_and_say_what_they_are_of(name: str) -> None:
    schema = load_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:edgeemo:schema:{name}"
    assert schema["title"]
    assert schema["description"]
    assert schema["x-given-by"]
    for place, key, value in _keywords(schema):
        assert key != "additionalProperties" or value is not False, f"{name}: {place} refuses later versions"


def _keywords(schema: Any, place: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield place, key, value
            yield from _keywords(value, f"{place}/{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from _keywords(value, place)


def test_a_reading_that_breaks_a_promise_is_refused() -> None:
    (reading,) = printed("run", "--media", RECORDING, "--seconds", 0.5, lines=True)
    validator = jsonschema.Draft202012Validator(load_schema("reading"))
    for path, value in {
        ("confidence",): 1.5,
        ("valence",): -2,
        ("probabilities", "happy"): "much",
        ("states", "audio", "state"): "tired",
        ("states", "audio"): {"state": "live"},
        ("evidence", "audio"): [],
        ("faces",): [{"track_id": 1}],
    }.items():
        broken = copy.deepcopy(reading)
        place = broken
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        assert not validator.is_valid(broken), path


def test_the_command_lists_and_prints_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == list(schema_names())
    assert main(["schema", "reading"]) == 0
    assert json.loads(capsys.readouterr().out) == load_schema("reading")
    assert main(["schema", "readin"]) == 1
    assert "did you mean reading? There are: " in capsys.readouterr().err
    with pytest.raises(InputError, match=r"no schema is called '\.\./reading'"):
        load_schema("../reading")
    with pytest.raises(InputError, match="no schema is called 'zzz'; there are: "):
        load_schema("zzz")
