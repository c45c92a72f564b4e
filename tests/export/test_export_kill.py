"""The exporter is killed a few dozen times at random moments; the bundle is the old one or the new one."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from plain_bundle import write_bundle

from edgeemo.bundle import Bundle, BundleWriter, bytes_from_tensors
from edgeemo.export import Checkpoint, export_bundle
from edgeemo.export.graph import bind_weights, bytes_from_model, fold_graph
from edgeemo.modality import subset_members
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
SEED = 20260

# Opens two checkpoints once; then, for each line it reads, forks a worker that exports them in turn for
# ever, and prints the worker's id. The worker is what gets killed, so that no kill pays for imports.
SERVER = """
import os, sys, filelock, onnxruntime
from edgeemo.export import Checkpoint, export_bundle
checkpoints = [Checkpoint.open(path) for path in sys.argv[1:3]]
for line in sys.stdin:
    worker = os.fork()
    if worker == 0:
        turn = int(line)
        while True:
            subsets = sys.argv[4].split(",") if sys.argv[4] else None
            export_bundle(checkpoints[turn % 2], sys.argv[3], subsets=subsets)
            turn += 1
    print(worker, flush=True)
    os.waitpid(worker, 0)
    print("dead", flush=True)
"""

# The same with workers that commit another bundle again and again: every kill lands in a commit.
COMMITTER = """
import os, sys, filelock
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from plain_bundle import write_bundle
for line in sys.stdin:
    worker = os.fork()
    if worker == 0:
        state = 1000 * int(line)
        while True:
            write_bundle(Path(sys.argv[2]), f"state {state}")
            state += 1
    print(worker, flush=True)
    os.waitpid(worker, 0)
    print("dead", flush=True)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkpoints with no engine and no manifest in common: the other's adapters count half."""
    other = Path(shutil.copytree(TINY, tmp_path_factory.mktemp("checkpoints") / "other"))
    for place in (other / "checkpoint.json", *other.glob("adapters/*/adapter_config.json")):
        data = json.loads(place.read_text())
        if "model_id" in data:
            data["model_id"] = "other"
        else:
            data["lora_alpha"] /= 2
            data["alpha_pattern"] = {key: value / 2 for key, value in data["alpha_pattern"].items()}
        place.write_text(json.dumps(data))
    _answer_anew(other)
    return TINY, other


def _answer_anew(folder: Path) -> None:
    """Writes the reference answers of a checkpoint whose adapters were changed."""
    checkpoint = Checkpoint.open(folder)
    reference = dict(checkpoint.reference)
    for subset, graph in checkpoint.engine_graphs.items():
        members = subset_members(subset)
        feed = {
            f"{kind}.{m}": reference[f"{kind}.{m}"].astype(np.float32)
            for m in members
            for kind in ("features", "mask")
        }
        merged = fold_graph(bind_weights(graph, checkpoint.merged_weights(subset)))
        with OrtRunner(bytes_from_model(merged)) as runner:
            answers = runner.run(feed)
        reference[f"logits.{subset}"] = answers["logits"]
        reference |= {f"evidence.{subset}.{m}": answers[f"evidence.{m}"] for m in members}
    (folder / "reference.safetensors").write_bytes(bytes_from_tensors(reference))


@contextmanager
def workers(program: str, *arguments: object) -> Iterator[Callable[[float, int], None]]:
    """Yields a function that lets a worker of a program run for some seconds and kills it."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout

        def run_and_kill(seconds: float, turn: int) -> None:
            assert server.stdin
            assert server.stdout
            server.stdin.write(f"{turn}\n")
            server.stdin.flush()
            worker = int(server.stdout.readline())
            time.sleep(seconds)
            os.kill(worker, signal.SIGKILL)
            assert server.stdout.readline() == "dead\n"

        yield run_and_kill
        server.stdin.close()
        assert server.wait(timeout=30) == 0


def kill_many(
    checkpoints: tuple[Path, Path], out: Path, *, subsets: str, kills: int, states: int
) -> set[str]:
    """Returns which models the bundle was of after the kills, each of them verified whole.

    Kills come at any moment of the first few exports of a worker: the time that one takes is measured.
    There are at least ``kills``, and more until the bundle was of ``states`` models.
    """
    names = subsets.split(",") if subsets else None
    opened = Checkpoint.open(checkpoints[0])
    export_bundle(opened, out, subsets=names)
    one_export_s = export_bundle(opened, out, subsets=names).seconds
    chance = random.Random(SEED)
    seen: set[str] = set()
    with workers(SERVER, *checkpoints, out, subsets) as run_and_kill:
        for turn in range(3 * kills):
            if turn >= kills and len(seen) >= states:
                break
            # Ever longer, so that a machine that became slow meanwhile gets something done too.
            run_and_kill(chance.uniform(0.0, 2.0 + turn / kills) * one_export_s, turn)
            bundle = Bundle.open(out)
            bundle.verify()
            for subset in bundle.manifest.engines:
                for variant in bundle.variants(subset):
                    bundle.read_engine(subset, variant)
            bundle.reference()
            seen.add(bundle.manifest.model_id)
    return seen


def test_killed_a_few_dozen_times(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    """A small export is over quickly, so every phase of it gets its kills."""
    out = tmp_path / "bundle"
    seen = kill_many(checkpoints, out, subsets="text", kills=40, states=2)
    assert seen == {"tiny", "other"}
    # What the killed left behind hinders nobody and goes with the next commits.
    for checkpoint in (*checkpoints, checkpoints[0]):
        export_bundle(checkpoint, out, subsets=["text"])
    Bundle.open(out).verify()
    assert not list(out.rglob("*.tmp"))


def test_killed_inside_commits(tmp_path: Path) -> None:
    """Graphs, weights, reference, both manifests and the collection of old files: all of a commit."""
    out = tmp_path / "bundle"
    begun = time.perf_counter()
    write_bundle(out, "state 0")
    one_commit_s = time.perf_counter() - begun
    chance = random.Random(SEED)
    seen: set[str] = set()
    with workers(COMMITTER, Path(__file__).parents[1], out) as run_and_kill:
        for turn in range(1, 80):
            run_and_kill(chance.uniform(0.0, 2.0 + turn / 40) * one_commit_s, turn)
            bundle = Bundle.open(out)
            bundle.verify()
            state = bundle.manifest.model_id
            assert bundle.read_engine("audio", "fp32").model == f"{state} audio fp32".encode() * 50
            (shared,) = bundle.read_engine("audio", "int8").weights.values()
            assert bytes(shared) == f"{state} shared".encode() * 20
            seen.add(state)
    assert len(seen) > 3


def test_killed_in_a_whole_export(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    kill_many(checkpoints, out, subsets="", kills=3, states=1)
    export_bundle(checkpoints[1], out)
    assert Bundle.open(out).manifest.model_id == "other"


def test_a_killed_writer_does_not_keep_the_lock(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with workers(SERVER, *checkpoints, out, "text") as run_and_kill:
        run_and_kill(0.05, 0)
    with BundleWriter(out) as writer:
        assert "locked" in repr(writer)
