"""The settings of one training run, read from TOML; an unknown key is an error that lists the valid ones.

```toml
method = "mculora"          # of METHODS below; the file of a baseline says which trunk it has: family = ...

[trunk]                     # options of the trunk's family, checked against what it takes
width = 64

[schedule]
epochs = 30
```
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgeemo.errors import TrainingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FAMILIES = ("mculora", "crosstemporal", "redifu")
BASELINES = ("modality_dropout", "separate", "late_fusion", "zeros")
METHODS = (*FAMILIES, *BASELINES)
"""A family's own name is its trunk with adapters; the baselines are (a) to (d)."""

Section = TypeVar("Section", bound="Schedule | Regularisation | Adaptation | MethodConfig")


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train; the same for every method of a comparison.

    Attributes:
        epochs: evaluations on dev, at most.
        steps: batches an epoch.
        batch: videos a batch.
        learning_rate: peak of a warm-up and cosine schedule.
        weight_decay: of AdamW, on matrices.
        ema_decay: of the running average of the weights that is evaluated; 0 evaluates the weights.
        patience: epochs without a better figure after which selection ends; 0 never ends early.
        smoothing: epochs of the running mean of accuracy that selects.
    """

    epochs: int = 30
    steps: int = 10
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.98
    patience: int = 12
    smoothing: int = 5


@dataclass(frozen=True)
class Regularisation:
    """What keeps a network from believing train rows, which look far too easy.

    Attributes:
        feature_noise: deviation of Gaussian noise on standardised features.
        feature_dropout: probability that a feature dimension is zero for a whole video.
        label_smoothing: share of the target spread evenly over the classes.
        score_slope: targets are ``sigmoid(slope * score)`` where above 0; 0 takes the hard labels.
    """

    feature_noise: float = 1.0
    feature_dropout: float = 0.5
    label_smoothing: float = 0.1
    score_slope: float = 0.0


@dataclass(frozen=True)
class Adaptation:
    """How adapters and the draw of subsets are trained.

    Attributes:
        orthogonality: weight of the loss that separates common from specific pairs.
        dynamic_ratios: whether the probabilities of the subsets follow DPFT; else they stay equal.
        auxiliary: weight of the extra losses that a trunk has of its own.
    """

    orthogonality: float = 0.05
    dynamic_ratios: bool = True
    auxiliary: float = 1.0


@dataclass(frozen=True)
class MethodConfig:
    """One method with all its settings.

    Attributes:
        method: of `METHODS`.
        family: the trunk; a method that is named after a family has that one.
        trunk: options of the trunk, as `edgeemo.training.trunks.build_trunk` takes them.
        schedule: length and optimiser.
        regularisation: noise and smoothing.
        adaptation: for methods with adapters.
    """

    method: str = "mculora"
    family: str = ""
    trunk: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    regularisation: Regularisation = field(default_factory=Regularisation)
    adaptation: Adaptation = field(default_factory=Adaptation)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise TrainingError(f"there is no method {self.method!r}; choose one of {', '.join(METHODS)}")
        own = self.method if self.method in FAMILIES else ""
        family = self.family or own or FAMILIES[0]
        if family not in FAMILIES or (own and family != own):
            raise TrainingError(
                f"family {family!r} does not fit method {self.method!r}; "
                + (f"it is {own!r}" if own else f"choose one of {', '.join(FAMILIES)}")
            )
        object.__setattr__(self, "family", family)
        _check_ranges(self)

    @property
    def adapted(self) -> bool:
        """Whether the trunk carries low-rank adapters."""
        return self.method in FAMILIES

    def identity(self, *, adapted: bool) -> dict[str, Any]:
        """Returns what a run depends on: not the method's name, and adaptation only with adapters."""
        settings = self.to_json()
        del settings["method"]
        if not adapted:
            settings["adaptation"] = {"auxiliary": self.adaptation.auxiliary}
        return settings

    def to_json(self) -> dict[str, Any]:
        """Returns every setting as plain data, defaults included."""
        return {**asdict(self), "trunk": dict(self.trunk)}


def read_config(path: Path) -> MethodConfig:
    """Reads a TOML file; what it does not name keeps its default.

    Raises:
        TrainingError: the file cannot be read or parsed, holds an unknown key, or a value of another
            type or outside its range; the message says which and what is valid.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as reason:
        raise TrainingError(f"{path} cannot be read as TOML ({reason})") from reason
    return config_from_table(table, str(path))


def config_from_table(table: Mapping[str, Any], where: str = "the configuration") -> MethodConfig:
    """Returns the settings that nested plain data describes; raises as `read_config`."""
    return _from_table(MethodConfig, table, where, "")


def _from_table(kind: type[Section], table: Mapping[str, Any], where: str, section: str) -> Section:
    known = {entry.name: entry for entry in fields(kind)}
    unknown = sorted(set(table) - set(known))
    if unknown:
        place = f"[{section}]" if section else "the top level"
        raise TrainingError(
            f"{where}: unknown key {', '.join(map(repr, unknown))} at {place}; "
            f"valid keys are {', '.join(known)}"
        )
    default = kind()
    given: dict[str, Any] = {}
    for name, value in table.items():
        now = getattr(default, name)
        if is_dataclass(now) and not isinstance(now, type):
            if not isinstance(value, Mapping):
                raise TrainingError(f"{where}: {name} is {value!r}; expected a table, [{name}]")
            given[name] = _from_table(type(now), value, where, name)  # type: ignore[type-var]  # a section
        else:
            given[name] = _typed(value, now, f"{where}: {section + '.' if section else ''}{name}")
    try:
        return kind(**given)
    except TrainingError as reason:
        raise TrainingError(f"{where}: {reason}") from None


def _typed(value: Any, default: Any, name: str) -> Any:
    """Returns ``value`` as the type of the default: whole numbers serve as fractions, nothing else."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = Mapping if isinstance(default, Mapping) else type(default)
    if not isinstance(value, expected) or isinstance(value, bool) != isinstance(default, bool):
        raise TrainingError(f"{name} is {value!r}; expected {expected.__name__}, such as {default!r}")
    return value


def _check_ranges(config: MethodConfig) -> None:
    schedule, regular, adaptation = config.schedule, config.regularisation, config.adaptation
    for name in ("epochs", "steps", "batch", "smoothing"):
        if getattr(schedule, name) < 1:
            raise TrainingError(f"schedule.{name} is {getattr(schedule, name)}; expected at least 1")
    if not schedule.learning_rate > 0:
        raise TrainingError(f"schedule.learning_rate is {schedule.learning_rate:g}; expected above 0")
    if not 0 <= schedule.ema_decay < 1:
        raise TrainingError(f"schedule.ema_decay is {schedule.ema_decay:g}; expected 0 to below 1")
    for name in ("feature_dropout", "label_smoothing"):
        if not 0 <= getattr(regular, name) < 1:
            raise TrainingError(f"regularisation.{name} is {getattr(regular, name):g}; expected 0 to below 1")
    lower = {
        "schedule.patience": schedule.patience,
        "schedule.weight_decay": schedule.weight_decay,
        "regularisation.feature_noise": regular.feature_noise,
        "regularisation.score_slope": regular.score_slope,
        "adaptation.orthogonality": adaptation.orthogonality,
        "adaptation.auxiliary": adaptation.auxiliary,
    }
    for name, value in lower.items():
        if value < 0:
            raise TrainingError(f"{name} is {value:g}; expected 0 or more")
