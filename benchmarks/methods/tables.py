"""Writes a comparison as Markdown, JSON and PNG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.results import (
    BI_GRU,
    FIGURES,
    MISSING_RATES,
    SUBSETS,
    Comparison,
    conditions_by_panel,
)
from benchmarks.report import describe_machine, markdown_table
from edgeemo.datasets.mosi import CLASSES
from edgeemo.training.config import BASELINES, FAMILIES
from edgeemo.training.methods.disturb import CLEAN
from edgeemo.training.methods.figures import draw_confusions, draw_lines, draw_subsets

FULL = SUBSETS[-1]
TITLES = {"accuracy": "Accuracy", "uar": "UAR (mean recall of the two classes)", "weighted_f1": "Weighted F1"}
NAMES = {
    "modality_dropout": "(a) modality dropout",
    "separate": "(b) seven trunks",
    "late_fusion": "(c) late fusion",
    "zeros": "(d) zeros",
}
HOW = """\
Utterances of a video are the sequence. Every network has the same schedule and regularisation; each of the
seven separate trunks gets as many steps of its own as the one trunk gets for all seven subsets. Cross-fit:
the halves of the dev videos are drawn for each seed, one half selects the epoch (running mean over five
epochs of the mean accuracy over the subsets that the network serves) and the other half reports, then
swapped; so every dev utterance is reported once for each seed. These are dev figures: there is no test split
here, and the settings were chosen on the same dev videos. Percent; mean and deviation over seeds. One
standard error of a single accuracy of 75 % on 326 utterances is 2.4 points, so compare methods by the paired
intervals, not by the columns."""


def write_tables(comparison: Comparison, folder: Path, *, command: str) -> list[Path]:
    """Writes ``methods.md``, ``methods.json`` and the pictures, and returns their paths.

    Args:
        comparison: the figures.
        folder: where to.
        command: the command line, for the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    page, document = folder / "methods.md", folder / "methods.json"
    content = {"machine": machine, "command": command, **_figures(comparison)}
    document.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page.write_text(_page(comparison, machine, command), encoding="utf-8")
    return [page, document, *_pictures(comparison, folder)]


def best_family(comparison: Comparison) -> str:
    """Returns the family with the best mean accuracy, of those that were run; else the first method."""
    ran = [method for method in FAMILIES if method in comparison.results] or list(comparison.results)
    return max(ran, key=lambda method: comparison.mean_and_deviation(method, "accuracy")[0][-1])


def _page(comparison: Comparison, machine: dict[str, Any], command: str) -> str:
    data, seeds = comparison.data, comparison.seeds
    lines = [
        "# Methods on CMU-MOSI",
        "",
        f"{data['train_utterances']} train utterances of {data['train_videos']} videos, "
        f"{data['dev_utterances']} dev utterances of {data['dev_videos']} other videos; seeds "
        f"{', '.join(map(str, seeds))}. {machine['date']}, {machine['cpu']}, "
        f"{machine['processors']} processors (load "
        f"average {machine['load_average']} at the end), {machine['system']}, "
        f"Python {machine['python']}. Made by `{command}`.",
        "",
        HOW,
        "",
        "![accuracy on the seven subsets](subsets.png)",
    ]
    for figure in FIGURES:
        lines += ["", f"## {TITLES[figure]}", "", *_figure_table(comparison, figure)]
    lines += ["", "## Size and time", "", *_size_table(comparison)]
    lines += ["", "## Paired differences", "", *_interval_tables(comparison)]
    lines += ["", "## Modalities that go missing at random", "", *_missing_table(comparison)]
    lines += ["", "## Trouble inside a modality", "", *_disturbed_table(comparison)]
    lines += ["", "## Which epochs report", "", *_epoch_lines(comparison), ""]
    return "\n".join(lines)


def _figure_table(comparison: Comparison, figure: str) -> list[str]:
    rows = []
    for method in comparison.results:
        means, spreads = comparison.mean_and_deviation(method, figure)
        cells = (
            f"{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in zip(means, spreads, strict=True)
        )
        rows.append((_name(method), *cells))
    if figure == "accuracy":
        mean = float(np.mean(list(BI_GRU.values())))
        rows.append(
            ("bi-GRU (README of the data)", *(f"{100 * BI_GRU[s]:.1f}" for s in SUBSETS), f"{100 * mean:.1f}")
        )
        rows.append(("commonest label", *[f"{100 * comparison.majority:.1f}"] * (len(SUBSETS) + 1)))
    return markdown_table(("method", *SUBSETS, "mean of 7"), rows)


def _size_table(comparison: Comparison) -> list[str]:
    rows = []
    for method, size in comparison.sizes.items():
        walls = comparison.results[method].wall_s
        rows.append(
            (
                _name(method),
                f"{size.parameters:,}",
                f"{size.adapter_parameters:,}",
                str(size.engines),
                f"{size.fp32_bytes:,}",
                f"{size.int8_bytes:,}",
                f"{np.mean(walls):.0f}",
                f"{np.max(walls):.0f}",
            )
        )
    columns = ("method", "trunk parameters", "adapter parameters", "engines", "fp32 bytes", "int8 bytes")
    note = (
        "Bytes of all engines that serve the seven subsets, as the exporter makes them (adapters merged). "
        "Seconds are wall time of one seed, all its networks one after another; one thread on cores that "
        "other work shared, so they are upper bounds."
    )
    return [note, "", *markdown_table((*columns, "mean s", "largest s"), rows)]


def _interval_tables(comparison: Comparison) -> list[str]:
    best = best_family(comparison)
    ran = [method for method in FAMILIES if method in comparison.results]
    pairs = [(ours, theirs) for ours in ran for theirs in BASELINES if theirs in comparison.results]
    pairs += [(best, other) for other in ran if other != best]
    lines = [
        "Points, with 95 % intervals of a bootstrap over dev videos and seeds (2000 draws, the same for both "
        "methods). An interval that holds 0 is no difference that these data can show.",
        "",
    ]
    groups = {
        "mean of 7": SUBSETS,
        "one modality": SUBSETS[:3],
        "two": SUBSETS[3:6],
        "all three": SUBSETS[6:],
    }
    rows = []
    for ours, theirs in pairs:
        cells = [_shown(comparison, ours, theirs, subsets, "accuracy") for subsets in groups.values()]
        cells += [_shown(comparison, ours, theirs, SUBSETS, "uar")]
        rows.append((f"{_name(ours)} minus {_name(theirs)}", *cells))
    return [*lines, *markdown_table(("accuracy", *groups, "UAR, mean of 7"), rows)]


def _shown(comparison: Comparison, ours: str, theirs: str, subsets: Sequence[str], figure: str) -> str:
    found = comparison.interval(ours, theirs, subsets, figure)
    return f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _missing_table(comparison: Comparison) -> list[str]:
    note = (
        "Every modality of a video is missing with the rate at the top, never all of them; exact over all "
        "patterns. A modality is missing for a whole video, as a sensor that is off: in a sequence of "
        "utterances the neighbours of a missing one would give it away. Accuracy, mean over seeds."
    )
    rows = [
        (_name(method), *(f"{100 * value:.1f}" for value in comparison.at_missing_rates(method, "accuracy")))
        for method in comparison.results
    ]
    return [note, "", *markdown_table(("method", *(f"{rate:.0%}" for rate in MISSING_RATES)), rows)]


def _disturbed_table(comparison: Comparison) -> list[str]:
    note = (
        "Accuracy of all three modalities, and of the disturbed one alone in brackets. MOSI comes as one "
        "vector for each utterance and modality, so noise is noise on standardised features (the column is "
        "the SNR in dB), and a share of the utterances of a video is lost (zeros, while the sensor claims to "
        "be there) or frozen (repeats the one before). Words can only be lost all at once. Not possible on "
        "such features: noise in the sound, frames lost within an utterance, blur, single words deleted."
    )
    lines = [note]
    for title, conditions in conditions_by_panel().items():
        modality = title.split()[0]
        rows = []
        for method in comparison.results:
            cells = []
            for name in (CLEAN, *(name for name, _ in conditions)):
                both = (comparison.disturbed(method, name, subset) for subset in (FULL, modality))
                cells.append("{:.1f} ({:.1f})".format(*(100 * value for value in both)))
            rows.append((_name(method), *cells))
        unit = "{:g} dB" if title.endswith("noise") else "{:.0%}"
        columns = ("method", "clean", *(unit.format(strength) for _, strength in conditions))
        lines += ["", f"### {title}", "", *markdown_table(columns, rows)]
    return lines


def _epoch_lines(comparison: Comparison) -> list[str]:
    rows = []
    for method, result in comparison.results.items():
        chosen = [epoch for seed in result.epochs for pair in seed.values() for epoch in pair]
        rows.append((_name(method), f"{np.median(chosen):g}", f"{min(chosen)} to {max(chosen)}"))
    return markdown_table(("method", "median", "range"), rows)


def _name(method: str) -> str:
    return NAMES.get(method, method)


def _figures(comparison: Comparison) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for method, result in comparison.results.items():
        clean = {
            subset: {name: values.tolist() for name, values in result.by_seed((CLEAN, subset)).items()}
            for subset in SUBSETS
        }
        methods[method] = {
            "config": comparison.configs[method].to_json(),
            "size": asdict(comparison.sizes[method]),
            "by_seed": clean,
            "missing_rates": dict(
                zip(map(str, MISSING_RATES), comparison.at_missing_rates(method, "accuracy"), strict=True)
            ),
            "disturbed": {
                f"{name} | {subset}": comparison.disturbed(method, name, subset)
                for name, subset in result.guesses
                if name != CLEAN
            },
            "epochs": result.epochs,
            "wall_s": result.wall_s,
        }
    paired = {
        f"{ours} - {theirs}": asdict(comparison.interval(ours, theirs, SUBSETS, "accuracy"))
        for ours in comparison.results
        for theirs in comparison.results
        if ours in FAMILIES and ours != theirs
    }
    return {
        "seeds": list(comparison.seeds),
        "data": dict(comparison.data),
        "majority": comparison.majority,
        "methods": methods,
        "paired_accuracy_mean_of_seven": paired,
    }


def _pictures(comparison: Comparison, folder: Path) -> list[Path]:
    paths = [folder / name for name in ("subsets.png", "confusion.png", "robustness.png")]
    curves = {
        _name(method): comparison.mean_and_deviation(method, "accuracy") for method in comparison.results
    }
    draw_subsets(paths[0], (*SUBSETS, "mean of 7"), curves, majority=comparison.majority)
    best = best_family(comparison)
    tables = (
        comparison.results[best].confusion([(CLEAN, subset) for subset in SUBSETS]).sum(axis=2).mean(axis=1)
    )
    draw_confusions(
        paths[1], {f"{best}: {subset}": table for subset, table in zip(SUBSETS, tables, strict=True)}, CLASSES
    )
    panels: dict[str, Any] = {
        "modalities missing, rate": (
            MISSING_RATES,
            {
                _name(m): [100 * v for v in comparison.at_missing_rates(m, "accuracy")]
                for m in comparison.results
            },
        )
    }
    for title, conditions in conditions_by_panel().items():
        clean = [] if title.endswith("noise") else [0.0]
        unit = "SNR in dB" if title.endswith("noise") else "share of utterances"
        panels[f"{title}, all three present: {unit}"] = (
            [*clean, *(strength for _, strength in conditions)],
            {
                _name(m): [
                    *(100 * comparison.disturbed(m, CLEAN, FULL) for _ in clean),
                    *(100 * comparison.disturbed(m, name, FULL) for name, _ in conditions),
                ]
                for m in comparison.results
            },
        )
    draw_lines(paths[2], panels, "accuracy, %")
    return paths
