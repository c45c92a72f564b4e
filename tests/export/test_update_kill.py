"""An updater is killed a few dozen times: the bundle is the one before or the one after, and goes on."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from new_adapters import TINY, new_adapter
from test_export_kill import workers

from edgeemo.bundle import Bundle
from edgeemo.export import export_bundle
from edgeemo.export.update.bundle import update_bundle

SEED = 20261

# For each line that it reads, forks a worker that merges two adapters in turn for ever, every other time
# with a rollback in between; the worker is what gets killed.
UPDATER = """
import os, sys, filelock, onnxruntime, onnxscript
from edgeemo.bundle import BundleWriter
from edgeemo.export.update.bundle import update_bundle
bundle, base, *adapters = sys.argv[1:]
for line in sys.stdin:
    worker = os.fork()
    if worker == 0:
        turn = int(line)
        while True:
            update_bundle(bundle, base, {"text": adapters[turn % 2]})
            if turn % 4 > 1:
                with BundleWriter(bundle) as writer:
                    writer.rollback()
            turn += 1
    print(worker, flush=True)
    os.waitpid(worker, 0)
    print("dead", flush=True)
"""

# The same for the copy of a bundle that may not be changed, into one data folder after the other: every
# kill lands in the copying.
COPIER = """
import itertools, os, sys, filelock
from pathlib import Path
import edgeemo.bundle.place as place
bundle = Path(sys.argv[1])
place.PACKAGE = bundle
for line in sys.stdin:
    worker = os.fork()
    if worker == 0:
        for number in itertools.count():
            os.environ["EDGEEMO_DATA"] = f"{sys.argv[2]}/{line.strip()}-{number}"
            place.changeable(bundle)
    print(worker, flush=True)
    os.waitpid(worker, 0)
    print("dead", flush=True)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def test_killed_a_few_dozen_times(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export_bundle(TINY, bundle, subsets=["text", "audio"], variants=["fp32", "int8"])
    adapters = [new_adapter(tmp_path / str(seed), "text", seed=seed) for seed in (1, 2)]
    original = Bundle.open(bundle)
    states = {original.manifest.engines["text"]["fp32"]: "exported"}
    for number, folder in enumerate(adapters):
        aside = Path(shutil.copytree(bundle, tmp_path / f"aside{number}"))
        begun = time.perf_counter()
        update_bundle(aside, TINY, {"text": folder})
        one_update_s = time.perf_counter() - begun
        states[Bundle.open(aside).manifest.engines["text"]["fp32"]] = f"adapter {number}"
    assert len(states) == 3
    chance = random.Random(SEED)
    seen: set[str] = set()
    with workers(UPDATER, bundle, TINY, *adapters) as run_and_kill:
        for turn in range(60):
            if turn >= 25 and len(seen) > 1:
                break
            run_and_kill(chance.uniform(0.0, 2.0 + turn / 10) * one_update_s, turn)
            now = Bundle.open(bundle)
            now.verify()
            assert now.manifest.engines["audio"] == original.manifest.engines["audio"]
            assert now.manifest.stems == original.manifest.stems
            seen.add(states[now.manifest.engines["text"]["fp32"]])
    assert len(seen) > 1
    # Whatever was left behind hinders nobody, and goes with the next updates.
    for folder in (*adapters, adapters[0]):
        update_bundle(bundle, TINY, {"text": folder})
    assert states[Bundle.open(bundle).manifest.engines["text"]["fp32"]] == "adapter 0"
    assert not list(bundle.rglob("*.tmp"))
    assert len(list(bundle.glob("graphs/text.*"))) == 4


def test_killed_while_a_bundle_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, data = tmp_path / "bundle", tmp_path / "data"
    export_bundle(TINY, bundle, subsets=["text"], variants=["int8"])
    chance = random.Random(SEED)
    with workers(COPIER, bundle, data) as run_and_kill:
        for turn in range(30):
            run_and_kill(chance.uniform(0.0, 0.1), turn)
    places = [place for place in data.glob("*/bundles/*") if any(place.iterdir())]
    whole = [place for place in places if (place / "manifest.json").exists()]
    assert whole
    for place in whole:
        Bundle.open(place).verify()
    # Where the copying was cut off, the next update goes on with it.
    monkeypatch.setattr("edgeemo.bundle.place.PACKAGE", bundle)
    adapter = new_adapter(tmp_path / "new", "text")
    for place in [*[place for place in places if place not in whole][:2], whole[0]]:
        monkeypatch.setenv("EDGEEMO_DATA", str(place.parents[1]))
        assert update_bundle(bundle, TINY, {"text": adapter}).bundle == place
        Bundle.open(place).verify()
        assert not list(place.rglob("*.tmp"))
