"""From a bundle to a model repository for NVIDIA Triton Inference Server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeemo.bundle import Bundle
from edgeemo.errors import InputError
from edgeemo.export.triton.ensemble import emotion_of, from_features_of
from edgeemo.export.triton.folder import check_target, write_folder
from edgeemo.export.triton.models import engine_of, probabilities_of, stem_block_of, stem_of
from edgeemo.export.triton.options import ServingOptions
from edgeemo.modality import parse_subset, subset_members


@dataclass(frozen=True)
class RepositoryReport:
    """What was written.

    Attributes:
        repository: the folder to start the server on.
        model_id: of the bundle.
        bundle_sha256: of the bundle's manifest.
        variant: of engines and stems.
        backend: of Triton, which every model that is no ensemble asks for.
        ensembles: subset -> the model that takes windows of front-end features.
        from_features: subset -> the model that takes features.
        models: name -> bytes of its folder, in the order they were made.
    """

    repository: Path
    model_id: str
    bundle_sha256: str
    variant: str
    backend: str
    ensembles: dict[str, str]
    from_features: dict[str, str]
    models: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """Bytes of all models."""
        return sum(self.models.values())

    def to_json(self) -> dict[str, object]:
        """Returns plain data for a JSON file."""
        return {**vars(self), "repository": str(self.repository), "total_bytes": self.total_bytes}


def write_triton_repository(
    bundle: Bundle,
    out: str | Path,
    *,
    subsets: Sequence[str] | None = None,
    options: ServingOptions | None = None,
) -> RepositoryReport:
    """Writes a bundle as a model repository; the same bundle and options give the same bytes.

    For each subset there is an engine, its softmax and two ensembles; for each modality a stem, once for
    whole windows and, where it is a stream, once for blocks. The folder changes in one step at the end.

    Args:
        bundle: what is to be served.
        out: a new or empty folder, or one that this function wrote before.
        subsets: those to serve; None for all of the bundle.
        options: how; `ServingOptions()` if None.

    Raises:
        SubsetError: a subset that the bundle has no engine for.
        InputError: an engine or stem lacks the variant.
        BundleError: a file of the bundle is not what the manifest promises.
        ExportError: the folder holds something else, or cannot be written.
    """
    options, out = options or ServingOptions(), Path(out)
    check_target(out)
    manifest, variant = bundle.manifest, options.chosen_variant
    asked = manifest.engines if subsets is None else subsets
    keys = tuple(dict.fromkeys(parse_subset(subset, manifest.order) for subset in asked))
    _check_variant(bundle, keys, variant)
    stems = {
        modality: stem_of(bundle, modality, options)
        for modality in manifest.order
        if any(modality in subset_members(key) for key in keys)
    }
    blocks = [stem_block_of(bundle, modality, options) for modality in stems]
    models = [*stems.values(), *(block for block in blocks if block is not None)]
    ensembles: dict[str, str] = {}
    from_features: dict[str, str] = {}
    for key in keys:
        engine, last = engine_of(bundle, key, options), probabilities_of(bundle, key, options)
        whole = emotion_of(bundle, key, options, stems=stems, engine=engine, probabilities=last)
        short = from_features_of(bundle, key, options, engine=engine, probabilities=last)
        models += [engine, last, whole, short]
        ensembles[key], from_features[key] = whole.name, short.name
    report = RepositoryReport(
        repository=out,
        model_id=manifest.model_id,
        bundle_sha256=bundle.manifest_sha256,
        variant=variant,
        backend=options.backend,
        ensembles=ensembles,
        from_features=from_features,
        models={model.name: sum(map(len, model.files.values())) for model in models},
    )
    files = {f"{model.name}/{name}": data for model in models for name, data in model.files.items()}
    about = {
        "bundle_sha256": bundle.manifest_sha256,
        "ensembles": ensembles,
        "from_features": from_features,
        "licence": vars(manifest.licence),
        "model_id": manifest.model_id,
        "options": vars(options) | {"variant": variant},
    }
    write_folder(out, files, about)
    return report


def _check_variant(bundle: Bundle, keys: Sequence[str], variant: str) -> None:
    """Raises InputError where an engine or stem lacks the variant, before any work."""
    stems = dict.fromkeys(modality for key in keys for modality in subset_members(key))
    for what, held in [
        *((f"the engine for {key!r}", bundle.variants(key)) for key in keys),
        *((f"the stem of {modality!r}", tuple(bundle.manifest.stems[modality])) for modality in stems),
    ]:
        if variant not in held:
            raise InputError(
                f"{what} in {bundle.path} has no variant {variant!r}; it has: {', '.join(held)}. "
                f"Choose one of these, or export the checkpoint with --variant {variant}"
            )
