"""The accuracy of the three ways as tables, with what the intervals say in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.report import Table

OWN, SHIPPED, LATE, MASKED, AVERAGE = "own", "shipped", "late", "masked", "average"
NAMES = {
    OWN: "an engine for each subset (edgeemo)",
    LATE: "late fusion, calibrated log-linear",
    MASKED: "one tri-modal engine, zeros for what is missing",
    AVERAGE: "late fusion with half-lives, all fresh",
}
HALF_LIFE_S = 5.0
AGES_S = (0.5, 2.0, 5.0, 10.0, 30.0)
REPLICATES = 1000
_METRICS = {"accuracy": "accuracy", "uar": "UAR"}


def accuracy_tables(found: Mapping[str, Any]) -> list[Table]:
    """Returns the tables of `benchmarks.swap.accuracy.measure`.

    Args:
        found: its figures.
    """
    subsets = found["subsets"]
    columns = ("method", *subsets)
    return [
        Table("Accuracy on label-matched triples", _how(found), columns, _rows(subsets, "accuracy")),
        Table(
            "UAR on label-matched triples",
            "The same triples, mean recall of the seven labels.",
            columns,
            _rows(subsets, "uar"),
        ),
        Table("Paired differences", verdict(subsets), ("points", *subsets), _gap_rows(subsets)),
        _loss_table(found["after_a_loss"]),
    ]


def _how(found: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {name} items" for name, count in found["n"]["items"].items())
    return (
        f"Label-matched triples (no corpus has voice, face and words of one person): "
        f"{found['n']['triples']} triples in each of {found['n']['seeds']} draws from val/dev ({counts}), "
        "labels drawn from the prior of the tri-modal engine, which all methods are told. Temperatures and "
        "weights of every row are fitted on one half of val (other speakers, other faces, other texts) and "
        "reported on the other, then swapped. Mean and deviation over the draws, percent. Given the label, "
        "such triples are independent, which is just what log-linear pooling assumes: they favour late "
        "fusion. For people whose voice, face and words belong together, and for masked models trained "
        "on gaps, see benchmarks/methods."
    )


def _rows(subsets: Mapping[str, Any], metric: str) -> list[tuple[str, ...]]:
    rows = []
    for method, words in NAMES.items():
        values = [found[method][metric] for found in subsets.values()]
        cells = (f"{100 * value['mean']:.1f} ± {100 * value['deviation']:.1f}" for value in values)
        rows.append((words, *cells))
    return rows


def _gap_rows(subsets: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for other in (LATE, MASKED, AVERAGE):
        for metric, words in _METRICS.items():
            gaps = [found[f"{OWN} minus {other}"][metric] for found in subsets.values()]
            cells = (
                f"{100 * gap['mean']:+.1f} ({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f})"
                for gap in gaps
            )
            rows.append((f"{words}: edgeemo minus {NAMES[other]}", *cells))
    return rows


def verdict(subsets: Mapping[str, Any]) -> str:
    """Returns in words where late fusion and the masked engine are behind, level or ahead in accuracy.

    Args:
        subsets: subset -> figures; those of single modalities are the same engine for late fusion.
    """
    sentences = []
    for other in (LATE, MASKED):
        kinds: dict[str, list[str]] = {"behind": [], "level": [], "ahead": []}
        for subset, found in subsets.items():
            gap = found[f"{OWN} minus {other}"]["accuracy"]
            if gap["low"] == gap["high"] == 0:
                continue  # the very same engine
            kind = "behind" if gap["low"] > 0 else "ahead" if gap["high"] < 0 else "level"
            kinds[kind].append(f"{subset} {100 * gap['mean']:+.1f}")
        said = "; ".join(f"{kind} for {', '.join(names)}" for kind, names in kinds.items() if names)
        sentences.append(f"{NAMES[other][0].upper()}{NAMES[other][1:]}: {said}.")
    return (
        "Points by which edgeemo is ahead (+) or behind (-); level where the interval of the accuracy holds "
        f"0. {' '.join(sentences)} Brackets hold 95 % of {REPLICATES} replicates of a paired bootstrap over "
        "the items of each modality (they come in many triples), not over speakers, of whom there are six."
    )


def _loss_table(losses: Mapping[str, Any]) -> Table:
    rows = [
        (
            dead,
            *(f"{100 * found[method]:.1f}" for method in (OWN, LATE)),
            *(f"{100 * found[f'half-lives, {age_s:g} s']:.1f}" for age_s in AGES_S),
        )
        for dead, found in losses.items()
    ]
    ages = (f"half-lives, after {age_s:g} s" for age_s in AGES_S)
    return Table(
        "Accuracy after a modality died and the emotion changed",
        "The dead one has said another label last; the two that live show the new one. Methods with "
        "sensor states use the two; half-lives go on with what the dead one said, weighted "
        f"2^(-age / {HALF_LIFE_S:g} s) in an average of probabilities, as a rival application does. Percent. "
        "Where only the dead one is left, edgeemo says `no signal`, and half-lives go on at full weight for "
        "ever.",
        ("dead", "edgeemo", "late fusion with states", *ages),
        rows,
    )
