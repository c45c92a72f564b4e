"""The variant that runs is measured on this machine, remembered, and shown."""

from __future__ import annotations

import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import write_bundle
from tiny_graphs import engine_bytes, expected_logits, feed

from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, InputError, SubsetError
from edgeemo.runtimes import OrtRunner, Runner, VariantChoice, open_engine, open_stem
from edgeemo.runtimes.cache import cache_folder, fact_path, read_fact, write_fact
from edgeemo.runtimes.choose import choose_variant, fastest, time_interleaved, typical_feed
from edgeemo.runtimes.machine import cpu_model, describe_cpu, int8_saturates


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEEMO_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """fp32 is slow by construction, and int8 answers with the other sign so that it can be told apart."""
    return write_bundle(
        tmp_path_factory.mktemp("bundle"),
        {"fp32": engine_bytes(rounds=12), "int8": engine_bytes(sign=-1)},
    )


def choice_of(runner: Runner) -> VariantChoice:
    with runner:
        assert runner.choice is not None
        return runner.choice


def test_the_faster_variant_runs_and_the_second_start_remembers(bundle: Bundle, cache: Path) -> None:
    runner = open_engine(bundle, "audio")
    given = feed()
    np.testing.assert_allclose(
        runner.run(given)["logits"],
        -expected_logits(given["features.audio"], given["mask.audio"]),
        rtol=1e-5,
        atol=1e-5,
    )
    measured = choice_of(runner)
    assert (measured.engine, measured.variant, measured.source) == ("audio", "int8", "measured")
    times = dict(measured.medians_ms)
    assert times["fp32"] > times["int8"] > 0
    assert str(measured).startswith("audio: int8 (measured: fp32 ")
    assert len(list(cache.rglob("*.json"))) == 1

    again = choice_of(open_engine(bundle, "audio"))
    assert (again.variant, again.source, again.medians_ms) == ("int8", "cached", measured.medians_ms)


def test_a_stem_is_chosen_the_same_way(bundle: Bundle) -> None:
    choice = choice_of(open_stem(bundle, "audio"))
    assert (choice.engine, choice.variant, choice.source) == ("stem.audio", "int8", "measured")


def test_asked_by_name_is_obeyed_and_measures_nothing(bundle: Bundle, cache: Path) -> None:
    choice = choice_of(open_engine(bundle, "audio", variant="fp32"))
    assert (choice.variant, choice.source, choice.medians_ms) == ("fp32", "asked", ())
    assert not cache.exists()


def test_names_that_do_not_exist_are_refused_with_those_that_do(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="no variant 'fp16'; it has: fp32, int8"):
        open_engine(bundle, "audio", variant="fp16")
    with pytest.raises(InputError, match="no variant 'fp16'; it has: fp32, int8"):
        open_stem(bundle, "audio", variant="fp16")
    with pytest.raises(SubsetError, match=r"video.*this model has: audio"):
        open_engine(bundle, "video")
    with pytest.raises(SubsetError, match="this model has: audio"):
        open_stem(bundle, "video")
    for opened in (open_engine, open_stem):
        with pytest.raises(
            BackendError,
            match=r"unknown backend 'vulkan'; choose one of: auto, tensorrt, rtx, cuda, .*, cpu",
        ):
            opened(bundle, "audio", backend="vulkan")


def test_one_variant_needs_no_timing(tmp_path: Path, cache: Path) -> None:
    alone = write_bundle(tmp_path / "alone", {"fp32": engine_bytes()})
    choice = choice_of(open_engine(alone, "audio"))
    assert (choice.variant, choice.source) == ("fp32", "only")
    assert not cache.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 99}', '{"format_version": 1}'])
def test_a_corrupted_cache_file_is_measured_again(
    bundle: Bundle, cache: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    choice_of(open_engine(bundle, "audio"))
    (path,) = cache.rglob("*.json")
    path.write_text(content)
    with caplog.at_level(logging.INFO, "edgeemo"):
        assert choice_of(open_engine(bundle, "audio")).source == "measured"
    assert "will be made again" in caplog.text
    assert choice_of(open_engine(bundle, "audio")).source == "cached"


@pytest.mark.parametrize(
    "value", [{}, {"medians_ms": {"fp32": 1.0}}, {"medians_ms": {"fp32": -1.0, "int8": "fast"}}]
)
def test_a_cache_file_with_other_content_is_measured_again(
    bundle: Bundle, cache: Path, value: object
) -> None:
    choice_of(open_engine(bundle, "audio"))
    (path,) = cache.rglob("*.json")
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "value": value}))
    assert choice_of(open_engine(bundle, "audio")).source == "measured"


def test_another_cpu_or_other_files_are_measured_anew(
    bundle: Bundle, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice_of(open_engine(bundle, "audio"))
    changed = write_bundle(
        tmp_path / "changed", {"fp32": engine_bytes(rounds=12), "int8": engine_bytes(sign=-2)}
    )
    assert choice_of(open_engine(changed, "audio")).source == "measured"
    monkeypatch.setattr("edgeemo.runtimes.open.cpu_model", lambda: "another processor")
    assert choice_of(open_engine(bundle, "audio")).source == "measured"
    assert len(list(cache.rglob("*.json"))) == 3


def test_a_folder_that_cannot_be_written_costs_only_the_memory(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEEMO_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, "edgeemo"):
        for _ in range(2):
            assert choice_of(open_engine(bundle, "audio")).source == "measured"
    assert "cannot be kept" in caplog.text


def test_a_variant_that_cannot_be_opened_is_left_out_and_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = write_bundle(tmp_path / "half", {"fp32": engine_bytes(), "int8": engine_bytes(domain="of.nobody")})
    with caplog.at_level(logging.INFO, "edgeemo"):
        choice = choice_of(open_engine(half, "audio"))
    assert (choice.variant, choice.source) == ("fp32", "only")
    assert choice.skipped[0][0] == "int8"
    assert "int8 skipped: " in str(choice)
    assert "variant int8 cannot be opened" in caplog.text
    with pytest.raises(BackendError, match=r"engine audio \(int8\)"):
        open_engine(half, "audio", variant="int8")


def test_no_variant_at_all_is_an_error_that_names_each(tmp_path: Path) -> None:
    broken = engine_bytes(domain="of.nobody")
    none = write_bundle(tmp_path / "none", {"fp32": broken, "int8": broken + b""})
    with pytest.raises(BackendError, match=r"no variant can be opened here: fp32: .*; int8: "):
        open_engine(none, "audio")


def test_losers_are_closed() -> None:
    opened: list[OrtRunner] = []

    def open_variant(name: str) -> Runner:
        opened.append(OrtRunner(engine_bytes(rounds=12 if name == "fp32" else 0), variant=name))
        return opened[-1]

    winner = choose_variant("audio", ["fp32", "int8"], open_variant, key={"losers": True})
    assert [runner.closed for runner in opened] == [True, False]
    assert winner is opened[1]


def test_two_at_once_agree_and_nobody_ever_sees_half_a_file(cache: Path) -> None:
    key = {"two": "at once"}
    values = [{"medians_ms": {"fp32": float(number), "int8": 1.0}} for number in range(1, 200)]
    assert write_fact("variants", key, values[0])
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write_fact, "variants", key, value) for value in values]
        reads = [pool.submit(read_fact, "variants", key) for _ in range(400)]
    assert all(write.result() for write in writes)
    assert all(read.result() in values for read in reads)
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".json"]


def test_a_file_that_belongs_to_another_key_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    assert write_fact("variants", {"cpu": "one"}, {"medians_ms": {}})
    fact_path("variants", {"cpu": "one"}).rename(fact_path("variants", {"cpu": "other"}))
    with caplog.at_level(logging.INFO, "edgeemo"):
        assert read_fact("variants", {"cpu": "other"}) is None
    assert "belongs to something else" in caplog.text


def test_ties_go_to_the_more_exact_variant() -> None:
    assert fastest({"int8": 1.00, "fp32": 1.04}) == "fp32"
    assert fastest({"int8": 1.00, "fp32": 1.06}) == "int8"
    assert fastest({"fp32": 1.00, "int8": 1.04, "fp16": 1.02}) == "fp32"
    assert fastest({"of tomorrow": 1.0}) == "of tomorrow"


def test_timing_uses_a_full_window() -> None:
    with OrtRunner(engine_bytes()) as runner:
        given = typical_feed(runner.inputs)
        assert given["mask.audio"].min() == 1
        assert given["features.audio"].std() == pytest.approx(1, abs=0.3)
        assert set(time_interleaved({"a": runner, "b": runner}, rounds=3)) == {"a", "b"}


def test_the_cache_lies_where_the_system_keeps_such_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache_folder() == Path(os.environ["EDGEEMO_CACHE"])
    monkeypatch.delenv("EDGEEMO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "xdg" / "edgeemo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "edgeemo"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "edgeemo"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "edgeemo"


def test_the_cpu_is_named_with_its_instruction_set() -> None:
    x86 = "processor\t: 0\nmodel name\t: Some CPU\nstepping\t: 1\nflags\t: avx2 {}\n\nprocessor\t: 1\n"
    with_vnni, without = describe_cpu(x86.format("vnni")), describe_cpu(x86.format(""))
    assert with_vnni.startswith("Some CPU, stepping 1, flags ")
    assert with_vnni != without
    arm = "processor : 0\nFeatures : fp asimd\nCPU implementer : 0x41\nCPU part : 0xd42\n"
    assert describe_cpu(arm).startswith("CPU implementer 0x41, CPU part 0xd42, flags ")
    assert describe_cpu("") == ""
    assert cpu_model()


def test_int8_is_exact_only_where_the_cpu_would_overflow() -> None:
    assert int8_saturates("x86_64", "flags : sse2 avx2 fma\n")
    assert int8_saturates("AMD64", "")  # Windows: not known, so taken for the worse
    assert not int8_saturates("x86_64", "flags : sse2 avx2 avx512_vnni\n")
    assert not int8_saturates("x86_64", "flags : sse2 avx2 avx_vnni\n")
    assert not int8_saturates("aarch64", "Features : fp asimd\n")
