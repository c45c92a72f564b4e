"""Ensembles: what a device calls. From what its sensors gave to probabilities, in one request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeemo.bundle import Bundle
from edgeemo.export.triton.config import TensorConfig
from edgeemo.export.triton.graphs import PASSED_LOGITS, window_items
from edgeemo.export.triton.models import CONFIG, VERSION, ServedModel, provenance_of
from edgeemo.export.triton.names import EMOTION, FROM_FEATURES, model_name
from edgeemo.export.triton.options import ServingOptions
from edgeemo.export.triton.pbtxt import Message, Value, map_entries, parameters, pbtxt_from_message
from edgeemo.modality import subset_members

_SAME: Mapping[str, str] = {}
_INNER = {"logits": "engine.logits"}
_GIVEN = {PASSED_LOGITS: "logits"}


def emotion_of(
    bundle: Bundle,
    subset: str,
    options: ServingOptions,
    *,
    stems: Mapping[str, ServedModel],
    engine: ServedModel,
    probabilities: ServedModel,
) -> ServedModel:
    """Returns the ensemble from whole windows of front-end features to emotion.

    Its parameters tell a device how to make what it sends: the front-end of each modality, how many items a
    window has, left context included, and how many of them make one of its positions.
    """
    members = subset_members(subset)
    steps = [stems[modality] for modality in members]
    sent = {tensor.name: tensor for model in (*steps, engine) for tensor in model.inputs}
    made = {tensor.name for model in steps for tensor in model.outputs}
    inputs = [tensor for name, tensor in sent.items() if name not in made]
    about = {"subset": subset}
    for modality in members:
        spec = bundle.manifest.modality(modality)
        about[f"front_end.{modality}"] = _json(spec.front_end)
        about[f"window.{modality}"] = _json(
            {
                "items": window_items(spec),
                "positions": spec.window.length,
                "stride": spec.stem.stride,
                "window_s": spec.window.window_s,
            }
        )
    name = model_name(EMOTION, subset)
    return _ensemble(name, bundle, options, inputs=inputs, steps=[*steps, engine, probabilities], about=about)


def from_features_of(
    bundle: Bundle,
    subset: str,
    options: ServingOptions,
    *,
    engine: ServedModel,
    probabilities: ServedModel,
) -> ServedModel:
    """Returns the ensemble from features to emotion, for a device that runs the stems itself."""
    name = model_name(FROM_FEATURES, subset)
    return _ensemble(
        name,
        bundle,
        options,
        inputs=engine.inputs,
        steps=[engine, probabilities],
        about={"subset": subset},
    )


def _ensemble(
    name: str,
    bundle: Bundle,
    options: ServingOptions,
    *,
    inputs: Sequence[TensorConfig],
    steps: Sequence[ServedModel],
    about: Mapping[str, str],
) -> ServedModel:
    # What an ensemble gives must be nothing that one of its steps takes: see `probabilities_model`.
    *stems, engine, probabilities = steps
    outputs = [
        *(replace(tensor, name=_GIVEN.get(tensor.name, tensor.name)) for tensor in probabilities.outputs),
        *(tensor for tensor in engine.outputs if tensor.name not in _INNER),
    ]
    chain = [
        *(_step(stem) for stem in stems),
        _step(engine, outputs=_INNER),
        _step(probabilities, inputs=_INNER, outputs=_GIVEN),
    ]
    labels = _json(list(bundle.manifest.labels))
    told = provenance_of(bundle, options.chosen_variant) | {"labels": labels, **about}
    fields: dict[str, Value] = {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": options.max_batch,
        "input": [tensor.message() for tensor in inputs],
        # The labels' file is that of the model that makes the probabilities.
        "output": [_without_labels(tensor.message()) for tensor in outputs],
        "version_policy": {"latest": {"num_versions": 1}},
        "ensemble_scheduling": {"step": chain},
        "parameters": parameters(told),
    }
    files = {CONFIG: pbtxt_from_message(fields).encode(), f"{VERSION}/.keep": b""}
    return ServedModel(name, tuple(inputs), tuple(outputs), files)


def _step(
    model: ServedModel, *, inputs: Mapping[str, str] = _SAME, outputs: Mapping[str, str] = _SAME
) -> Message:
    """Returns a step; a tensor has one name in model and ensemble unless ``inputs`` or ``outputs`` say so."""
    return {
        "model_name": model.name,
        "model_version": -1,
        "input_map": map_entries({item.name: inputs.get(item.name, item.name) for item in model.inputs}),
        "output_map": map_entries({item.name: outputs.get(item.name, item.name) for item in model.outputs}),
    }


def _without_labels(message: Message) -> Message:
    return {field: value for field, value in message.items() if field != "label_filename"}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
