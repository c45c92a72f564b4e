"""``python -m benchmarks.readme`` writes the figures of README and docs from committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.archive import words_of_crew
from benchmarks.report import RESULTS

README = Path(__file__).resolve().parents[1] / "README.md"
PAGE = README.parent / "docs" / "benchmarks.md"
_BLOCK = re.compile(r"(<!-- figures -->\n.*?<!-- /figures -->)", re.DOTALL)
_SHOWN = {
    "ferplus": ("faces, FER+ val, 7 labels", "accuracy"),
    "speech_ravdess": ("voices, RAVDESS, 2 unseen actors, 7 labels", "uar"),
    "speech_nemo_pl": ("voices, nEMO (Polish), 2 unseen speakers, 6 labels", "uar"),
    "speech_emodb": ("voices, EMO-DB (German), 2 unseen speakers, 6 labels", "uar"),
    "goemotions": ("texts, GoEmotions dev, 7 labels", "accuracy"),
    "meld_text": ("texts, MELD dev, 7 labels", "weighted_f1"),
}
_SHORT = ("ferplus", "speech_ravdess", "goemotions")  # one for each modality
METHODS = Path(__file__).resolve().parent / "methods" / "methods.json"
FAULTS = Path(__file__).resolve().parent / "faults" / "faults.json"
SERVE = Path(__file__).resolve().parent / "serve" / "serve.json"
_METHODS = {
    "mculora": "MCULoRA: one trunk, seven low-rank adapters",
    "crosstemporal": "bi-directional cross-attention, with adapters",
    "redifu": "ReDiFu, with adapters",
    "modality_dropout": "one trunk, modality dropout, no adapters",
    "separate": "seven trunks trained apart",
    "late_fusion": "late fusion of three calibrated networks",
    "zeros": "one trunk, zeros for what is missing",
}
_METRICS = {"accuracy": "accuracy", "uar": "UAR", "weighted_f1": "weighted F1"}


def summary_from_results(folder: Path = RESULTS) -> str:
    """Returns the README's one table as Markdown: what ships, in int8."""
    read = _read(folder)
    counts = json.loads(FAULTS.read_text("utf-8"))["figures"]["counts"]
    never = f"{counts['stale readings']} and {counts['wrong-subset readings']}"
    failures = (
        f"stale readings, and readings of the wrong subset, in {counts['runs']} runs of failing sensors"
    )
    load = json.loads(SERVE.read_text("utf-8"))["figures"]
    minutes = f"{load['seconds'] / 60:.0f} minutes"
    pages = f"readings lost, and hops missed, with {load['clients']} live pages for {minutes}"
    lost = load["delivery"]["expected"] - load["delivery"]["delivered"]
    rows = [
        *((what, int8, budget) for what, int8, _, budget in _speed_rows(read)),
        (failures, never, "0 and 0"),
        (pages, f"{lost} and {load['late_hops']}", "0 and 0"),
        *((what, int8, "") for what, _, int8, _ in _accuracy_rows(read, shown=_SHORT)),
    ]
    return "\n".join(
        [_where(read), "", *_table(("the model that ships, int8", "measured", "budget"), rows), ""]
    )


def figures_from_results(folder: Path = RESULTS) -> str:
    """Returns the tables of the documentation as Markdown."""
    read = _read(folder)
    methods = json.loads(METHODS.read_text("utf-8"))["methods"]
    lines = [
        _where(read),
        "",
        *_table(("speed, memory, size", "int8", "fp32", "budget"), _speed_rows(read)),
        "",
        *_table(("`edgeemo batch`, an archive", "times real time", "of one process"), _archive_rows(read)),
        "",
        *_table(
            ("accuracy on people and sentences never trained on (val/dev)", "n", "int8", "fp32"),
            _accuracy_rows(read, shown=tuple(_SHOWN)),
        ),
        "",
        *_table(
            (
                "the methods on CMU-MOSI, unseen videos, accuracy over five seeds",
                "mean of 7 subsets",
                "all three",
                "int8 engines",
            ),
            _method_rows(methods),
        ),
        "",
    ]
    return "\n".join(lines)


def _read(folder: Path) -> dict[str, Any]:
    return {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in _names()}


def _names() -> tuple[str, ...]:
    return ("engines", "footprint", "hop", "memory", "startup", "archive", "accuracy")


def _where(read: dict[str, Any]) -> str:
    machine = read["hop"]["machine"]
    return (
        f"On {machine['processors']} shared processors ({machine['cpu'].split(',')[1].strip()}), one thread, "
        f"onnxruntime {machine['packages']['onnxruntime']}, Python {machine['python']}, {machine['date']}; "
        "the budgets are the project's own."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _speed_rows(read: dict[str, Any]) -> list[tuple[str, ...]]:
    figures = {name: document["figures"] for name, document in read.items()}
    hop, memory, start = figures["hop"]["variants"], figures["memory"]["variants"], figures["startup"]
    engines = {(row["engine"], row["variant"]): row for row in figures["engines"]["engines"]}

    def row(what: str, of: Any, budget: str) -> tuple[str, ...]:
        return what, of("int8"), of("fp32"), budget

    def hop_ms(part: str) -> Any:
        return lambda variant: f"{hop[variant][part]['mean_ms']:.1f} ms"

    def engine_ms(name: str) -> Any:
        return lambda variant: f"{engines[name, variant]['timing']['p50_ms']:.2f} ms"

    def shipped(found: dict[str, Any], figure: Callable[[Any], str]) -> Any:
        return lambda variant: figure(found[variant]) if variant in found else "does not ship"

    listed = figures["footprint"]["sizes"]["listed_bytes"]
    return [
        row("a hop with voice, face and words, face search included", hop_ms("hop"), "15 ms"),
        row("the same without the face search", hop_ms("hop without detection"), "5 ms"),
        row("engine `audio+video+text`, p50", engine_ms("audio+video+text"), ""),
        row("engine `audio`, p50", engine_ms("audio"), ""),
        row(
            "memory replaying a recording (PSS)",
            shipped(memory, lambda found: f"{found['recording']['pss'] / 1e6:.0f} MB"),
            "220 MB",
        ),
        row(
            "from a fresh process to a reading",
            shipped(start["cold_start"], lambda found: f"{found['process_ms']:.0f} ms"),
            "1 s",
        ),
        ("the bundle: stems and seven engines, int8 + fp16", f"{listed / 1e6:.1f} MB", "", "8 MB"),
    ]


def _archive_rows(read: dict[str, Any]) -> list[tuple[str, ...]]:
    crews = read["archive"]["figures"]["workers"]
    return [
        (
            words_of_crew(workers),
            f"{found['times_real_time']:.1f}",
            f"{found['times_real_time'] / crews['0']['times_real_time']:.2f}",
        )
        for workers, found in crews.items()
    ]


def _accuracy_rows(read: dict[str, Any], *, shown: Sequence[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for folder in shown:
        words, metric = _SHOWN[folder]
        data = read["accuracy"]["figures"]["data"][folder]
        found = {variant: result["results"][0]["metrics"] for variant, result in data.items()}
        int8, fp32 = (f"{100 * found[variant][metric]:.1f} %" for variant in ("int8", "fp32"))
        rows.append((f"{words}: {_METRICS[metric]}", str(found["fp32"]["n"]), int8, fp32))
    return rows


def _method_rows(methods: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for method, words in _METHODS.items():
        of = {subset: np.array(scores["accuracy"]) for subset, scores in methods[method]["by_seed"].items()}
        shown = (np.mean(list(of.values()), axis=0), of["audio+video+text"])  # (seeds,) each
        values = [f"{100 * x.mean():.1f} ± {100 * x.std(ddof=1):.1f}" for x in shown]
        rows.append((words, *values, f"{methods[method]['size']['int8_bytes'] / 1e6:.2f} MB"))
    return rows


def main() -> None:
    """Rewrites the blocks between the markers."""
    for place, block in ((README, summary_from_results()), (PAGE, figures_from_results())):
        before, middle, after = _BLOCK.split(place.read_text("utf-8"), maxsplit=1)
        del middle
        place.write_text(f"{before}<!-- figures -->\n{block}<!-- /figures -->{after}", "utf-8")


if __name__ == "__main__":
    main()
