"""The manifest's text: golden bytes, any order of keys, and everything that must be refused."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemo.bundle import Update, json_from_manifest, manifest_from_json
from edgeemo.errors import BundleError, EdgeEmoError, FormatVersionError, SubsetError

GOLDEN = Path(__file__).parents[1] / "data" / "manifest.json"
VERSION_1 = GOLDEN.with_name("manifest-v1.json")


def golden() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(GOLDEN.read_bytes())
    return data


def encode(data: object) -> bytes:
    return json.dumps(data).encode()


def test_golden_bytes() -> None:
    manifest = manifest_from_json(GOLDEN.read_bytes())
    assert json_from_manifest(manifest) == GOLDEN.read_bytes()
    assert manifest.order == ("audio", "text")
    assert tuple(manifest.engines) == ("audio", "text", "audio+text")
    assert manifest.engines["audio+text"]["int8"].startswith("graphs/audio+text.int8.")
    assert manifest.subsets["audio"].temperature == 1.5
    assert manifest.modality("audio").stem.features_per_block == 5
    assert manifest.modality("audio").front_end["kind"] == "log_mel"
    assert manifest.licence.non_commercial
    (shared,) = manifest.weights[manifest.engines["audio+text"]["int8"]]
    assert shared.startswith("graphs/weights/int8.")
    assert manifest.weights.get(manifest.engines["audio+text"]["fp32"]) is None
    assert manifest.recipe is not None


def test_version_1_is_read_as_a_bundle_whose_graphs_hold_all_their_tensors() -> None:
    old, new = manifest_from_json(VERSION_1.read_bytes()), manifest_from_json(GOLDEN.read_bytes())
    assert not old.weights
    assert old.recipe is None
    assert old.engines == new.engines
    assert old.subsets == new.subsets
    again = manifest_from_json(json_from_manifest(old))
    assert again == old


def test_updates_are_told_where_there_were_any() -> None:
    manifest = manifest_from_json(GOLDEN.read_bytes())
    update = Update({"adapters/audio/adapter_model.safetensors": "a" * 64}, {"onnx": "1.0"}, "2")
    updated = replace(manifest, provenance=replace(manifest.provenance, updates={"audio": update}))
    text = json_from_manifest(updated)
    assert b'"updates"' in text
    assert b'"updates"' not in GOLDEN.read_bytes()
    assert manifest_from_json(text) == updated
    stray = replace(manifest, provenance=replace(manifest.provenance, updates={"video": update}))
    with pytest.raises(BundleError, match="an update of 'video', which has no engine"):
        manifest_from_json(json_from_manifest(stray))


def test_any_order_of_keys_is_the_same_manifest() -> None:
    def backwards(value: object) -> object:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in sorted(value, reverse=True)}
        return [backwards(item) for item in value] if isinstance(value, list) else value

    reordered = encode(backwards(golden()))
    assert reordered != GOLDEN.read_bytes()
    assert json_from_manifest(manifest_from_json(reordered)) == GOLDEN.read_bytes()


def test_unknown_modality_is_a_subset_error() -> None:
    with pytest.raises(SubsetError, match="unknown modality 'video'; this model has: audio, text"):
        manifest_from_json(GOLDEN.read_bytes()).modality("video")


@pytest.mark.parametrize("version", [0, 3, "1", None, True, 1.5, 1.0])
def test_unknown_version_is_refused_before_anything_else(version: object) -> None:
    data = {"format_version": version, "whatever": "a newer format holds"}
    with pytest.raises(
        FormatVersionError, match=r"has format version .*; this edgeemo reads version 1 and 2"
    ):
        manifest_from_json(encode(data))


def change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Sets a value deep inside the golden manifest; a path is keys joined by slashes (in a key: ~)."""

    def apply(data: dict[str, Any]) -> None:
        *way, last = (step.replace("~", "/") for step in path.split("/"))
        place: Any = data
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        if value is KeyError:
            del place[last]
        else:
            place[last] = value

    return apply


INT8 = golden()["engines"]["audio"]["int8"].replace("/", "~")
WEIGHTS = next(name for name in golden()["files"] if name.startswith("graphs/weights/"))
HOSTILE = [
    ("labels", KeyError, "'labels' is missing"),
    ("labels", ["neutral", "neutral"], "'labels' names 'neutral' twice"),
    ("labels", [], "at least one label"),
    ("hop_s", 0, r"'hop_s' is 0; expected 0\.05\.\.60 seconds from one reading to the next"),
    ("hop_s", 1e-9, r"'hop_s' is 1e-09; expected 0\.05\.\.60 seconds"),
    ("hop_s", 61, r"'hop_s' is 61; expected 0\.05\.\.60 seconds"),
    ("hop_s", True, "'hop_s' must be a number, found true"),
    ("surprise", 1, "unknown 'surprise'; known: "),
    ("modalities/0/surprise", 1, "unknown 'surprise'"),
    ("modalities/0/name", "Audio!", "must be lower-case"),
    ("modalities/1/name", "audio", "each of them once"),
    ("modalities/0/feature_width", 1.5, "must be an integer"),
    ("modalities/0/feature_width", 10**9, "expected 1..65536"),
    ("modalities/0/stem/scope", "batch", "'scope' is 'batch'; known: stream, window"),
    ("modalities/0/stem/dtype", "float64", "known: float32, int64"),
    ("modalities/0/stem/block", 41, "no multiple of the stride 8"),
    ("modalities/1/stem/block", 16, "does not fill a window of 32 positions"),
    ("modalities/0/front_end", {}, "'kind' is missing"),
    ("modalities/0/window", [], "window must be an object, found a list"),
    ("subsets/audio/temperature", 0, "expected more than 0"),
    ("subsets/audio/prior", [0.5, 0.5], "one for each of 3 labels"),
    ("subsets/audio/prior", [0.5, 0.5, 0.5], "sums to 1.5"),
    ("subsets/audio/prior", [0.5, 0.5, 0], r"prior\[2\] is 0; expected more than 0"),
    ("subsets/text+audio", {}, "'text\\+audio' is no subset of audio, text in canonical order"),
    ("subsets/video", {}, "'video' is no subset"),
    ("engines", {}, "'engines' is empty"),
    ("engines/audio", {}, "has no variant"),
    ("engines/audio/INT8", "graphs/x", "must be lower-case letters, digits and hyphens"),
    ("engines/text", KeyError, "expected the same"),
    ("stems/text", KeyError, "expected exactly these under 'modalities'"),
    ("stems/video", {"fp32": "graphs/x"}, "unknown 'video'; possible here: audio, text"),
    ("engines/audio/fp32", "graphs/absent.onnx", "is named but has no size and hash"),
    ("files/spare.onnx", {"bytes": 1, "sha256": "0" * 64}, "nothing refers to it"),
    ("files/reference.0123456789ab.safetensors", {"bytes": -1, "sha256": "0" * 64}, "expected 0.."),
    (
        "files/reference.0123456789ab.safetensors",
        {"bytes": 1, "sha256": "abc"},
        "64 lower-case hexadecimal digits",
    ),
    ("weights/graphs~strange.onnx", [WEIGHTS], "neither an engine nor a stem"),
    (f"weights/{INT8}", ["graphs/weights/absent.bin"], "is named but has no size and hash"),
    (f"weights/{INT8}", ["graphs/audio.bin"], "refer to files in graphs/weights/ only"),
    (f"weights/{INT8}", ["graphs/weights/deeper/x.bin"], "refer to files in graphs/weights/ only"),
    (f"weights/{INT8}", ["graphs/weights/../../x"], "refer to files in graphs/weights/ only"),
    (f"weights/{INT8}", ["/etc/passwd"], "refer to files in graphs/weights/ only"),
    (f"weights/{INT8}", WEIGHTS, "must be a list"),
    ("weights", KeyError, "'weights' is missing"),
    ("recipe", "recipe.toml", "is named but has no size and hash"),
    ("recipe", KeyError, "'recipe' is missing"),
    ("provenance/updates", {"audio": {}}, "'files' is missing"),
    ("reference", "../../etc/passwd", "is named but has no size and hash"),
    ("licence", "free", "licence must be an object"),
    ("licence/non_commercial", "no", "must be true or false, found the text 'no'"),
    ("provenance/checkpoint/model.safetensors", "0", "64 lower-case hexadecimal digits"),
]


@pytest.mark.parametrize(
    ("path", "value", "sentence"), HOSTILE, ids=[f"{p}-{i}" for i, (p, _, _) in enumerate(HOSTILE)]
)
def test_hostile_manifests_are_refused_with_a_sentence(path: str, value: object, sentence: str) -> None:
    data = golden()
    change(path, value)(data)
    with pytest.raises(BundleError, match=sentence):
        manifest_from_json(encode(data))


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "graphs/../../x", "graphs\\x", "C:x", "graphs//x", "./x", "a\nb", ""],
)
def test_file_names_that_leave_the_folder_are_refused(name: str) -> None:
    data = golden()
    data["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    with pytest.raises(BundleError, match="stays inside the folder"):
        manifest_from_json(encode(data))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not JSON"),
        (b"[]", "expected a JSON object, found a list"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b'{"hop_s": NaN}', "NaN is not a JSON number"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply|not JSON"),
        (b" " * (16 * 1024 * 1024 + 1), "at most"),
        (GOLDEN.read_bytes()[:-100], "not JSON"),
    ],
    ids=["empty", "list", "utf16", "twice", "nan", "deep", "huge", "truncated"],
)
def test_what_is_no_manifest_at_all(data: bytes, sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        manifest_from_json(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(value=JSON, data=st.data())
def test_nothing_but_our_own_errors_comes_out(value: object, data: st.DataObject) -> None:
    """Any value at any place is either read or refused by name, never a crash."""
    changed = copy.deepcopy(golden())
    place: Any = changed
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = value
        break
    with contextlib.suppress(EdgeEmoError):
        manifest_from_json(encode(changed))
