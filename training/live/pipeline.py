"""Trains the whole live model: stems, features, trunk and adapters, temperatures, checkpoint.

Every step leaves its result in a folder of its own under ``out`` and is skipped where that is there
already, so a run that was killed goes on where it stopped:

- ``voice/ face/ text/``: stems; finished ones that lie there are taken as they are
- ``features/``: feature banks, keyed to the stems' weights
- ``trunk.<family>.<key>/``: state of a trunk's training, keyed to everything it depends on
- ``checkpoint/``: the result, with MODEL_CARD.md
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeemo.datasets.labels import LABELS
from edgeemo.errors import TrainingError
from edgeemo.features.text import tokenize
from edgeemo.training.checkpoints.save import CheckpointInfo, ModalityPart, Windows, save_checkpoint
from edgeemo.training.live.calibration import calibrate
from edgeemo.training.live.features import (
    FeatureBank,
    cached_bank,
    face_bank,
    file_sha256,
    ids_from_words,
    text_bank,
    voice_bank,
)
from edgeemo.training.live.fit_face import fit_face, load_face_stem
from edgeemo.training.live.fit_text import fit_text, load_text_stem
from edgeemo.training.live.fit_trunk import TrunkConfig, fit_trunk
from edgeemo.training.live.fit_voice import (
    VoiceData,
    fit_voice,
    load_voice_spec,
    load_voice_stem,
    read_voices,
)
from edgeemo.training.live.measure import Check, measure_trunk, validation_checks
from edgeemo.training.live.model_card import DATA, LICENCE, model_card
from edgeemo.training.live.parts import face_part, text_part, voice_part
from edgeemo.training.live.triples import CORPUS_SHARES, FacePool, Pool, draw_batch, subset_priors
from edgeemo.training.loop import Metrics
from edgeemo.training.lowrank import AdaptedTrunk
from edgeemo.training.trunks import FAMILIES

log = logging.getLogger(__name__)

HOP_S = 0.5
REFERENCE_WINDOWS = 256
# A temperature below 1 makes the evidence of a face count for more than in training, and its prior for less:
# of the powers 0.8 to 1.7 of the prior of FER+, 1.3 has 85.8 % accuracy and 71.6 % UAR on val (1: 85.1, 75.3)
PRIOR_POWERS = {"video": 1.3}

Report = Callable[[str, int, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class LiveConfig:
    """Sizes of a run; the defaults make the model that ships.

    Attributes:
        epochs: of each stem, by modality; a stem without an entry takes its own default.
        variants: versions of each sample that the stems have seen and have not seen, by modality.
        keep: share of the samples that the stems have seen which the trunk also trains on.
        unseen_share: how often the trunk draws a face or text that its stem has not seen.
        triples: label-matched windows to measure each larger subset on.
        families: trunks to train; the one with the best mean over the subsets on validation data is kept.
        trunk: of the trunk.
        seed: of everything.
    """

    epochs: Mapping[str, int] = field(default_factory=dict)
    variants: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {"audio": (8, 0), "video": (3, 12), "text": (1, 4)}
    )
    keep: float = 1.0
    unseen_share: float = 0.5
    triples: int = 2000
    families: tuple[str, ...] = FAMILIES
    trunk: TrunkConfig = field(default_factory=TrunkConfig)
    seed: int = 0


@dataclass(frozen=True)
class Stems:
    """The three trained stems, what their trainings measured, and keys of their weights."""

    modules: dict[str, Any]
    metrics: dict[str, Metrics]
    keys: dict[str, str]
    voices: VoiceData


def train_live(
    data: Path, out: Path, *, config: LiveConfig | None = None, report: Report | None = None
) -> Path:
    """Trains the live model, or resumes it, and returns the folder of the checkpoint.

    Args:
        data: holds the seven data sets, each in its folder.
        out: everything goes here.
        config: sizes; the ones of the model that ships by default.
        report: called with (step, done, total, figures) as each step moves on.

    Raises:
        DatasetError: a data set is missing or broken.
        TrainingError: ``out`` holds a run with other settings, or the training diverged.
    """
    config = config or LiveConfig()
    say: Report = report or (lambda step, done, total, figures: None)
    stems = _train_stems(data, out, config, say)
    train, val = _feature_banks(data, out / "features", stems, config, say)
    pools = {
        m: _pool(m, stems, [bank for bank in banks if bank is not None], config) for m, banks in train.items()
    }
    val_pools = {m: _pool(m, stems, [bank], config) for m, bank in val.items()}
    priors = subset_priors(pools)
    checks = validation_checks(val, val_pools, priors, triples=config.triples, seed=config.seed)
    trunks = _fit_trunks(pools, checks, out, stems=stems, config=config, say=say)
    chosen = max(trunks, key=lambda family: trunks[family][1]["score"])
    model = trunks[chosen][0]
    priors = subset_priors(pools, PRIOR_POWERS)  # the logits are free of any: another one may ship
    say("temperatures", 0, 1, {})
    calibration = calibrate(model, checks, priors)
    temperatures = calibration.temperatures
    figures = measure_trunk(model, checks, priors, temperatures)
    say("temperatures", 1, 1, {})
    say("checkpoint", 0, 1, {})
    plain_priors = {subset: [round(float(value), 6) for value in prior] for subset, prior in priors.items()}
    info = CheckpointInfo(
        model_id="live",
        family=chosen,
        labels=LABELS,
        hop_s=HOP_S,
        temperatures=temperatures,
        priors=plain_priors,
        trunk=config.trunk.trunk_options(chosen),
        data=DATA,
        licence=LICENCE,
        metrics={"stems": _rounded(stems.metrics), "subsets": _rounded(figures)},
    )
    card = model_card(
        labels=LABELS,
        stems=stems.metrics,
        trunks={family: metrics for family, (_, metrics) in trunks.items()},
        chosen=chosen,
        report=figures,
        priors=plain_priors,
        calibration=calibration,
        sizes=_sizes(model, stems),
    )
    save_checkpoint(
        model,
        out / "checkpoint",
        _parts(data, stems, config.seed),
        info,
        reference_windows(val_pools, priors["audio+video+text"], config.seed),
        notes={"MODEL_CARD.md": card},
    )
    say("checkpoint", 1, 1, {})
    return out / "checkpoint"


def prompt_embeddings(stem: Any, labels: Sequence[str]) -> torch.Tensor:
    """Returns (C, D): the text stem's mean feature of "a person feeling {label}" (arXiv 2603.11971)."""
    ids = torch.from_numpy(
        ids_from_words([tokenize(f"a person feeling {name}") for name in labels], stem.spec)
    )
    known = (ids[:, :, :1] != 0).float()
    with torch.no_grad():
        mean: torch.Tensor = (stem(ids) * known).sum(dim=1) / known.sum(dim=1)
    return mean


def reference_windows(pools: Mapping[str, Pool], prior: Any, seed: int) -> Windows:
    """Returns label-matched validation windows with the gaps and short fills of a live session."""
    rng = np.random.default_rng([seed, 31])
    batch = draw_batch(pools, "+".join(pools), REFERENCE_WINDOWS, rng, prior=prior)
    return Windows(batch.features, batch.masks)


def _train_stems(data: Path, out: Path, config: LiveConfig, say: Report) -> Stems:
    fits: dict[str, tuple[str, Callable[..., Metrics]]] = {
        "audio": ("voice", fit_voice),
        "video": ("face", fit_face),
        "text": ("text", fit_text),
    }
    metrics: dict[str, Metrics] = {}
    for m, (name, fit_stem) in fits.items():
        done = out / name / "metrics.json"
        if done.is_file() and (out / name / "stem.safetensors").is_file():
            metrics[m] = json.loads(done.read_text())
            log.info("took the finished %s stem in %s", name, out / name)
        else:
            epochs = {"epochs": config.epochs[m]} if m in config.epochs else {}
            metrics[m] = fit_stem(
                data,
                out / name,
                seed=config.seed,
                progress=lambda at, total, figures, name=name: say(f"{name} stem", at, total, figures),
                **epochs,
            )
        say(f"{name} stem", 1, 1, metrics[m])
    voices = read_voices(data, out / "voice" / "cache", seed=config.seed)
    spec = load_voice_spec(out / "voice")
    if spec != voices.spec:
        raise TrainingError(
            f"{out / 'voice' / 'front_end.json'} is not the front-end that these data give; "
            "the stem was trained on other data or with another version: use another --out"
        )
    return Stems(
        {
            "audio": load_voice_stem(out / "voice"),
            "video": load_face_stem(out / "face"),
            "text": load_text_stem(out / "text"),
        },
        metrics,
        {m: file_sha256(out / name / "stem.safetensors") for m, (name, _) in fits.items()},
        voices,
    )


def _feature_banks(
    data: Path, cache: Path, stems: Stems, config: LiveConfig, say: Report
) -> tuple[dict[str, list[FeatureBank | None]], dict[str, FeatureBank]]:
    """Returns modality -> banks of seen and unseen train samples, and modality -> validation bank."""
    seed = config.seed

    def tell(step: str, done: int, total: int) -> None:
        say(step, done, total, {})

    def make(m: str, split: str, variants: int, unseen: bool | None) -> FeatureBank:
        stem = stems.modules[m]
        if m == "audio":
            return voice_bank(stems.voices, stem, split, variants=variants, seed=seed, progress=tell)
        keep = config.keep if unseen is False else 1.0
        if m == "video":
            return face_bank(
                data, stem, split, variants=variants, keep=keep, unseen=unseen, seed=seed, progress=tell
            )
        return text_bank(
            data,
            stem,
            stem.spec,
            split,
            variants=variants,
            keep=keep,
            unseen=unseen,
            seed=seed,
            progress=tell,
        )

    def bank(m: str, split: str, variants: int, unseen: bool | None) -> FeatureBank:
        name = f"{m}.{split}" + ("" if unseen is None else ".unseen" if unseen else ".seen")
        key = {"stem": stems.keys[m], "variants": variants, "keep": config.keep, "seed": seed}
        return cached_bank(cache / name, key, lambda: make(m, split, variants, unseen))

    train: dict[str, list[FeatureBank | None]] = {}
    val: dict[str, FeatureBank] = {}
    for m, (seen, unseen) in config.variants.items():
        if m == "audio":
            train[m] = [bank(m, "train", seen, None)]
        else:
            train[m] = [
                bank(m, "train", seen, False) if seen else None,
                bank(m, "train", unseen, True) if unseen else None,
            ]
        val[m] = bank(m, "val", 1, None)
    return train, val


def _fit_trunks(
    pools: Mapping[str, Pool],
    checks: list[Check],
    out: Path,
    *,
    stems: Stems,
    config: LiveConfig,
    say: Report,
) -> dict[str, tuple[AdaptedTrunk, Metrics]]:
    """Returns family -> trunk with adapters and the figures of its best epoch."""
    key = _key(stems.keys, asdict(replace(config, families=())))
    prompts = prompt_embeddings(stems.modules["text"], LABELS)

    def fit_family(family: str) -> tuple[AdaptedTrunk, Metrics]:
        return fit_trunk(
            family,
            pools,
            checks,
            out / f"trunk.{family}.{key}",
            config=config.trunk,
            prompts=prompts,
            progress=lambda done, total, metrics: say(f"{family} trunk", done, total, metrics),
        )

    return {family: fit_family(family) for family in config.families}


def _pool(m: str, stems: Stems, banks: list[FeatureBank], config: LiveConfig) -> Pool:
    shares = [1 - config.unseen_share, config.unseen_share] if len(banks) == 2 else [1.0]
    part = {"audio": (40, "right", True), "video": (16, "right", False), "text": (32, "left", False)}
    length, align, balanced = part[m]
    kind = FacePool if m == "video" else Pool
    return kind(banks, shares, CORPUS_SHARES[m], length=length, align=align, balanced=balanced)


def _parts(data: Path, stems: Stems, seed: int) -> list[ModalityPart]:
    return [
        voice_part(stems.voices, stems.modules["audio"], seed=seed),
        face_part(data, stems.modules["video"], seed=seed),
        text_part(data, stems.modules["text"], seed=seed),
    ]


def _sizes(model: AdaptedTrunk, stems: Stems) -> dict[str, int]:
    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    sizes = {f"stem of {m}": count(stem) for m, stem in stems.modules.items()}
    sizes["trunk"] = count(model.trunk)
    for adapter, pairs in model.pairs.items():
        sizes[f"adapter {adapter}"] = count(pairs)
    return sizes


def _rounded(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _rounded(value) for name, value in tree.items()}
    return round(float(tree), 4)


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
