"""`edgeemo build` and `edgeemo cache` with real builds, ended in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeemo.cli.main import main
from edgeemo.runtimes.plans.store import PlanCache

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")

LAPTOPS = ("--backend", "rtx", "--sm", "86", "8.9", "sm_120")


@pytest.fixture
def own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEEMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgeemo", "build", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_plans_are_built_listed_found_and_cleared(
    tiny_export: Path, own_cache_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["build", str(tiny_export), *LAPTOPS, "--subset", "audio", "--json"]
    assert main(words) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["engine"], line["variant"]) for line in lines] == [
        ("stem.audio", "int8-trt"),
        ("stem.audio", "fp16"),
        ("audio", "int8-trt"),
        ("audio", "fp16"),
    ]
    assert all(line["seconds"] > 0 and line["capabilities"] == ["8.6", "8.9", "12.0"] for line in lines)
    assert all(Path(line["path"]).parent == own_cache_folder / "plans" for line in lines)

    assert main(words) == 0
    again = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["seconds"] for line in again] == [None] * 4

    assert main(["cache", "list", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert {plan["engine"] for plan in listed["plans"]} == {"stem.audio", "audio"}
    assert listed["bytes"] == sum(path.stat().st_size for path in (own_cache_folder / "plans").glob("*.plan"))
    assert main(["cache", "list"]) == 0
    said = capfd.readouterr().out
    assert "audio              fp16     rtx" in said
    assert "for sm_86, sm_89, sm_120" in said
    assert main(["cache", "clear", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["plans"] == 4
    assert PlanCache().entries() == ()


def test_a_folder_for_another_machine(
    tiny_export: Path, own_cache_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plans for the laptop"
    words = ["build", str(tiny_export), *LAPTOPS, "--subset", "video", "--variant", "fp16", "--out", str(out)]
    assert main(words) == 0
    said = capfd.readouterr().out
    assert f"2 plans for sm_86, sm_89, sm_120 in {out}" in said
    assert f"export EDGEEMO_PLANS={out}" in said
    assert len(list(out.glob("*.plan"))) == 2
    assert not own_cache_folder.exists()
    key = PlanCache(out, brought=()).entries()[0].key
    assert PlanCache(own_cache_folder, brought=(out,)).find(key)[0] is not None


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_ctrl_c_ends_it_and_keeps_what_is_finished(tiny_export: Path, own_cache_folder: Path) -> None:
    with start(str(tiny_export), *LAPTOPS) as process:
        assert process.stdout is not None
        assert "built in" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "cancelled; plans that were finished stay" in said
    assert "Traceback" not in said
    cache = PlanCache(own_cache_folder / "plans", brought=())
    kept = len(cache.entries())
    assert 1 <= kept < 20
    assert kept == rest.count("built in") + 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_kill_in_the_middle_of_a_build_breaks_nothing(tiny_export: Path, own_cache_folder: Path) -> None:
    words = (str(tiny_export), *LAPTOPS, "--subset", "audio")
    with start(*words) as process:
        assert process.stdout is not None
        assert "built in" in process.stdout.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    cache = PlanCache(own_cache_folder / "plans", brought=())
    for entry in cache.entries():
        assert cache.find(entry.key)[0] is not None
    done = subprocess.run(
        [sys.executable, "-m", "edgeemo", "build", *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("was there") + done.stdout.count("built in") == 4
    assert done.stdout.count("was there") >= 1
    assert not list((own_cache_folder / "plans").glob("*.tmp"))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--sm", "87"], 1, "builds no plans for SM87"),
        (["--sm", "86", "--variant", "int8"], 1, "does not run the variant int8; export"),
        (["--sm", "86", "--variant", "fp8"], 1, "has no variant fp8 in this bundle"),
        (["--sm", "86", "--subset", "smell"], 2, "smell"),
        (["--sm", "86", "--level", "9"], 1, "level must be between 0 and 5"),
    ],
)
def test_refusals(
    tiny_export: Path, words: list[str], code: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(tiny_export), "--backend", "rtx", *words]) == code
    assert says in capfd.readouterr().err


def test_what_is_no_capability(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--backend", "rtx", "--sm", "ada"])
    assert "'ada' is no compute capability" in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_is_an_error(
    tiny_export: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    words = ["build", str(tiny_export), *LAPTOPS, "--subset", "audio", "--out", str(tmp_path / "file")]
    assert main(words) == 1
    assert f"plans cannot be kept in {tmp_path / 'file'}" in capfd.readouterr().err


def test_without_a_gpu_it_says_how_to_build_for_others(
    tiny_export: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("needs a machine without a GPU; with one: needs a GPU of its own tests")
    assert main(["build", str(tiny_export), "--backend", "rtx"]) == 1
    assert "name them, such as --sm 86 89 120" in capfd.readouterr().err
