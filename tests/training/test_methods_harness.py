"""The comparison of methods: runs repeat, resume and select on videos that they do not report on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_mosi import write_tiny_mosi

torch = pytest.importorskip("torch", reason="needs torch")

from edgeemo.datasets.mosi import MODALITIES, MosiVideos, read_mosi  # noqa: E402
from edgeemo.errors import TrainingError  # noqa: E402
from edgeemo.modality import all_subsets  # noqa: E402
from edgeemo.training import trunks  # noqa: E402
from edgeemo.training.config import (  # noqa: E402
    BASELINES,
    FAMILIES,
    METHODS,
    Adaptation,
    MethodConfig,
    Regularisation,
    Schedule,
)
from edgeemo.training.methods import MethodResult, Network, Record, method_result, networks_of, run_network  # noqa: E402
from edgeemo.training.methods.bootstrap import (  # noqa: E402
    confusion_by_video,
    figures_from_confusion,
    paired_interval,
)
from edgeemo.training.methods.disturb import (  # noqa: E402
    CLEAN,
    DISTURBANCES,
    Disturbance,
    disturb_features,
    missing_pattern_shares,
)
from edgeemo.training.methods.late import fit_temperature, log_softmax, product_of_experts  # noqa: E402
from edgeemo.training.methods.networks import answer_subset, new_network  # noqa: E402
from edgeemo.training.methods.selection import (  # noqa: E402
    Rule,
    cross_fit_epochs,
    split_halves,
)

Data = tuple[MosiVideos, MosiVideos]
SUBSETS = all_subsets(MODALITIES)
TINY = MethodConfig(
    method="mculora",
    trunk={"width": 8, "blocks": 1},
    schedule=Schedule(epochs=3, steps=2, batch=4, patience=0),
    regularisation=Regularisation(feature_noise=0.3, feature_dropout=0.1, score_slope=1.0),
)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    write_tiny_mosi(tmp_path / "mosi")
    return read_mosi(tmp_path / "mosi", "train"), read_mosi(tmp_path / "mosi", "dev")


def run_all(config: MethodConfig, data: Data, out: Path, seed: int = 0) -> dict[str, Record]:
    return {
        network.name: run_network(network, config, seed, data, out / network.name)
        for network in networks_of(config, MODALITIES)
    }


def equal(ours: Record, theirs: Record) -> bool:
    return ours.keys == theirs.keys and np.array_equal(ours.logits, theirs.logits)


def test_a_run_repeats_for_a_seed_and_differs_for_another(tmp_path: Path, data: Data) -> None:
    (network,) = networks_of(TINY, MODALITIES)
    first = run_network(network, TINY, 0, data, tmp_path / "first")
    again = run_network(network, TINY, 0, data, tmp_path / "again")
    other = run_network(network, TINY, 1, data, tmp_path / "other")
    assert equal(first, again)
    assert not np.array_equal(first.logits, other.logits)
    assert np.isfinite(first.logits).all()
    assert first.logits.shape == (3, len(SUBSETS) + 2 * len(DISTURBANCES), int(data[1].mask.sum()), 2)


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path: Path, data: Data) -> None:
    (network,) = networks_of(TINY, MODALITIES)

    def kill(done: int, total: int, metrics: dict[str, float]) -> None:
        if done == 2:
            raise KeyboardInterrupt

    whole = run_network(network, TINY, 0, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_network(network, TINY, 0, data, tmp_path / "broken", progress=kill)
    assert equal(run_network(network, TINY, 0, data, tmp_path / "broken"), whole)
    for name in ("curve.csv", "ratios.json"):
        assert (tmp_path / "broken" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_finished_run_is_read_back_and_not_trained_again(tmp_path: Path, data: Data) -> None:
    (network,) = networks_of(TINY, MODALITIES)
    first = run_network(network, TINY, 0, data, tmp_path)
    (tmp_path / "state.pt").unlink()
    assert equal(run_network(network, TINY, 0, data, tmp_path), first)
    assert not (tmp_path / "state.pt").exists()


def test_a_folder_of_another_run_is_refused(tmp_path: Path, data: Data) -> None:
    (network,) = networks_of(TINY, MODALITIES)
    run_network(network, TINY, 0, data, tmp_path)
    longer = replace(TINY, schedule=replace(TINY.schedule, epochs=4))
    with pytest.raises(TrainingError, match="another config"):
        run_network(network, longer, 0, data, tmp_path)
    with pytest.raises(TrainingError, match="another seed"):
        run_network(network, TINY, 1, data, tmp_path)


@pytest.mark.parametrize("method", [*trunks.FAMILIES, *BASELINES])
def test_every_method_answers_for_the_seven_subsets(tmp_path: Path, data: Data, method: str) -> None:
    trunk = TINY.trunk if method not in FAMILIES[1:] else {}
    config = replace(TINY, method=method, family="", trunk=trunk, schedule=Schedule(1, 1, 6, patience=0))
    result = method_result(method, [run_all(config, data, tmp_path)], Rule())
    full = SUBSETS[-1]
    keys = {(CLEAN, subset) for subset in SUBSETS}
    keys |= {(each.name, subset) for each in DISTURBANCES for subset in (each.modality, full)}
    assert set(result.guesses) == keys
    assert all(guess.shape == (1, int(data[1].mask.sum())) for guess in result.guesses.values())


def test_networks_of_the_baselines() -> None:
    names = {
        method: [network.name for network in networks_of(replace(TINY, method=method, family=""), MODALITIES)]
        for method in METHODS
    }
    assert names["separate"] == [f"separate.{subset}" for subset in SUBSETS]
    assert names["late_fusion"] == names["separate"][:3]
    assert names["zeros"] == ["zeros"]


def built(method: str, data: Data) -> tuple[Network, Any, dict[str, Any], Any]:
    config = replace(TINY, method=method, family="")
    (network,) = networks_of(config, MODALITIES)
    dev = data[1]
    model = new_network(network, config, widths=dev.widths, length=dev.length, classes=2, seed=0)
    features = {m: torch.from_numpy(values) for m, values in dev.features.items()}
    return network, model.eval(), features, torch.from_numpy(dev.mask)


@pytest.mark.parametrize("method", ["mculora", "modality_dropout", "zeros"])
def test_a_missing_modality_is_not_looked_at(data: Data, method: str) -> None:
    network, model, features, mask = built(method, data)
    changed = {**features, "audio": features["audio"] + 100}
    for subset in SUBSETS:
        before = answer_subset(model, network, subset, features, mask).logits
        after = answer_subset(model, network, subset, changed, mask).logits
        assert torch.equal(before, after) == ("audio" not in subset)


def test_only_zeros_has_a_constant_in_place_of_what_is_missing(data: Data) -> None:
    network, model, features, mask = built("zeros", data)
    only_text = answer_subset(model, network, "text", features, mask)
    assert set(only_text.evidence) == set(MODALITIES)
    network, model, features, mask = built("modality_dropout", data)
    assert set(answer_subset(model, network, "text", features, mask).evidence) == {"text"}


def test_every_video_draws_its_own_subset(tmp_path: Path, data: Data) -> None:
    from edgeemo.training.methods.run import _Run

    (network,) = networks_of(TINY, MODALITIES)
    config = replace(TINY, schedule=replace(TINY.schedule, steps=40, batch=6))
    run = _Run(network, config, seed=0, data=data, out=tmp_path)
    mixed = 0
    seen: dict[str, int] = {}
    for groups in run.batches(0, np.random.default_rng(0)):
        assert sorted(torch.cat([rows for _, rows in groups]).tolist()) == list(range(6))
        mixed += len(groups) > 1
        for subset, rows in groups:
            seen[subset] = seen.get(subset, 0) + len(rows)
    assert mixed >= 38
    assert set(seen) == set(SUBSETS)
    assert max(seen.values()) < 3 * min(seen.values())


def test_dynamic_ratios_move_and_are_kept_for_a_resumed_run(tmp_path: Path, data: Data) -> None:
    (network,) = networks_of(TINY, MODALITIES)
    run_network(network, TINY, 0, data, tmp_path / "dynamic")
    lines = (tmp_path / "dynamic" / "curve.csv").read_text().splitlines()
    columns = [place for place, name in enumerate(lines[0].split(",")) if name.startswith("ratio.")]
    rows = [[float(line.split(",")[place]) for place in columns] for line in lines[1:]]
    assert len(columns) == len(SUBSETS)
    assert rows[0] == rows[1] == pytest.approx([1 / 7] * 7)  # one divergence alone has not moved
    assert sum(rows[2]) == pytest.approx(1)
    assert max(rows[2]) > 1 / 7 > min(rows[2]) >= 0.05
    still = replace(TINY, adaptation=Adaptation(dynamic_ratios=False))
    run_network(network, still, 0, data, tmp_path / "equal")
    assert not (tmp_path / "equal" / "ratios.json").exists()
    assert "ratio." not in (tmp_path / "equal" / "curve.csv").read_text()


def test_early_stopping_waits_for_both_halves(tmp_path: Path, data: Data) -> None:
    (network,) = networks_of(TINY, MODALITIES)
    patient = replace(TINY, schedule=Schedule(epochs=30, steps=1, batch=6, learning_rate=1e-6, patience=2))
    record = run_network(network, patient, 0, data, tmp_path)
    assert record.meta["epochs"] < 30
    assert len(record.logits) == record.meta["epochs"]
    assert (tmp_path / "curve.csv").read_text().count("\n") == record.meta["epochs"] + 1


def test_halves_are_balanced_and_drawn_by_the_seed() -> None:
    counts = [9, 12, 13, 13, 16, 16, 16, 18, 18, 18, 20, 22, 30, 30, 31, 44]
    halves = split_halves(counts, 0)
    assert halves.tolist() == split_halves(counts, 0).tolist() != split_halves(counts, 1).tolist()
    assert (halves == 0).sum() == 8
    assert abs(np.array(counts)[halves == 0].sum() - sum(counts) / 2) < 20


def test_selection_never_looks_at_the_half_that_it_reports_on() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(12, 3, 40, 2))
    labels, halves = rng.integers(0, 2, 40), np.arange(40) % 2
    on_zero, on_one = cross_fit_epochs(logits, labels, halves, rule=Rule())
    for reporting, chosen in ((0, on_zero), (1, on_one)):
        spoiled = logits.copy()
        spoiled[:, :, halves == reporting] = rng.normal(size=spoiled[:, :, halves == reporting].shape)
        assert cross_fit_epochs(spoiled, labels, halves, rule=Rule())[reporting] == chosen
        right = logits.copy()
        right[7][:, halves != reporting, labels[halves != reporting]] = 50
        assert cross_fit_epochs(right, labels, halves, rule=Rule())[reporting] == 7


@pytest.mark.parametrize(
    ("scores", "rule", "best", "ended"),
    [
        ([1, 3, 2, 4], Rule(), 3, False),
        ([1, 3, 2, 2, 4], Rule(patience=2), 1, True),
        ([1, 3, 2, 4, 4], Rule(patience=2), 3, False),
        ([2, 2, 2], Rule(patience=2), 0, True),
        ([1], Rule(patience=2), 0, False),
        ([9, 0, 0, 4, 5, 4, 0], Rule(smoothing=3), 5, False),
        ([9, 0], Rule(smoothing=3), 1, False),
        ([1, 1, 1, 0, 0], Rule(smoothing=3, patience=2), 2, True),
        ([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], Rule(smoothing=3), 2, False),
    ],
)
def test_an_epoch_is_selected_by_a_running_mean(
    scores: list[float], rule: Rule, best: int, ended: bool
) -> None:
    assert rule.selected(scores) == best
    assert rule.ended(scores) == ended


def record_of(logits: Any, labels: Any, videos: Any, halves: Any, subset: str) -> Record:
    keys = ((CLEAN, subset), *((each.name, subset) for each in DISTURBANCES if each.modality == subset))
    stacked = np.repeat(logits[:, None], len(keys), axis=1).astype(np.float16)
    return Record(keys, stacked, labels, videos, halves, {"wall_s": 1.0})


def test_late_fusion_is_the_product_of_calibrated_experts() -> None:
    rng = np.random.default_rng(1)
    videos = np.repeat(np.arange(8), 5)
    labels, halves = rng.integers(0, 2, 40), np.arange(8) % 2
    logits = {m: rng.normal(size=(1, 40, 2)) * 4 + np.eye(2)[labels] for m in MODALITIES}
    records = {m: record_of(values, labels, videos, halves, m) for m, values in logits.items()}
    result = method_result("late_fusion", [records], Rule())
    product = np.zeros((40, 2))
    for record in records.values():
        values = record.logits[0, 0].astype(np.float64)
        for half in (0, 1):
            inside = halves[videos] == half
            temperature = fit_temperature(values[~inside], labels[~inside])
            product[inside] += log_softmax(values[inside] / temperature)
    assert result.guesses[CLEAN, SUBSETS[-1]][0].tolist() == product.argmax(axis=1).tolist()
    assert result.wall_s == [3.0]


def test_experts_multiply() -> None:
    experts = [np.log(np.array([[0.6, 0.4]])), np.log(np.array([[0.2, 0.8]]))]
    np.testing.assert_allclose(np.exp(product_of_experts(experts)), [[0.12 / 0.44, 0.32 / 0.44]])


def test_the_temperature_undoes_a_scale() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 2))
    labels = (rng.random(20000) < np.exp(log_softmax(logits))[:, 1]).astype(np.int64)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)


def test_figures_by_hand() -> None:
    figures = figures_from_confusion(np.array([[3, 1], [2, 4]]))
    assert figures["accuracy"] == pytest.approx(0.7)
    assert figures["uar"] == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert figures["weighted_f1"] == pytest.approx(0.4 * 6 / 9 + 0.6 * 8 / 11)


def test_confusion_by_video_by_hand() -> None:
    labels, videos = np.array([0, 1, 1]), np.array([0, 0, 1])
    found = confusion_by_video(np.array([[0, 0, 1], [1, 1, 1]]), labels, videos, 2)
    assert found.tolist() == [[[[1, 0], [1, 0]], [[0, 0], [0, 1]]], [[[0, 1], [0, 1]], [[0, 0], [0, 1]]]]


def test_the_bootstrap_by_hand() -> None:
    # Two videos of one utterance, one seed. Ours is right on both, theirs on the first alone, so a draw
    # of videos (0,0), (0,1), (1,1) with chances 1/4, 1/2, 1/4 gives a difference of 0, 1/2 or 1.
    labels, videos = np.array([0, 1]), np.array([0, 1])
    ours = confusion_by_video(np.array([[0, 1]]), labels, videos, 2)[None]
    theirs = confusion_by_video(np.array([[0, 0]]), labels, videos, 2)[None]
    interval = paired_interval(ours, theirs, "accuracy")
    assert (interval.difference, interval.low, interval.high) == (0.5, 0.0, 1.0)
    assert paired_interval(ours, ours, "accuracy").high == 0.0


def test_the_bootstrap_pairs_what_it_compares() -> None:
    # Both share the luck of their videos, and ours is right on one utterance more in each of them.
    rng = np.random.default_rng(0)
    luck = rng.random((5, 16, 1)) < np.linspace(0, 0.9, 16)[:, None]
    theirs = np.concatenate([luck, luck, np.zeros((5, 16, 2), bool)], axis=2)
    ours = np.concatenate([luck, luck, np.ones((5, 16, 1), bool), np.zeros((5, 16, 1), bool)], axis=2)
    videos, labels = np.repeat(np.arange(16), 4), np.ones(64, np.int64)
    tables = [
        confusion_by_video(right.reshape(5, 64).astype(np.int64), labels, videos, 2)[None]
        for right in (ours, theirs)
    ]
    interval = paired_interval(tables[0], tables[1], "accuracy")
    assert (interval.low, interval.difference, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_missing_rates_are_shares_of_all_patterns() -> None:
    for rate in (0.0, 0.3, 0.7):
        assert missing_pattern_shares(rate, SUBSETS, 3).sum() == pytest.approx(1)
    assert missing_pattern_shares(0.5, SUBSETS, 3).tolist() == pytest.approx([1 / 7] * 7)
    assert missing_pattern_shares(0.0, SUBSETS, 3).tolist() == [0.0] * 6 + [1.0]


def noise_power(changed: Any, clean: Any, mask: Any) -> float:
    return float(np.square(changed - clean)[mask > 0].mean() / np.square(clean)[mask > 0].mean())


def test_disturbances_do_what_they_say() -> None:
    rng = np.random.default_rng(0)
    features = {m: rng.normal(1, 2, (30, 40, 6)).astype(np.float32) for m in MODALITIES}
    mask = (np.arange(40) < 35).astype(np.float32) * np.ones((30, 1), np.float32)
    for each in DISTURBANCES:
        changed = disturb_features(features, mask, each)
        assert all(changed[m] is features[m] for m in MODALITIES if m != each.modality)
        values, clean = changed[each.modality], features[each.modality]
        again = disturb_features(features, mask, each)
        np.testing.assert_array_equal(values, again[each.modality])
        if each.kind == "noise":
            power = noise_power(values, clean, mask)
            assert power == pytest.approx(10 ** (-each.strength / 10), rel=0.05)
        elif each.kind == "lost":
            assert (values == 0).all(axis=2).mean() == pytest.approx(each.strength, abs=0.05)
        else:
            repeats = (values[:, 1:35] == values[:, :34]).all(axis=2)
            assert repeats.mean() == pytest.approx(each.strength, abs=0.05)
            np.testing.assert_array_equal(values[:, 0], clean[:, 0])
    assert Disturbance("audio", "noise", 5.0).name == "audio noise 5"


def test_results_of_different_dev_sets_are_refused(tmp_path: Path, data: Data) -> None:
    short = replace(TINY, schedule=Schedule(1, 1, 4, patience=0))
    one = run_all(short, data, tmp_path / "one")
    record = replace(one["mculora"], labels=1 - one["mculora"].labels)
    with pytest.raises(TrainingError, match="not of the same dev utterances"):
        method_result("mculora", [one, {"mculora": record}], Rule())
    with pytest.raises(TrainingError, match="no runs of redifu"):
        method_result("redifu", [], Rule())


def accuracy(result: MethodResult, subset: str) -> float:
    return float(result.by_seed((CLEAN, subset))["accuracy"].mean())


def test_it_learns_what_the_data_holds(tmp_path: Path) -> None:
    from tiny_mosi import tiny_table

    write_tiny_mosi(tmp_path / "mosi", tiny_table(train=20, dev=8))
    data = (read_mosi(tmp_path / "mosi", "train"), read_mosi(tmp_path / "mosi", "dev"))
    config = replace(
        TINY,
        schedule=Schedule(epochs=6, steps=10, batch=10, learning_rate=5e-3, ema_decay=0.9, patience=0),
        adaptation=Adaptation(dynamic_ratios=False),
    )
    result = method_result("mculora", [run_all(config, data, tmp_path / "out")], Rule())
    assert accuracy(result, "text") > 0.8
    assert accuracy(result, SUBSETS[-1]) > 0.8
