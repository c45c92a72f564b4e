"""What a bundle says about itself, as frozen dataclasses.

``manifest.json`` is the only contract between exporter and runtime; `manifest_from_json` and
`json_from_manifest` convert between its text and a `Manifest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeemo.errors import SubsetError


@dataclass(frozen=True)
class WindowSpec:
    """How much of a modality's features an engine looks at.

    Attributes:
        length: positions of the window, T_m of the engine's inputs.
        period_s: seconds between positions; 0 where a position is an event (a word) and has no clock.
        window_s: seconds of the stream that the window covers.
    """

    length: int
    period_s: float
    window_s: float


@dataclass(frozen=True)
class StemSpec:
    """The shape of a stem's work: items in, features out.

    A ``stream`` stem runs on blocks of ``block`` items aligned to stream time, preceded by
    ``left_context`` older items: input (B, left_context + block, *item_shape), output
    (B, block / stride, feature_width). A ``window`` stem runs on a whole window of ``block`` items.

    Attributes:
        stride: items for each feature.
        left_context: items in front of the block that the first feature looks at.
        block: new items of one run.
        scope: ``"stream"`` or ``"window"``.
        item_shape: the shape of one item: (64,) mel bands, (48, 48) grey pixels, (K,) ids.
        dtype: ``"float32"`` or ``"int64"``.
    """

    stride: int
    left_context: int
    block: int
    scope: str
    item_shape: tuple[int, ...]
    dtype: str

    @property
    def features_per_block(self) -> int:
        """Features that one run on a block gives."""
        return self.block // self.stride


@dataclass(frozen=True)
class ModalitySpec:
    """One stream of evidence: its front-end, its stem's shape and its window.

    Attributes:
        name: such as ``"audio"``.
        front_end: ``kind`` and the parameters of the front-end, as its own class reads them.
        feature_width: width D_m of one feature.
        window: what an engine looks at.
        stem: what the stem does.
    """

    name: str
    front_end: Mapping[str, object]
    feature_width: int
    window: WindowSpec
    stem: StemSpec


@dataclass(frozen=True)
class SubsetSpec:
    """How the logits of one subset become probabilities: softmax(logits / temperature + log prior).

    Attributes:
        temperature: above 0; fitted on held-out data.
        prior: probability of each label, in the order of the labels, none of them 0.
    """

    temperature: float
    prior: tuple[float, ...]


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 (64 hexadecimal digits) of one immutable file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Licence:
    """Under which terms the weights may be used.

    Attributes:
        weights: licence of the weights, such as ``"CC BY-NC-SA 4.0"``.
        non_commercial: whether commercial use is excluded.
        notice: the sentence that ``inspect`` and the first session show.
    """

    weights: str
    non_commercial: bool
    notice: str


@dataclass(frozen=True)
class Update:
    """What one engine was made anew from after the export, on the device.

    Attributes:
        files: SHA-256 of each adapter file, by the name that it has in a checkpoint.
        packages: versions of the packages whose code decides over bytes.
        exporter: version of the exporter's own rules.
    """

    files: Mapping[str, str]
    packages: Mapping[str, str]
    exporter: str


@dataclass(frozen=True)
class Provenance:
    """What the engines were made from and with; the same provenance gives the same bytes.

    Attributes:
        checkpoint: SHA-256 of each checkpoint file that the export read, by its relative name.
        packages: versions of the packages whose code decides over bytes.
        exporter: version of the exporter's own rules.
        opset: ONNX operator set of the graphs.
        ir_version: ONNX IR version of the graphs.
        updates: engines made anew since, by subset; what is said above no longer holds for these.
    """

    checkpoint: Mapping[str, str]
    packages: Mapping[str, str]
    exporter: str
    opset: int
    ir_version: int
    updates: Mapping[str, Update] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """Everything that a session has to know about a bundle.

    Attributes:
        model_id: the model's name.
        family: the network family that was trained; nothing here depends on it.
        labels: C labels, in the order of every logits and prior vector.
        hop_s: seconds between readings that the model was made for.
        modalities: in canonical order; only those that an engine of this bundle uses.
        subsets: temperature and prior of each subset that has an engine, single modalities first.
        engines: subset -> variant -> file, relative to the bundle, with forward slashes.
        stems: modality -> variant -> file.
        files: size and hash of every file but ``manifest.json`` and ``report.json``.
        reference: the file of windows with known answers, or None.
        thresholds: named numbers that sessions and gates may look up.
        provenance: what the bundle was made from and with.
        licence: terms of the weights.
        weights: graph file -> the files under ``graphs/weights/`` whose tensors it shares with others;
            a graph that is missing here holds all its tensors itself.
        recipe: the file of choices that the engines were made by, or None.
    """

    model_id: str
    family: str
    labels: tuple[str, ...]
    hop_s: float
    modalities: tuple[ModalitySpec, ...]
    subsets: Mapping[str, SubsetSpec]
    engines: Mapping[str, Mapping[str, str]]
    stems: Mapping[str, Mapping[str, str]]
    files: Mapping[str, FileEntry]
    provenance: Provenance
    licence: Licence
    reference: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: str | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the modalities in canonical order."""
        return tuple(modality.name for modality in self.modalities)

    def modality(self, name: str) -> ModalitySpec:
        """Returns the modality called ``name``.

        Raises:
            SubsetError: there is none of that name; the message lists those there are.
        """
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise SubsetError(f"unknown modality {name!r}; this model has: {', '.join(self.order)}")
