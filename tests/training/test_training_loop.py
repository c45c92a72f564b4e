"""The training loop: it learns, selects, and a killed run ends as an unbroken one does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from edgeemo.errors import TrainingError  # noqa: E402
from edgeemo.training.loop import FitResult, LoopConfig, fit  # noqa: E402

CONFIG = LoopConfig(epochs=4, steps_per_epoch=5, learning_rate=0.05, select="score", ema_decay=0.5, seed=3)


def run(out: Path, config: LoopConfig = CONFIG, stop_after: int | None = None) -> tuple[Any, FitResult]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout(0.1))
    target = torch.tensor([[1.0], [-2.0], [0.5]])

    def batches(epoch: int, rng: np.random.Generator) -> Iterator[Any]:
        for _ in range(config.steps_per_epoch):
            yield torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))

    def loss(net: Any, x: Any) -> Any:
        return (net(x) - x @ target).square().mean()

    def evaluate(net: Any) -> dict[str, float]:
        return {"score": -float((net(torch.eye(3)) - target).square().mean())}

    def progress(done: int, total: int, metrics: dict[str, float]) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    result = fit(model, config, batches=batches, loss=loss, evaluate=evaluate, out=out, progress=progress)
    return model, result


def test_it_learns_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    _, result = run(tmp_path)
    scores = [row["score"] for row in result.history]
    assert scores[-1] > scores[0]
    assert result.metrics["score"] == max(scores)
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == CONFIG.epochs + 1


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole, expected = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", stop_after=2)
    resumed, result = run(tmp_path / "broken")
    assert result == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


def test_other_settings_do_not_resume(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(TrainingError, match="learning_rate"):
        run(tmp_path, replace(CONFIG, learning_rate=0.01))


def test_an_unmeasured_metric_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"'accuracy' is not measured; there are \['score'\]"):
        run(tmp_path, replace(CONFIG, select="accuracy"))


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "a lost header", "another pickle", "a tensor"])
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    place = tmp_path / "state.pt"
    data = place.read_bytes()
    damaged = {
        "empty": b"",
        "half": data[: len(data) // 2],
        "noise": bytes(range(256)) * 8,
        "a lost header": data.replace(b"PK\x03\x04", b"PK\x03\x05", 1),
    }
    if damage in damaged:
        place.write_bytes(damaged[damage])
    else:
        torch.save({"model": {}} if damage == "another pickle" else torch.zeros(3), place)
    with pytest.raises(TrainingError, match=r"state\.pt is .*delete it to start the run again"):
        run(tmp_path)
    place.unlink()
    assert len(run(tmp_path)[1].history) == CONFIG.epochs


def test_the_state_of_another_network_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["model"]["0.weight"] = torch.zeros(1, 4)
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match=r"state\.pt is the state of another network"):
        run(tmp_path)
