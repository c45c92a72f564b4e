"""``python -m benchmarks.readme`` writes the README's tables from the committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import RESULTS

README = Path(__file__).resolve().parents[1] / "README.md"
_BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)
_SHOWN = {
    "ferplus": ("faces, FER+ val, 7 labels", "accuracy"),
    "speech_ravdess": ("voices, RAVDESS, 2 unseen actors, 7 labels", "uar"),
    "speech_nemo_pl": ("voices, nEMO (Polish), 2 unseen speakers, 6 labels", "uar"),
    "speech_emodb": ("voices, EMO-DB (German), 2 unseen speakers, 6 labels", "uar"),
    "goemotions": ("texts, GoEmotions dev, 7 labels", "accuracy"),
    "meld_text": ("texts, MELD dev, 7 labels", "weighted_f1"),
}
METHODS = Path(__file__).resolve().parent / "methods" / "methods.json"
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


def figures_from_results(folder: Path = RESULTS) -> str:
    """Returns the README's table as Markdown."""
    read = {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in _names()}
    machine = read["hop"]["machine"]
    packages = machine["packages"]
    lines = [
        f"On {machine['processors']} shared processors ({machine['cpu'].split(',')[1].strip()}), one thread, "
        f"onnxruntime {packages['onnxruntime']}, Python {machine['python']}, {machine['date']}; "
        "the budgets are the project's own. More in [benchmarks/results](benchmarks/results).",
        "",
        "| speed, memory, size | int8 | fp32 | budget |",
        "| --- | ---: | ---: | ---: |",
        *_speed_rows({name: document["figures"] for name, document in read.items()}),
        "",
        "| accuracy on people and sentences never trained on (val/dev) | n | int8 | fp32 |",
        "| --- | ---: | ---: | ---: |",
        *_accuracy_rows(read["accuracy"]["figures"]["data"]),
        "",
        "| the methods on CMU-MOSI, unseen videos, accuracy over five seeds | mean of 7 subsets "
        "| all three | int8 engines |",
        "| --- | ---: | ---: | ---: |",
        *_method_rows(json.loads(METHODS.read_text("utf-8"))["methods"]),
        "",
    ]
    return "\n".join(lines)


def _names() -> tuple[str, ...]:
    return ("engines", "footprint", "hop", "memory", "startup", "accuracy")


def _speed_rows(figures: dict[str, Any]) -> list[str]:
    hop, memory, start = figures["hop"]["variants"], figures["memory"]["variants"], figures["startup"]
    engines = {(row["engine"], row["variant"]): row for row in figures["engines"]["engines"]}

    def row(what: str, of: Any, budget: str) -> str:
        return f"| {what} | {of('int8')} | {of('fp32')} | {budget} |"

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
        f"| the bundle that ships: stems and seven engines, int8 + fp16 | {listed / 1e6:.1f} MB | | 8 MB |",
    ]


def _accuracy_rows(data: dict[str, Any]) -> list[str]:
    rows = []
    for folder, (words, metric) in _SHOWN.items():
        found = {variant: result["results"][0] for variant, result in data[folder].items()}
        values = " | ".join(
            f"{100 * found[variant]['metrics'][metric]:.1f} %" for variant in ("int8", "fp32")
        )
        rows.append(f"| {words}: {_METRICS[metric]} | {found['fp32']['metrics']['n']} | {values} |")
    return rows


def _method_rows(methods: dict[str, Any]) -> list[str]:
    rows = []
    for method, words in _METHODS.items():
        of = {subset: np.array(scores["accuracy"]) for subset, scores in methods[method]["by_seed"].items()}
        shown = (np.mean(list(of.values()), axis=0), of["audio+video+text"])  # (seeds,) each
        values = " | ".join(f"{100 * x.mean():.1f} ± {100 * x.std(ddof=1):.1f}" for x in shown)
        rows.append(f"| {words} | {values} | {methods[method]['size']['int8_bytes'] / 1e6:.2f} MB |")
    return rows


def main() -> None:
    """Rewrites the block between the markers."""
    text = README.read_text("utf-8")
    README.write_text(_BLOCK.sub(lambda match: match[1] + figures_from_results() + match[2], text), "utf-8")


if __name__ == "__main__":
    main()
