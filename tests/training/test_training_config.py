"""Settings from TOML: what is not named keeps its default, what is not known is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeemo.errors import TrainingError
from edgeemo.training.config import METHODS, MethodConfig, Schedule, read_config

CONFIGS = Path(__file__).resolve().parents[2] / "samples" / "configs"


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_not_named_keeps_its_default(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, 'method = "redifu"\n[schedule]\nepochs = 3\nlearning_rate = 1\n'))
    assert (config.method, config.family, config.adapted) == ("redifu", "redifu", True)
    assert config.schedule == Schedule(epochs=3, learning_rate=1.0)
    assert isinstance(config.schedule.learning_rate, float)
    assert read_config(written(tmp_path, "")) == MethodConfig()


def test_a_baseline_takes_any_family(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, 'method = "zeros"\nfamily = "redifu"\n[trunk]\nwidth = 8\n'))
    assert (config.family, config.adapted, config.trunk) == ("redifu", False, {"width": 8})
    assert read_config(written(tmp_path, 'method = "zeros"')).family == "mculora"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metod = 1", "unknown key 'metod' at the top level; valid keys are method, family, trunk"),
        ("[schedule]\nepoch = 1", r"'epoch' at \[schedule\]; valid keys are epochs, steps, batch"),
        ('method = "svm"', "no method 'svm'; choose one of mculora, crosstemporal, redifu"),
        ('method = "redifu"\nfamily = "mculora"', "family 'mculora' does not fit method 'redifu'"),
        ('method = "zeros"\nfamily = "lstm"', "choose one of mculora, crosstemporal, redifu"),
        ('[schedule]\nepochs = "many"', "schedule.epochs is 'many'; expected int, such as 30"),
        ("[schedule]\nepochs = true", "schedule.epochs is True; expected int"),
        ("[schedule]\nepochs = 0", "schedule.epochs is 0; expected at least 1"),
        ("[schedule]\nepochs = 1.5", "schedule.epochs is 1.5; expected int"),
        ("[schedule]\nlearning_rate = 0", "schedule.learning_rate is 0; expected above 0"),
        ("[schedule]\nema_decay = 1", "expected 0 to below 1"),
        ("[regularisation]\nfeature_dropout = 1.0", "regularisation.feature_dropout is 1"),
        ("[adaptation]\northogonality = -1", "adaptation.orthogonality is -1; expected 0 or more"),
        ("schedule = 3", r"schedule is 3; expected a table, \[schedule\]"),
        ("= 3", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TrainingError, match=message) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=re.escape("run.toml cannot be read")):
        read_config(tmp_path / "run.toml")


def test_every_method_has_a_committed_file_and_the_same_budget() -> None:
    configs = {method: read_config(CONFIGS / f"{method}.toml") for method in METHODS}
    assert {config.method for config in configs.values()} == set(METHODS)
    assert len({config.schedule for config in configs.values()}) == 1
    assert len({config.regularisation for config in configs.values()}) == 1
