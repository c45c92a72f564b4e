"""Bad input gets a named refusal: what is wrong, where, and what to do about it.

Each test breaks one thing. Whatever is refused leaves nothing behind and nothing changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tiny_linear import Layer, chain, random_layer, write_adapter

from edgeemo.bundle import Bundle, BundleWriter, bytes_from_tensors, read_tensors
from edgeemo.cli.main import main
from edgeemo.errors import CheckpointError, EdgeEmoError, ExportError
from edgeemo.export import Checkpoint, export_bundle, merge_peft
from edgeemo.export.adapters.merge import read_adapter
from edgeemo.export.dialect import STANDARD, check_operators

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
LINEAR = "trunk.inputs.audio"
ADAPTER = "adapters/audio"
KEY = f"base_model.model.{LINEAR}"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to break."""
    return Path(shutil.copytree(TINY, tmp_path / "checkpoint"))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder with a plain ONNX model of two layers and an adapter of the first."""
    layers = plain_layers()
    onnx.save(chain(layers), tmp_path / "model.onnx")
    write_adapter(tmp_path / "adapter", {"enc.0.fc": halves(layers[0])})
    return tmp_path


def plain_layers() -> list[Layer]:
    rng = np.random.default_rng(0)
    return [random_layer(rng, "enc.0.fc", 5, 4, "transpose"), random_layer(rng, "enc.1.fc", 4, 3, "gemm")]


def halves(layer: Layer, rank: int = 2) -> tuple[Any, Any]:
    out, inner = layer.weight.shape
    return np.ones((rank, inner), np.float32), np.ones((out, rank), np.float32)


def edit_json(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    for name, value in changes.items():
        if value is ...:
            data.pop(name)
        else:
            data[name] = value
    path.write_text(json.dumps(data))


def edit_tensors(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = {name: np.array(array) for name, array in read_tensors(path).items()}
    change(tensors)
    path.write_bytes(bytes_from_tensors(tensors))


def edit_model(path: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


def refuse_checkpoint(folder: Path, sentence: str, error: type[EdgeEmoError] = CheckpointError) -> None:
    out = folder.parent / "bundle"
    with pytest.raises(error, match=sentence):
        export_bundle(folder, out, subsets=["audio"])
    assert not out.exists()


def refuse_merge(folder: Path, sentence: str, error: type[EdgeEmoError] = CheckpointError) -> None:
    before = {place: place.read_bytes() for place in folder.rglob("*") if place.is_file()}
    with pytest.raises(error, match=sentence):
        merge_peft(folder / "model.onnx", folder / "adapter", folder / "merged.onnx")
    assert {place: place.read_bytes() for place in folder.rglob("*") if place.is_file()} == before


class TestAdapters:
    """Of the wrong rank, shape or base, without alpha, with NaN, of another kind."""

    def test_of_another_rank(self, checkpoint: Path, plain: Path) -> None:
        edit_json(checkpoint / ADAPTER / "adapter_config.json", r=3)
        refuse_checkpoint(
            checkpoint,
            r"lora_A\.weight' has shape \[2, 8\]; expected \[3, 8\] \(rank 3 .*wrong base, or the config",
        )
        edit_json(plain / "adapter/adapter_config.json", r=3)
        refuse_merge(plain, r"lora_A\.weight' has shape \[2, 5\]; expected \[3, 5\] \(rank 3 over a weight")
        for rank, sentence in (
            (2.5, "is 2.5; expected a whole"),
            (0, "expected more than 0"),
            ("2", "a number"),
        ):
            edit_json(plain / "adapter/adapter_config.json", r=rank)
            refuse_merge(plain, sentence)

    def test_of_another_shape(self, checkpoint: Path, plain: Path) -> None:
        def widen(tensors: dict[str, Any]) -> None:
            tensors[f"{KEY}.lora_B.weight"] = np.zeros((9, 2), np.float32)

        edit_tensors(checkpoint / ADAPTER / "adapter_model.safetensors", widen)
        refuse_checkpoint(checkpoint, rf"'{KEY}\.lora_B\.weight' has shape \[9, 2\]; expected \[8, 1\]")
        write_adapter(plain / "adapter", {"enc.0.fc": halves(plain_layers()[1])})
        refuse_merge(
            plain, r"'base_model\.model\.enc\.0\.fc\.lora_A\.weight' has shape \[2, 4\]; expected \[2, 5\]"
        )
        write_adapter(plain / "adapter", {"enc.0.fc": (np.ones((2, 5, 1), "<f4"), np.ones((4, 2), "<f4"))})
        refuse_merge(plain, r"has shape \[2, 5, 1\]; only adapters of linear layers are merged")

    def test_of_another_base(self, checkpoint: Path, plain: Path) -> None:
        edit_tensors(checkpoint / "model.safetensors", lambda tensors: tensors[f"{LINEAR}.bias"].fill(1))
        refuse_checkpoint(
            checkpoint,
            "the adapter 'common' was trained over a base with SHA-256 .*merge it into that one, or",
        )
        layer = random_layer(np.random.default_rng(0), "dec.fc", 5, 4, "gemm")
        write_adapter(plain / "adapter", {"dec.fc": halves(layer)})
        refuse_merge(
            plain,
            r"1 of the adapter's 1 modules are not in the graph by name: dec\.fc\. The graph has: "
            r"enc\.0\.fc, enc\.1\.fc\. Nothing was merged\. Is it the model that the adapter was trained",
        )

    def test_without_alpha(self, checkpoint: Path, plain: Path) -> None:
        for config in (checkpoint / ADAPTER, plain / "adapter"):
            edit_json(config / "adapter_config.json", lora_alpha=...)
        sentence = (
            r"adapter_config\.json: 'lora_alpha' is missing.*take the adapter_config\.json that training"
        )
        refuse_checkpoint(checkpoint, sentence)
        refuse_merge(plain, sentence)
        for alpha, sentence in (
            (0, "expected more than 0"),
            ("8", "must be a number"),
            (None, "must be a number"),
        ):
            edit_json(plain / "adapter/adapter_config.json", lora_alpha=alpha)
            refuse_merge(plain, sentence)

    @pytest.mark.parametrize("number", [np.nan, np.inf])
    def test_that_are_not_finite(self, checkpoint: Path, plain: Path, number: float) -> None:
        def spoil(tensors: dict[str, Any]) -> None:
            next(array for name, array in tensors.items() if name.endswith("lora_A.weight")).flat[3] = number

        for folder in (checkpoint / ADAPTER, plain / "adapter"):
            edit_tensors(folder / "adapter_model.safetensors", spoil)
        sentence = (
            r"lora_A\.weight' holds 1 numbers that are not finite; .*take an earlier one, or copy it again"
        )
        refuse_checkpoint(checkpoint, sentence)
        refuse_merge(plain, sentence)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"use_dora": True}, "'use_dora' is set; this exporter merges plain LoRA pairs"),
            (
                {"option_of_tomorrow": {"x": 1}},
                "'option_of_tomorrow' is set; this exporter merges plain LoRA",
            ),
            ({"peft_type": "IA3"}, "'peft_type' is 'IA3'; known: LORA"),
            ({"bias": "all"}, "'bias' is set"),
            (
                {"init_lora_weights": "pissa"},
                r"'pissa', which changes the base .*path_initial_model_for_weight",
            ),
            ({"rank_pattern": {"enc.(": 2}}, r"'enc\.\(' is no regular expression"),
            ({"target_modules": []}, "'target_modules' is empty"),
            ({"target_modules": ["fc", "query"]}, r"no pair of adapter_model\.safetensors adapts 'query'"),
            ({"target_modules": ["enc.1.fc"]}, r"adapts 'enc\.1\.fc'"),
            ({"target_modules": ...}, "'target_modules' is missing"),
        ],
    )
    def test_of_a_kind_that_no_sum_expresses(
        self, plain: Path, changes: dict[str, Any], sentence: str
    ) -> None:
        edit_json(plain / "adapter/adapter_config.json", **changes)
        refuse_merge(plain, sentence)

    def test_with_a_tensor_too_many_or_too_few(self, plain: Path) -> None:
        file = plain / "adapter/adapter_model.safetensors"
        key = "base_model.model.enc.0.fc"
        edit_tensors(
            file, lambda tensors: tensors.update({f"{key}.lora_embedding_A": np.ones((2, 5), "<f4")})
        )
        refuse_merge(plain, rf"extra tensor '{key}\.lora_embedding_A'; expected base_model\.model\.<module>")
        edit_tensors(file, lambda tensors: tensors.pop(f"{key}.lora_embedding_A"))
        edit_tensors(file, lambda tensors: tensors.pop(f"{key}.lora_B.weight"))
        refuse_merge(plain, rf"missing tensor '{key}\.lora_B\.weight'")

    def test_in_a_pickle(self, plain: Path) -> None:
        (plain / "adapter/adapter_model.safetensors").rename(plain / "adapter/adapter_model.bin")
        refuse_merge(plain, r"a pickle, which could run any program .* safe_serialization=True")

    def test_that_are_none(self, plain: Path) -> None:
        (plain / "adapter/adapter_config.json").unlink()
        refuse_merge(
            plain, r"adapter_config\.json: cannot be read .*expected a folder as PEFT's save_pretrained"
        )


class TestWeights:
    """A graph whose initializer has no weight, or the reverse; weights that are not finite or not fp32."""

    def test_an_initializer_without_a_weight(self, checkpoint: Path) -> None:
        edit_tensors(checkpoint / "model.safetensors", lambda tensors: tensors.pop(f"{LINEAR}.bias"))
        refuse_checkpoint(
            checkpoint,
            rf"missing tensor '{LINEAR}\.bias' \[8\], which the graph of audio needs; save graphs and",
        )

    def test_a_weight_without_an_initializer(self, checkpoint: Path) -> None:
        edit_tensors(
            checkpoint / "model.safetensors", lambda tensors: tensors.update(spare=np.zeros(2, "<f4"))
        )
        refuse_checkpoint(
            checkpoint, r"extra tensor 'spare' \(of 1\): no graph .*save graphs and weights of one"
        )

    def test_an_adapter_of_a_weight_that_is_no_linear_layers(self, plain: Path) -> None:
        def look_up(model: onnx.ModelProto) -> None:
            del model.graph.node[:]
            model.graph.node.append(helper.make_node("Cast", ["x"], ["rows"], to=TensorProto.INT64))
            model.graph.node.append(
                helper.make_node("Gather", ["enc.0.fc.weight", "rows"], ["answer"], name="look")
            )

        edit_model(plain / "model.onnx", look_up)
        refuse_merge(
            plain,
            r"enc\.0\.fc \(its weight 'enc\.0\.fc\.weight' goes into Gather 'look', not into a matrix ",
        )

    def test_weights_that_are_not_finite_or_not_float32(self, checkpoint: Path, plain: Path) -> None:
        edit_tensors(
            checkpoint / "model.safetensors", lambda tensors: tensors[f"{LINEAR}.weight"].fill(np.nan)
        )
        refuse_checkpoint(checkpoint, rf"'{LINEAR}\.weight' holds \d+ numbers that are not finite")

        def weight(array: Any) -> Callable[[onnx.ModelProto], object]:
            def change(model: onnx.ModelProto) -> None:
                tensor = next(t for t in model.graph.initializer if t.name == "enc.0.fc.weight")
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

            return change

        edit_model(plain / "model.onnx", weight(np.full((4, 5), np.inf, "<f4")))
        refuse_merge(plain, "the weight 'enc.0.fc.weight' holds 20 numbers that are not finite")
        edit_model(plain / "model.onnx", weight(np.ones((4, 5), np.float16)))
        refuse_merge(plain, "is FLOAT16; expected FLOAT. Merge into the float32 model, and convert")

    def test_a_merged_weight_that_does_not_fit(self, plain: Path) -> None:
        edit_json(plain / "adapter/adapter_config.json", lora_alpha=1e40)
        refuse_merge(
            plain, "the weight 'enc.0.fc.weight' merged .* do not fit float32; .* config is damaged or"
        )

    def test_a_weight_of_several_modules_that_nothing_tells_apart(self, plain: Path) -> None:
        def share(model: onnx.ModelProto) -> None:
            model.graph.node.append(helper.make_node("MatMul", ["x", "h0.turned"], ["again"], name="more"))
            model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 4]))

        edit_model(plain / "model.onnx", share)
        refuse_merge(
            plain, r"'', 'more' share its weight 'enc\.0\.fc\.weight', and nothing says which module"
        )


class TestExternalData:
    """What lies outside the model's folder is never read."""

    @pytest.mark.parametrize(
        "location", ["../secret", "/etc/passwd", "..\\secret", "C:\\secret", "sub/../../secret", ""]
    )
    def test_outside_the_folder(self, plain: Path, location: str) -> None:
        (plain / "secret").write_bytes(b"\1" * 80)
        folder = plain / "inner"
        folder.mkdir()
        for name in ("model.onnx", "adapter"):
            (plain / name).rename(folder / name)
        edit_model(folder / "model.onnx", point(location))
        refuse_merge(
            folder,
            r"the data of 'enc\.0\.fc\.weight' points to .*, outside the model's folder; nothing there",
        )

    @pytest.mark.parametrize("kind", ["link", "missing", "short", "folder link"])
    def test_that_cannot_be_read(self, plain: Path, kind: str) -> None:
        secret = plain / "elsewhere"
        secret.mkdir()
        (secret / "data.bin").write_bytes(b"\1" * 80)
        location = "data.bin"
        if kind == "link":
            (plain / "data.bin").symlink_to(secret / "data.bin")
        elif kind == "short":
            (plain / "data.bin").write_bytes(b"\1" * 30)
        elif kind == "folder link":
            (plain / "inside").symlink_to(secret)
            location = "inside/data.bin"
        edit_model(plain / "model.onnx", point(location))
        refuse_merge(
            plain, r"the data of 'enc\.0\.fc\.weight' in '.*data\.bin' (cannot be read|has 30 bytes; )"
        )

    def test_beside_the_model_is_read(self, plain: Path) -> None:
        weight = plain_layers()[0].weight
        (plain / "data.bin").write_bytes(weight.tobytes())
        edit_model(plain / "model.onnx", point("data.bin"))
        merge_peft(plain / "model.onnx", plain / "adapter", plain / "merged.onnx")
        merged = onnx.load(plain / "merged.onnx").graph.initializer[0]
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(merged), weight + 2 * 2
        )  # rank 2, scale 2, ones

    def test_in_a_checkpoint_is_never_followed(self, checkpoint: Path) -> None:
        def plant(model: onnx.ModelProto) -> None:
            constant = next(node for node in model.graph.node if node.op_type == "Constant")
            constant.attribute[0].t.ClearField("raw_data")
            constant.attribute[0].t.data_location = TensorProto.EXTERNAL
            constant.attribute[0].t.external_data.add(key="location", value="../secret")

        edit_model(checkpoint / "graphs/audio.onnx", plant)
        refuse_checkpoint(checkpoint, r"graphs/audio\.onnx: the node .* points to data outside the graph")


def point(location: str) -> Callable[[onnx.ModelProto], object]:
    """Takes the first weight out of a model and says that it lies in ``location``."""

    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "enc.0.fc.weight")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="length", value="80")

    return change


class TestGraphs:
    """Operators that the target lacks, opsets too new, files that are none."""

    def test_an_operator_that_does_not_exist(self, checkpoint: Path) -> None:
        def rename(model: onnx.ModelProto) -> None:
            node = next(node for node in model.graph.node if node.op_type == "Gelu")
            node.op_type, node.name = "Goolu", "middle"

        edit_model(checkpoint / "graphs/audio.onnx", rename)
        refuse_checkpoint(
            checkpoint,
            r"graphs/audio\.onnx: the node 'middle' is 'Goolu', an operator that ONNX .*trace the network",
        )

    def test_an_operator_of_somebody_elses(self, checkpoint: Path) -> None:
        def rename(model: onnx.ModelProto) -> None:
            model.graph.node[3].domain, model.graph.node[3].name = "my.company", "middle"

        edit_model(checkpoint / "graphs/audio.onnx", rename)
        refuse_checkpoint(checkpoint, r"the node 'middle' is my\.company\.\w+; expected standard operators")

    def test_an_operator_that_tensorrt_lacks(self) -> None:
        model = chain(plain_layers())
        model.graph.node.append(helper.make_node("Det", ["answer"], ["size"], name="volume"))
        with pytest.raises(
            ExportError, match=r"audio: the node 'volume' is Det, which TensorRT 10\.3 does not have"
        ):
            check_operators(model, STANDARD, "audio")

    @pytest.mark.parametrize(("opset", "ir"), [(99, 10), (20, 99)])
    def test_an_opset_too_new(self, checkpoint: Path, plain: Path, opset: int, ir: int) -> None:
        def renew(model: onnx.ModelProto) -> None:
            model.opset_import[0].version, model.ir_version = opset, ir

        edit_model(checkpoint / "graphs/audio.onnx", renew)
        refuse_checkpoint(
            checkpoint, rf"opset {opset}, IR {ir}.*expected opset 20 and at most IR 10: trace the net"
        )
        edit_model(plain / "model.onnx", renew)
        refuse_merge(
            plain, rf"opset {opset}, IR {ir}; onnx .* knows opsets up to .*Export the model with a lower"
        )

    def test_files_that_are_no_graphs(self, plain: Path) -> None:
        (plain / "model.onnx").write_bytes(b"not a graph")
        refuse_merge(plain, r"model\.onnx: not an ONNX model")
        (plain / "model.onnx").write_bytes(b"")
        refuse_merge(plain, r"model\.onnx: not an ONNX model")
        (plain / "model.onnx").unlink()
        refuse_merge(plain, r"model\.onnx: cannot be read \(No such file")

    def test_a_graph_that_is_damaged_inside(self, plain: Path) -> None:
        edit_model(plain / "model.onnx", lambda model: model.graph.node[0].input.__setitem__(0, "nowhere"))
        refuse_merge(plain, r"model\.onnx: not a valid ONNX model .*; export it again")

    @given(st.integers(0, 10_000), st.integers(1, 255), st.sampled_from(["model.onnx", "adapter"]))
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_byte_that_is_wrong_is_harmless_or_refused(
        self, plain: Path, place: int, change: int, name: str
    ) -> None:
        path = plain / (name if name == "model.onnx" else "adapter/adapter_model.safetensors")
        before = path.read_bytes()
        data = bytearray(before)
        data[place % len(data)] ^= change
        path.write_bytes(data)
        done = False
        with suppress(EdgeEmoError):  # any other error fails the test
            merge_peft(plain / "model.onnx", plain / "adapter", plain / "merged.onnx")
            done = True
        path.write_bytes(before)
        assert done == (plain / "merged.onnx").exists()
        (plain / "merged.onnx").unlink(missing_ok=True)


class TestDisk:
    """A disk without room: nothing half-written, and what was there still is."""

    @pytest.mark.parametrize("before", [None, b"an older model"])
    def test_a_merged_model(self, plain: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None) -> None:
        if before is not None:
            (plain / "merged.onnx").write_bytes(before)

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        refuse_merge(
            plain, "cannot be written: no room left on the disk. Nothing was changed there", ExportError
        )

    def test_a_real_limit_in_the_middle_of_a_file(self, plain: Path) -> None:
        """The system itself stops the write after 100 bytes."""
        program = (
            "import resource, sys; from edgeemo.cli.main import main; "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); sys.exit(main(sys.argv[1:]))"
        )
        words = [
            "merge",
            str(plain / "model.onnx"),
            str(plain / "adapter"),
            "--out",
            str(plain / "merged.onnx"),
        ]
        before = sorted(plain.rglob("*"))
        done = subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "merged.onnx cannot be written: no room left on the disk" in done.stderr
        assert sorted(plain.rglob("*")) == before

    @pytest.mark.parametrize("at", [1, 4, 7])
    def test_a_bundle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        out = tmp_path / "bundle"
        really, synced = os.fsync, 0

        def fsync(descriptor: int) -> None:
            nonlocal synced
            synced += 1
            if synced >= at:
                raise OSError(errno.ENOSPC, "No space left on device")
            really(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(ExportError, match=r"no room left on the disk\. No bundle there was damaged"):
            export_bundle(TINY, out, subsets=["audio"])
        assert not out.exists()
        monkeypatch.undo()
        export_bundle(TINY, out, subsets=["audio"])
        first = {place: place.read_bytes() for place in out.rglob("*") if place.is_file()}
        synced = 0
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(ExportError, match="no room left on the disk"):
            export_bundle(TINY, out, subsets=["audio", "text"])
        monkeypatch.undo()
        Bundle.open(out).verify()
        assert {place: place.read_bytes() for place in out.rglob("*") if place.is_file()} == first


HOLDER = """
import sys, time
from edgeemo.bundle import BundleWriter
with BundleWriter(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(600)
"""


class TestTwoExporters:
    """On one folder at once: the second is told who writes there; a dead one's lock is taken over."""

    def test_the_second_is_told_who_is_first_and_the_dead_ones_lock_is_taken_over(
        self, tmp_path: Path
    ) -> None:
        out = tmp_path / "bundle"
        words = [sys.executable, "-c", HOLDER, str(out)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
            try:
                assert other.stdout is not None
                assert other.stdout.readline() == "locked\n"
                sentence = rf"being written by another process, process {other.pid} since \d\d:\d\d:\d\d UTC"
                with pytest.raises(
                    ExportError, match=sentence + r".*wait for it to finish or choose another"
                ):
                    export_bundle(TINY, out, subsets=["audio"])
            finally:
                other.kill()
        assert not (out / "manifest.json").exists()
        export_bundle(TINY, out, subsets=["audio"])
        Bundle.open(out).verify()

    def test_a_writer_lets_others_in_when_it_is_done(self, tmp_path: Path) -> None:
        with (
            BundleWriter(tmp_path / "bundle"),
            pytest.raises(ExportError, match=f"process {os.getpid()} since"),
        ):
            export_bundle(TINY, tmp_path / "bundle", subsets=["audio"])
        export_bundle(TINY, tmp_path / "bundle", subsets=["audio"])


def test_the_command_line_says_it_in_one_line(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_json(plain / "adapter/adapter_config.json", r=3)
    words = ["merge", str(plain / "model.onnx"), str(plain / "adapter"), "--out", str(plain / "merged.onnx")]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("edgeemo merge: ")
    assert shown.err.count("\n") == 1


def test_a_new_adapter_over_an_open_checkpoint_is_checked_like_its_own(checkpoint: Path) -> None:
    opened = Checkpoint.open(checkpoint)
    again = opened.read_adapter(checkpoint / ADAPTER, "audio")
    assert again.pairs.keys() == opened.adapters["audio"].pairs.keys()
    with pytest.raises(
        CheckpointError, match=r"the adapter 'text' adapts 'trunk.*is it the adapter of another"
    ):
        opened.read_adapter(checkpoint / ADAPTER, "text")
    edit_json(checkpoint / ADAPTER / "adapter_config.json", base_sha256="0" * 64)
    with pytest.raises(CheckpointError, match="was trained over a base with SHA-256 0000"):
        opened.read_adapter(checkpoint / ADAPTER, "audio")


def test_rank_stabilized_adapters_are_scaled_by_the_root_of_the_rank(checkpoint: Path) -> None:
    """s = alpha / sqrt(r) instead of alpha / r (arXiv 2312.03732)."""
    weights = Checkpoint.open(checkpoint).weights
    digest = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    plainly = read_adapter(checkpoint / ADAPTER, "audio", digest, weights)
    edit_json(checkpoint / ADAPTER / "adapter_config.json", use_rslora=True)
    stable = read_adapter(checkpoint / ADAPTER, "audio", digest, weights)
    assert max(len(pair.a) for pair in plainly.pairs.values()) > 1
    for module, pair in plainly.pairs.items():
        rank = len(pair.a)
        assert stable.pairs[module].scale == pytest.approx(pair.scale * rank / np.sqrt(rank), rel=1e-15)
