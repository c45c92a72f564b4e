"""The models of a repository that run graphs: one for each stem, each engine and each subset's softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import onnx

from edgeemo.bundle import Bundle
from edgeemo.export.triton.config import LABELS_FILE, TensorConfig, graph_config, inputs_of, outputs_of
from edgeemo.export.triton.graphs import (
    bytes_of,
    probabilities_model,
    read_model,
    rows_alone,
    window_stem,
)
from edgeemo.export.triton.names import ENGINE, PROBABILITIES, STEM, STEM_BLOCK, model_name
from edgeemo.export.triton.options import ServingOptions

CONFIG = "config.pbtxt"
VERSION = "1"


@dataclass(frozen=True, eq=False)
class ServedModel:
    """One folder of the repository.

    Attributes:
        name: of the model and of its folder.
        inputs: what a request brings.
        outputs: what the answer holds.
        files: path within the folder -> contents.
    """

    name: str
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    files: Mapping[str, bytes]


def stem_of(bundle: Bundle, modality: str, options: ServingOptions) -> ServedModel:
    """Returns the model that runs a whole window through the stem of a modality."""
    spec, variant = bundle.manifest.modality(modality), options.chosen_variant
    graph = window_stem(read_model(bundle.read_stem(modality, variant)), spec)
    source = bundle.manifest.stems[modality][variant]
    about = provenance_of(bundle, variant) | {"modality": modality, "source_file": source}
    return _served(model_name(STEM, modality), graph, options, about)


def stem_block_of(bundle: Bundle, modality: str, options: ServingOptions) -> ServedModel | None:
    """Returns the model that runs the stem on one block, as a session does; None where it takes windows."""
    if bundle.manifest.modality(modality).stem.scope == "window":
        return None
    variant = options.chosen_variant
    graph = rows_alone(read_model(bundle.read_stem(modality, variant)))
    source = bundle.manifest.stems[modality][variant]
    about = provenance_of(bundle, variant) | {"modality": modality, "source_file": source}
    return _served(model_name(STEM_BLOCK, modality), graph, options, about)


def engine_of(bundle: Bundle, subset: str, options: ServingOptions) -> ServedModel:
    """Returns the model that runs the engine of a subset."""
    variant = options.chosen_variant
    graph = rows_alone(read_model(bundle.read_engine(subset, variant)))
    source = bundle.manifest.engines[subset][variant]
    about = provenance_of(bundle, variant) | {"subset": subset, "source_file": source}
    return _served(model_name(ENGINE, subset), graph, options, about)


def probabilities_of(bundle: Bundle, subset: str, options: ServingOptions) -> ServedModel:
    """Returns the model that makes probabilities of a subset's logits, by its temperature and prior."""
    spec = bundle.manifest.subsets[subset]
    about = provenance_of(bundle, "fp32") | {"subset": subset, "temperature": repr(spec.temperature)}
    labels = "".join(f"{label}\n" for label in bundle.manifest.labels).encode()
    graph = probabilities_model(spec)
    return _served(model_name(PROBABILITIES, subset), graph, options, about, {LABELS_FILE: labels})


def provenance_of(bundle: Bundle, variant: str) -> dict[str, str]:
    """Returns what every model says about where it is from."""
    manifest = bundle.manifest
    return {
        "bundle_sha256": bundle.manifest_sha256,
        "licence": manifest.licence.weights,
        "model_id": manifest.model_id,
        "non_commercial": "true" if manifest.licence.non_commercial else "false",
        "variant": variant,
    }


@lru_cache(maxsize=1)
def served_program() -> bytes:
    """Returns the ``model.py`` of the python backend, the same for every model."""
    return Path(__file__).with_name("served_model.py").read_bytes()


def _served(
    name: str,
    graph: onnx.ModelProto,
    options: ServingOptions,
    provenance: Mapping[str, str],
    beside: Mapping[str, bytes] | None = None,
) -> ServedModel:
    inputs, outputs = inputs_of(graph), outputs_of(graph)
    config = graph_config(name, inputs, outputs, options, provenance)
    files = {CONFIG: config.encode(), f"{VERSION}/model.onnx": bytes_of(graph), **(beside or {})}
    if options.backend == "python":
        files[f"{VERSION}/model.py"] = served_program()
    return ServedModel(name, inputs, outputs, files)
