"""New adapters for an installed bundle: what they touch is made anew, all else and all trouble leaves it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from new_adapters import TINY, answers, change_config, change_tensor, new_adapter, with_adapters

from edgeemo.bundle import Bundle, BundleWriter, bytes_from_tensors, read_tensors
from edgeemo.cli.main import main
from edgeemo.errors import BundleError, CheckpointError, EdgeEmoError, ExportError, GateError, SubsetError
from edgeemo.export import Checkpoint, export_bundle
from edgeemo.export.update.bundle import UpdateReport, update_bundle
from edgeemo.modality import all_subsets, subset_members
from edgeemo.runtimes import OrtRunner
from edgeemo.session import EngineOptions, Session

SUBSETS = all_subsets(("audio", "video", "text"))
LIVE = Path(__file__).parents[2] / "samples" / "checkpoints" / "live"
VARIANTS = ("fp32", "int8")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(TINY, tmp_path_factory.mktemp("exported") / "bundle", variants=VARIANTS).bundle


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        place.relative_to(folder).as_posix(): place.read_bytes()
        for place in folder.rglob("*")
        if place.is_file() and not place.name.startswith(".lock")
    }


def logits(folder: Path, subset: str, variant: str = "fp32") -> np.ndarray:
    bundle = Bundle.open(folder)
    reference = Checkpoint.open(TINY).reference
    feed = {
        f"{kind}.{m}": np.asarray(reference[f"{kind}.{m}"], np.float32)
        for m in subset_members(subset)
        for kind in ("features", "mask")
    }
    with OrtRunner(bundle.read_engine(subset, variant)) as runner:
        return np.asarray(runner.run(feed)["logits"])


def test_only_the_touched_engine_is_made_anew(bundle: Path, tmp_path: Path) -> None:
    before = Bundle.open(bundle).manifest
    old = logits(bundle, "audio+video")
    folder = new_adapter(tmp_path / "new", "audio+video")
    report = update_bundle(bundle, TINY, {"video+audio": folder})
    assert [engine.subset for engine in report.engines] == ["audio+video"]
    assert report.engines[0].judged_by == "the unmerged network"
    assert report.bundle == bundle
    assert report.copied_from is None
    updated = Bundle.open(bundle)
    updated.verify()
    after = updated.manifest
    for subset in SUBSETS:
        same = after.engines[subset] == before.engines[subset]
        assert same == (subset != "audio+video")
        assert set(after.engines[subset]) == set(VARIANTS)
    assert after.stems == before.stems
    assert replace(after, engines={}, files={}, weights={}, reference="", provenance=before.provenance) == (
        replace(before, engines={}, files={}, weights={}, reference="")
    )
    expected = answers(with_adapters({"audio+video": folder}), "audio+video")["logits.audio+video"]
    found = logits(bundle, "audio+video")
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(found - old).max() > 1e-2 * np.abs(old).max()


def test_the_engine_is_the_one_that_a_whole_export_would_make(bundle: Path, tmp_path: Path) -> None:
    """Byte for byte, once shared tensors are put back."""
    folders = {name: new_adapter(tmp_path / name, name, seed=3) for name in ("common", "video+text")}
    update_bundle(bundle, TINY, folders)
    checkpoint = Path(shutil.copytree(TINY, tmp_path / "checkpoint"))
    for name, folder in folders.items():
        shutil.copytree(folder, checkpoint / "adapters" / name, dirs_exist_ok=True)
    source = with_adapters(folders)
    reference = dict(source.reference)
    for subset in SUBSETS:
        reference |= answers(source, subset)
    (checkpoint / "reference.safetensors").write_bytes(bytes_from_tensors(reference))
    export_bundle(checkpoint, tmp_path / "whole", variants=VARIANTS)
    updated, whole = Bundle.open(bundle), Bundle.open(tmp_path / "whole")
    for subset in SUBSETS:
        for variant in VARIANTS:
            both = [each.read_engine(subset, variant).self_contained() for each in (updated, whole)]
            assert both[0] == both[1], (subset, variant)


def test_common_touches_every_engine(bundle: Path, tmp_path: Path) -> None:
    report = update_bundle(bundle, TINY, {"common": new_adapter(tmp_path / "new", "common")})
    assert tuple(engine.subset for engine in report.engines) == SUBSETS
    source = with_adapters({"common": tmp_path / "new"})
    for subset in SUBSETS:
        expected = answers(source, subset)[f"logits.{subset}"]
        assert np.abs(logits(bundle, subset) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_updates_add_up(bundle: Path, tmp_path: Path) -> None:
    for name in ("text", "audio"):
        update_bundle(bundle, TINY, {name: new_adapter(tmp_path / name, name)})
    source = with_adapters({name: tmp_path / name for name in ("text", "audio")})
    reference = Bundle.open(bundle).reference()
    for subset in SUBSETS:
        expected = answers(source, subset)[f"logits.{subset}"]
        assert np.abs(logits(bundle, subset) - expected).max() <= 1e-5 * np.abs(expected).max()
        known = answers(source, subset, reference)
        scale = np.abs(reference[f"logits.{subset}"]).max()
        assert np.abs(known[f"logits.{subset}"] - reference[f"logits.{subset}"]).max() <= 1e-5 * scale


def test_what_it_comes_from_is_on_record(bundle: Path, tmp_path: Path) -> None:
    before = Bundle.open(bundle).manifest.provenance
    assert not before.updates
    update_bundle(bundle, TINY, {"text": new_adapter(tmp_path / "new", "text")})
    after = Bundle.open(bundle).manifest.provenance
    assert after.checkpoint == before.checkpoint
    assert set(after.updates) == {"text"}
    update = after.updates["text"]
    assert set(update.files) == {f"adapters/text/adapter_{x}" for x in ("config.json", "model.safetensors")}
    assert (
        update.files["adapters/text/adapter_model.safetensors"]
        != (before.checkpoint["adapters/text/adapter_model.safetensors"])
    )
    assert update.packages == before.packages


def test_the_report_covers_old_and_new(bundle: Path, tmp_path: Path) -> None:
    update_bundle(bundle, TINY, {"text": new_adapter(tmp_path / "new", "text")})
    report = Bundle.open(bundle).report()
    assert report is not None
    engines = report["engines"]
    assert isinstance(engines, dict)
    assert set(engines) == set(SUBSETS)
    assert engines["text"]["fp32"]["file"] == Bundle.open(bundle).manifest.engines["text"]["fp32"]


def test_variants_and_recipe_are_those_of_the_bundle(tmp_path: Path) -> None:
    from edgeemo.export.recipe import GraphRecipe, Recipe

    recipe = Recipe({("engines", "text", "int8"): GraphRecipe("static")})
    folder = tmp_path / "bundle"
    export_bundle(TINY, folder, subsets=["text"], variants=["int8", "fp16"], recipe=recipe)
    before = Bundle.open(folder).manifest
    report = update_bundle(folder, TINY, {"text": new_adapter(tmp_path / "new", "text")})
    after = Bundle.open(folder).manifest
    assert set(after.engines["text"]) == set(before.engines["text"]) == {"int8", "fp16"}
    assert after.recipe == before.recipe is not None
    assert {graph.variant: graph.recipe.method for graph in report.export.graphs}["int8"] == "static"


def bring(folder: Path, subset: str, change: Callable[[dict[str, np.ndarray]], object] = dict) -> Path:
    """Puts the training's answers into an adapter's folder, after a change."""
    tensors: dict[str, np.ndarray] = dict(answers(with_adapters({subset: folder}), subset))
    change(tensors)
    (folder / "reference.safetensors").write_bytes(bytes_from_tensors(tensors))
    return folder


def test_the_adapters_own_reference_comes_first(bundle: Path, tmp_path: Path) -> None:
    folder = bring(new_adapter(tmp_path / "new", "audio+text"), "audio+text")
    report = update_bundle(bundle, TINY, {"audio+text": folder})
    assert report.engines[0].judged_by == "the adapter's own reference"
    files = Bundle.open(bundle).manifest.provenance.updates["audio+text"].files
    assert "adapters/audio+text/reference.safetensors" in files


def test_it_may_bring_windows_of_its_own(bundle: Path, tmp_path: Path) -> None:
    folder = new_adapter(tmp_path / "new", "text")
    reference = Checkpoint.open(TINY).reference
    windows = {name: reference[name][40:72][::-1] for name in ("features.text", "mask.text")}
    tensors = {**windows, **answers(with_adapters({"text": folder}), "text", windows)}
    (folder / "reference.safetensors").write_bytes(bytes_from_tensors(tensors))
    assert update_bundle(bundle, TINY, {"text": folder}).engines[0].judged_by.startswith("the adapter's")


def test_other_answers_than_the_reference_are_refused(bundle: Path, tmp_path: Path) -> None:
    """The reference of the old adapter stands for a training whose network is another one."""
    folder = new_adapter(tmp_path / "new", "text")
    shutil.copyfile(TINY / "reference.safetensors", folder / "reference.safetensors")
    before = contents(bundle)
    with pytest.raises(GateError, match=r"the engine text \(fp32\) .*deviates"):
        update_bundle(bundle, TINY, {"text": folder})
    assert contents(bundle) == before


BAD_REFERENCES: dict[str, tuple[str, Callable[[dict[str, np.ndarray]], object]]] = {
    "no logits": ("missing tensor 'logits.text'", lambda t: t.pop("logits.text")),
    "other windows": (
        "has 100 windows; expected 256",
        lambda t: t.update({"logits.text": t["logits.text"][:100]}),
    ),
    "other labels": (
        r"'logits.text' is float32 \[256, 2\]; expected .*\[256, 3\]",
        lambda t: t.update({"logits.text": t["logits.text"][:, :2]}),
    ),
    "not finite": (
        "expected finite",
        lambda t: t.update({"logits.text": t["logits.text"] * np.float32("nan")}),
    ),
    "half of the windows' inputs": (
        "missing tensor 'mask.text'",
        lambda t: t.update({"features.text": np.zeros((256, 4, 4), np.float32)}),
    ),
}


@pytest.mark.parametrize("what", BAD_REFERENCES)
def test_a_broken_reference_is_refused_by_name(bundle: Path, tmp_path: Path, what: str) -> None:
    message, change = BAD_REFERENCES[what]
    folder = bring(new_adapter(tmp_path / "new", "text"), "text", change)
    before = contents(bundle)
    with pytest.raises(CheckpointError, match=message):
        update_bundle(bundle, TINY, {"text": folder})
    assert contents(bundle) == before


def cut(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[:, :-1])


def spoil(array: np.ndarray) -> np.ndarray:
    array.flat[0] = np.nan
    return array


BAD_ADAPTERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "wrong rank": ("has shape .*; expected", lambda f: change_config(f, r=3, rank_pattern={})),
    "wrong shape": ("has shape .*; expected", lambda f: change_tensor(f, "A", cut)),
    "NaN": ("1 numbers that are not finite", lambda f: change_tensor(f, "B", spoil)),
    "wrong base": ("trained over a base", lambda f: change_config(f, base_sha256="0" * 64)),
    "no base": ("base_sha256", lambda f: change_config(f, base_sha256=None)),
    "no alpha": ("lora_alpha", lambda f: change_config(f, lora_alpha=None, alpha_pattern=None)),
    "too large for fp32": (
        "do not fit float32",
        lambda f: change_tensor(f, "B", lambda b: np.full_like(b, 3e38)),
    ),
    "no weights": ("cannot be read", lambda f: (f / "adapter_model.safetensors").unlink()),
    "no config": ("cannot be read", lambda f: (f / "adapter_config.json").unlink()),
    "truncated": (
        "truncated|header",
        lambda f: (f / "adapter_model.safetensors").write_bytes(
            (f / "adapter_model.safetensors").read_bytes()[:-5]
        ),
    ),
    "of another subset": ("not in its graph|extra tensor", lambda f: _replace_with(f, "audio+video")),
}


def _replace_with(folder: Path, other: str) -> None:
    shutil.rmtree(folder)
    new_adapter(folder, other)


@pytest.mark.parametrize("what", BAD_ADAPTERS)
def test_a_broken_adapter_is_refused_and_nothing_changes(bundle: Path, tmp_path: Path, what: str) -> None:
    message, change = BAD_ADAPTERS[what]
    folder = new_adapter(tmp_path / "new", "text")
    change(folder)
    before = contents(bundle)
    with pytest.raises(EdgeEmoError, match=message):
        update_bundle(bundle, TINY, {"text": folder})
    assert contents(bundle) == before


def edit_json(place: Path, change: Callable[[dict[str, object]], object]) -> None:
    data = json.loads(place.read_text())
    change(data)
    place.write_text(json.dumps(data))


def _other_graph(folder: Path) -> None:
    import onnx

    model = onnx.load(folder / "graphs" / "text.onnx", load_external_data=False)
    model.graph.node[0].name += "-other"
    (folder / "graphs" / "text.onnx").write_bytes(model.SerializeToString())


def _edit(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "checkpoint.json", change)


BAD_BASES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "labels": (
        "labels: neutral, happy, sad in the bundle, happy, neutral, sad in the checkpoint",
        _edit(lambda d: d.update(labels=["happy", "neutral", "sad"])),
    ),
    "hop": ("seconds between readings: 0.5 in the bundle, 1", _edit(lambda d: d.update(hop_s=1.0))),
    "front-end": (
        "front-end of audio: .*log_mel.*; expected|front-end of audio: .*log_mel.* in the bundle",
        _edit(lambda d: d["modalities"][0]["front_end"].update(bands=13)),  # type: ignore[index]  # JSON
    ),
    "windows": (
        "window or stem of audio",
        _edit(lambda d: d["modalities"][0]["window"].update(window_s=9.0)),  # type: ignore[index]  # JSON
    ),
    "graph": ("the file graphs/text.onnx", _other_graph),
}


@pytest.mark.parametrize("what", BAD_BASES)
def test_a_checkpoint_that_is_not_the_bundles_is_refused(bundle: Path, tmp_path: Path, what: str) -> None:
    message, change = BAD_BASES[what]
    base = Path(shutil.copytree(TINY, tmp_path / "base"))
    change(base)
    before = contents(bundle)
    with pytest.raises(CheckpointError, match=message):
        update_bundle(bundle, base, {"text": new_adapter(tmp_path / "new", "text")})
    assert contents(bundle) == before


def test_an_adapter_that_reaches_less_than_the_one_it_replaces_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    folder = new_adapter(tmp_path / "text", "text")
    before = contents(bundle)
    with pytest.raises(
        CheckpointError, match=r"adapter of 'common' lacks \d+ of the \d+ modules .*lora_B = 0"
    ):
        update_bundle(bundle, TINY, {"common": folder})
    assert contents(bundle) == before


def test_a_base_with_other_weights_is_refused(bundle: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(TINY, tmp_path / "base"))
    weights = dict(read_tensors(base / "model.safetensors"))
    name = sorted(weights)[0]
    weights[name] = weights[name] * np.float32(1.5)
    (base / "model.safetensors").write_bytes(bytes_from_tensors(weights))
    with pytest.raises(CheckpointError, match="trained over a base"):
        update_bundle(bundle, base, {"text": new_adapter(tmp_path / "new", "text")})
    import hashlib

    digest = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    for config in base.glob("adapters/*/adapter_config.json"):
        edit_json(config, lambda data: data.update(base_sha256=digest))
    with pytest.raises(CheckpointError, match=r"the file .* in the bundle"):
        update_bundle(bundle, base, {"text": new_adapter(tmp_path / "other", "text", base=base)})


def test_an_adapter_that_stays_must_be_the_one_in_use(bundle: Path, tmp_path: Path) -> None:
    """After another common adapter, the base's own one would turn the new engine back."""
    common = new_adapter(tmp_path / "common", "common")
    text = new_adapter(tmp_path / "text", "text")
    update_bundle(bundle, TINY, {"common": common})
    before = contents(bundle)
    with pytest.raises(CheckpointError, match=r"needs the adapter .common. too.*--adapter common=DIR"):
        update_bundle(bundle, TINY, {"text": text})
    assert contents(bundle) == before
    update_bundle(bundle, TINY, {"text": text, "common": common})
    expected = answers(with_adapters({"text": text, "common": common}), "text")["logits.text"]
    assert np.abs(logits(bundle, "text") - expected).max() <= 1e-5 * np.abs(expected).max()


def test_what_cannot_be_asked_for(bundle: Path, tmp_path: Path) -> None:
    folder = new_adapter(tmp_path / "new", "text")
    with pytest.raises(SubsetError, match="at least one subset"):
        update_bundle(bundle, TINY, {})
    with pytest.raises(SubsetError, match="one for each"):
        update_bundle(bundle, TINY, {"audio+video": folder, "video+audio": folder})
    with pytest.raises(SubsetError, match="unknown modality 'smell'"):
        update_bundle(bundle, TINY, {"smell": folder})
    with pytest.raises(BundleError, match="no folder"):
        update_bundle(tmp_path / "nowhere", TINY, {"text": folder})
    with pytest.raises(CheckpointError, match=r"holds no checkpoint\.json"):
        update_bundle(bundle, tmp_path, {"text": folder})
    export_bundle(TINY, tmp_path / "small", subsets=["audio"], variants=["int8"])
    with pytest.raises(SubsetError, match="this model has: audio"):
        update_bundle(tmp_path / "small", TINY, {"text": folder})
    assert update_bundle(
        tmp_path / "small", TINY, {"common": new_adapter(tmp_path / "common", "common")}
    ).export.kept


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    place = Bundle.open(bundle).engine_path("audio", "int8")
    data = bytearray(place.read_bytes())
    data[-3] ^= 1
    place.write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        update_bundle(bundle, TINY, {"text": new_adapter(tmp_path / "new", "text")})


def test_a_rollback_brings_every_byte_back(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (bundle / "manifest.json").read_bytes()
    old = logits(bundle, "text")
    update_bundle(bundle, TINY, {"text": new_adapter(tmp_path / "new", "text")})
    after = (bundle / "manifest.json").read_bytes()
    assert main(["rollback", str(bundle)]) == 0
    assert "before its last change" in capsys.readouterr().out
    assert (bundle / "manifest.json").read_bytes() == before
    Bundle.open(bundle).verify()
    np.testing.assert_array_equal(logits(bundle, "text"), old)
    assert main(["rollback", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest_sha256"] == Bundle.open(bundle).manifest_sha256
    assert (bundle / "manifest.json").read_bytes() == after


def test_a_rollback_without_its_files_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", str(bundle)]) == 1
    assert "no previous state" in capsys.readouterr().err
    gone = Bundle.open(bundle).engine_path("text", "fp32")
    update_bundle(bundle, TINY, {"text": new_adapter(tmp_path / "new", "text")})
    gone.unlink()
    now = contents(bundle)
    assert main(["rollback", str(bundle)]) == 1
    assert f"{gone.name}" in capsys.readouterr().err
    assert contents(bundle) == now


def test_a_rollback_repairs_a_damaged_update(bundle: Path, tmp_path: Path) -> None:
    update_bundle(bundle, TINY, {"text": new_adapter(tmp_path / "new", "text")})
    Bundle.open(bundle).engine_path("text", "fp32").write_bytes(b"")
    with pytest.raises(BundleError, match="0 bytes"):
        Bundle.open(bundle)
    assert main(["rollback", str(bundle)]) == 0
    Bundle.open(bundle).verify()


def test_two_updaters_at_once(bundle: Path, tmp_path: Path) -> None:
    """The second is refused by name, or waits where it was told to; neither update is lost."""
    folders = {name: new_adapter(tmp_path / name, name) for name in ("text", "audio")}
    with BundleWriter(bundle), pytest.raises(ExportError, match="being written by another process"):
        update_bundle(bundle, TINY, {"text": folders["text"]})
    reports: list[UpdateReport] = []
    threads = [
        threading.Thread(
            target=lambda name=name: reports.append(
                update_bundle(bundle, TINY, {name: folders[name]}, wait_s=120)
            )
        )
        for name in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 2
    assert set(Bundle.open(bundle).manifest.provenance.updates) == {"text", "audio"}
    source = with_adapters(folders)
    for name in folders:
        expected = answers(source, name)[f"logits.{name}"]
        assert np.abs(logits(bundle, name) - expected).max() <= 1e-5 * np.abs(expected).max()


def edgeemo(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeemo", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload,no-any-return]  # options are subprocess.run's own


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_nothing_behind(bundle: Path, tmp_path: Path) -> None:
    import resource

    folder = new_adapter(tmp_path / "new", "text")
    before = contents(bundle)
    largest = 4096
    done = edgeemo(
        *("update", bundle, "--base", TINY, "--adapter", f"text={folder}"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)),
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1, done.stdout
    assert "no room left" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(bundle) == before


def test_it_needs_no_torch(bundle: Path, tmp_path: Path) -> None:
    folder = new_adapter(tmp_path / "new", "text")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from edgeemo.cli.main import main\n"
        f"sys.exit(main(['update', {str(bundle)!r}, '--base', {str(TINY)!r}, '--adapter', 'text={folder}']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 engine made anew" in done.stdout
    assert f"back with: edgeemo rollback {bundle}" in done.stdout


def test_mistakes_on_the_command_line(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--adapter", "text"], ["--adapter", "=x"], []):
        with pytest.raises(SystemExit) as stop:
            main(["update", str(bundle), "--base", str(TINY), *words])
        assert stop.value.code == 2
    twice = ["--adapter", "text=a", "--adapter", "text=b"]
    assert main(["update", str(bundle), "--base", str(TINY), *twice]) == 2
    assert "two adapters for one subset" in capsys.readouterr().err
    assert main(["rollback", "nowhere"]) == 1
    assert "is no folder" in capsys.readouterr().err


def test_the_report_as_json(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = new_adapter(tmp_path / "new", "text")
    assert main(["update", str(bundle), "--base", str(TINY), "--adapter", f"text={folder}", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bundle"] == str(bundle)
    assert report["copied_from"] is None
    assert [engine["subset"] for engine in report["updated"]] == ["text"]
    assert report["manifest_sha256"] == Bundle.open(bundle).manifest_sha256


def test_a_bundle_inside_the_package_is_copied_first(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgeemo.bundle.place.PACKAGE", bundle.parent)
    monkeypatch.setenv("EDGEEMO_DATA", str(tmp_path.parent / f"{tmp_path.name}-data"))
    data = tmp_path.parent / f"{tmp_path.name}-data"
    before = contents(bundle)
    assert main(["rollback", str(bundle)]) == 1
    assert "no copy of it was ever updated" in capsys.readouterr().err
    folder = new_adapter(tmp_path / "text", "text")
    assert main(["update", str(bundle), "--base", str(TINY), "--adapter", f"text={folder}"]) == 0
    output = capsys.readouterr().out
    (copy,) = (data / "bundles").iterdir()
    assert f"{bundle} may not be changed; its copy in your data folder was updated." in output
    assert f"edgeemo run --bundle {copy}\n" in output
    assert contents(bundle) == before
    # The next update goes on from there, and a rollback finds it too.
    folder = new_adapter(tmp_path / "audio", "audio")
    report = update_bundle(bundle, TINY, {"audio": folder})
    assert report.copied_from == bundle
    assert report.bundle == copy
    assert set(Bundle.open(copy).manifest.provenance.updates) == {"text", "audio"}
    assert main(["rollback", str(bundle)]) == 0
    assert set(Bundle.open(copy).manifest.provenance.updates) == {"text"}
    assert contents(bundle) == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_a_bundle_of_somebody_else_is_copied_first(bundle: Path, tmp_path: Path) -> None:
    from edgeemo.bundle.place import may_change

    assert may_change(bundle)
    bundle.chmod(0o555)
    if os.geteuid() != 0:
        assert not may_change(bundle)
    else:  # root may write anywhere, so somebody else has to try
        for place in (*bundle.parents[:3], bundle):
            place.chmod(place.stat().st_mode | 0o055)
        os.seteuid(65534)
        try:
            assert not may_change(bundle)
        finally:
            os.seteuid(0)
    bundle.chmod(0o755)


def test_a_running_session_takes_an_update_over(tmp_path: Path) -> None:
    """The live text engine: other answers about the same words, no reading lost, the old files held."""
    folder = tmp_path / "bundle"
    export_bundle(LIVE, folder, subsets=["text"], variants=["fp32"])
    first = set(Bundle.open(folder).manifest.files)
    adapter = new_adapter(tmp_path / "new", "text", base=LIVE)
    with Session(folder, engines=EngineOptions(variant="fp32")) as session:
        session.push_text("I am so happy that you came", time_s=1.0)
        before = session.read(at_s=1.5)
        report = update_bundle(folder, LIVE, {"text": adapter})
        assert session.read(at_s=2.0).probabilities == before.probabilities
        assert session.reload().result(timeout=60)
        after = session.read(at_s=2.5)
        assert after.subset == "text"
        assert after.probabilities != before.probabilities
        assert session.stats().manifest_sha256 == report.export.manifest_sha256
        for seed in (2, 3):
            shutil.rmtree(adapter)
            update_bundle(folder, LIVE, {"text": new_adapter(adapter, "text", seed=seed, base=LIVE)})
        held = set(Bundle.open(folder).manifest.files) | first
        assert session.read(at_s=3.0).probabilities == after.probabilities
        assert session.stats().hops == 4
        assert all((folder / name).is_file() for name in held & first if "stem" in name)


def test_training_and_device_agree(tmp_path: Path) -> None:
    """Adapters that training saved, with its answers: the device's engine gives them to rounding."""
    torch = pytest.importorskip("torch", reason="needs torch")
    from tiny_checkpoint import no_ranges, tiny_info, tiny_model, tiny_parts, tiny_windows

    from edgeemo.training.checkpoints.save import save_checkpoint

    model = tiny_model()
    save_checkpoint(model, tmp_path / "base", tiny_parts(), tiny_info(model), tiny_windows())
    with torch.no_grad():
        for name, parameter in model.pairs.named_parameters():
            if "common" not in name:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    save_checkpoint(
        model, tmp_path / "later", tiny_parts(), tiny_info(model), tiny_windows(), ranges_of=no_ranges
    )
    export_bundle(tmp_path / "base", tmp_path / "bundle", subsets=["audio+text"], variants=["fp32", "int8"])
    adapter = tmp_path / "later" / "adapters" / "audio+text"
    shutil.copyfile(tmp_path / "later" / "reference.safetensors", adapter / "reference.safetensors")
    report = update_bundle(tmp_path / "bundle", tmp_path / "base", {"audio+text": adapter})
    assert report.engines[0].judged_by == "the adapter's own reference"
    exact = next(graph for graph in report.export.graphs if graph.variant == "fp32")
    assert exact.verdict.deviation < 1e-5
