"""From a bundle to runners: one function for engines, one for stems, and the one place that picks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from edgeemo.bundle import Bundle, GraphFile
from edgeemo.errors import BackendError
from edgeemo.modality import parse_subset
from edgeemo.runtimes.base import Runner, VariantChoice
from edgeemo.runtimes.choose import choose_variant
from edgeemo.runtimes.machine import cpu_model
from edgeemo.runtimes.ort import OrtRunner, onnxruntime_version

AUTO = "auto"
BACKENDS = ("cpu",)
LOCAL_VARIANTS = {"cpu": ("fp32", "int8", "fp16")}
"""What "auto" may pick on each backend; any variant of the bundle can be asked for by name."""


def open_engine(
    bundle: Bundle,
    subset: str,
    *,
    variant: str = AUTO,
    backend: str = AUTO,
    threads: int = 1,
    share_weights: bool = False,
) -> Runner:
    """Returns the engine of a subset, opened; its ``choice`` tells why this variant runs.

    Args:
        bundle: where it comes from.
        subset: such as ``audio+video``; any order of the modalities.
        variant: ``fp32``, ``int8``, ...; "auto" takes the fastest here, timed on this machine at first.
        backend: ``cpu``; "auto" takes the best that is here.
        threads: threads of one call.
        share_weights: as `OrtRunner`.

    Raises:
        SubsetError: the bundle has no engine for this subset.
        InputError: the engine has no such variant.
        BackendError: there is no such backend, or it cannot open the engine.
        BundleError: the file is not what the manifest promises.
        MissingDependencyError: onnxruntime is not installed.
    """
    bundle.variants(subset)  # refuses a subset without an engine
    engine = parse_subset(subset, bundle.manifest.order)
    return _open(
        bundle,
        engine,
        bundle.manifest.engines[engine],
        lambda name: bundle.read_engine(engine, name),
        variant=variant,
        backend=backend,
        threads=threads,
        share_weights=share_weights,
    )


def open_stem(
    bundle: Bundle,
    modality: str,
    *,
    variant: str = AUTO,
    backend: str = AUTO,
    threads: int = 1,
    share_weights: bool = False,
) -> Runner:
    """Returns the stem of a modality, opened; its ``choice`` tells why this variant runs.

    Args:
        bundle: where it comes from.
        modality: such as ``audio``.
        variant: as `open_engine`.
        backend: as `open_engine`.
        threads: threads of one call.
        share_weights: as `OrtRunner`.

    Raises:
        SubsetError: the bundle has no such modality.
        InputError: the stem has no such variant.
        BackendError: there is no such backend, or it cannot open the stem.
        BundleError: the file is not what the manifest promises.
        MissingDependencyError: onnxruntime is not installed.
    """
    name = bundle.manifest.modality(modality).name
    return _open(
        bundle,
        f"stem.{name}",
        bundle.manifest.stems[name],
        lambda chosen: bundle.read_stem(name, chosen),
        variant=variant,
        backend=backend,
        threads=threads,
        share_weights=share_weights,
    )


def pick_backend(backend: str) -> str:
    """Returns the backend that "auto" means here; any other name must be one that exists.

    Raises:
        BackendError: there is no such backend; the message lists those there are.
    """
    if backend == AUTO:
        return BACKENDS[0]
    if backend not in BACKENDS:
        raise BackendError(f"unknown backend {backend!r}; choose one of: {', '.join((AUTO, *BACKENDS))}")
    return backend


def fallbacks(files: Iterable[str], *, variant: str, backend: str) -> tuple[tuple[str, str], ...]:
    """Returns everything that an engine could run as here, best first: what takes over where one fails.

    Args:
        files: the variants that the bundle has of it.
        variant: the one asked for, which comes first on each backend, or "auto".
        backend: the one asked for, which comes first, or "auto".

    Returns:
        (backend, variant) pairs; what "auto" never picks (`LOCAL_VARIANTS`) comes last, on the CPU.
    """
    there = tuple(files)
    first = pick_backend(backend)
    places = []
    for place in (first, *(other for other in BACKENDS if other != first)):
        local = [name for name in LOCAL_VARIANTS[place] if name in there]
        places += [(place, name) for name in sorted(local, key=lambda name: name != variant)]
    rest = [("cpu", name) for name in there if ("cpu", name) not in places]
    return tuple(places + rest)


def _open(
    bundle: Bundle,
    engine: str,
    files: Mapping[str, str],
    read: Callable[[str], GraphFile],
    *,
    variant: str,
    backend: str,
    threads: int,
    share_weights: bool,
) -> Runner:
    """Opens one variant by name, or the best of the variants in ``files`` (variant -> file name)."""
    place = pick_backend(backend)

    def open_variant(name: str) -> Runner:
        return OrtRunner(
            read(name), engine=engine, variant=name, threads=threads, share_weights=share_weights
        )

    if variant != AUTO:
        runner = open_variant(variant)
        runner.choice = VariantChoice(engine, variant, (), "asked")
        return runner
    candidates = [name for name in LOCAL_VARIANTS[place] if name in files] or list(files)
    key: dict[str, Any] = {
        "backend": place,
        "cpu": cpu_model(),
        "onnxruntime": onnxruntime_version(),
        "threads": threads,
        "files": {name: bundle.manifest.files[files[name]].sha256 for name in candidates},
        **({"share_weights": True} if share_weights else {}),
    }
    return choose_variant(engine, candidates, open_variant, key=key)
