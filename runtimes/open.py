"""From a bundle to runners: one function for engines, one for stems, and the one place that picks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, MissingDependencyError
from edgeemo.modality import parse_subset
from edgeemo.runtimes.backends import CHAIN, CPU, Backend, backend_named, better_than, read_graph
from edgeemo.runtimes.base import Runner, VariantChoice
from edgeemo.runtimes.choose import choose_variant
from edgeemo.runtimes.machine import cpu_model
from edgeemo.runtimes.ort import OrtRunner, onnxruntime_version
from edgeemo.runtimes.ort_providers import OPENVINO

log = logging.getLogger(__name__)
AUTO = "auto"
HOST = "host"
"""As "auto", but on the CPU alone: for who moves up to an accelerator later and keeps this one beside it."""
BACKENDS = tuple(backend.name for backend in CHAIN)
"""Names of all backends, in the order in which "auto" prefers them."""
LOCAL_VARIANTS = {backend.name: backend.variants for backend in CHAIN}
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
        backend: one of `BACKENDS`, which is used or refused; "auto" takes the first that works here and has
            nothing to build, and keeps why others were rejected in ``choice``.
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
        variant=variant,
        backend=backend,
        threads=threads,
        share_weights=share_weights,
    )


def pick_backend(backend: str) -> str:
    """Returns the backend that "auto" opens engines on at once here; any other name must be one that exists.

    Plans of TensorRT are looked up for each engine, so "auto" may open some of them there all the same.

    Raises:
        BackendError: there is no such backend; the message lists those there are.
    """
    if backend == HOST:
        return CPU
    if backend != AUTO:
        return backend_named(backend).name
    at_once = (
        each
        for each in CHAIN
        if not each.builds and not each.asked_only and (each.name == CPU or not each.host)
    )
    return next(each.name for each in at_once if not each.why_not())


def fallbacks(files: Iterable[str], *, variant: str, backend: str) -> tuple[tuple[str, str], ...]:
    """Returns everything that an engine could run as here, best first: what takes over where one fails.

    Args:
        files: the variants that the bundle has of it.
        variant: the one asked for, which comes first on each backend, or "auto".
        backend: the one asked for, which comes first, or "auto".

    Returns:
        (backend, variant) pairs; what "auto" never picks (`LOCAL_VARIANTS`) comes last, on the CPU. Backends
        that cannot be used here are not among them, nor are plans that would have to be built first, unless
        one of these was asked for.
    """
    there = tuple(files)
    first = pick_backend(backend)
    others = (each for each in CHAIN if each.name != first and not each.builds and not each.asked_only)
    places = []
    for place in (first, *(each.name for each in others if not each.why_not())):
        local = [name for name in LOCAL_VARIANTS[place] if name in there]
        places += [(place, name) for name in sorted(local, key=lambda name: name != variant)]
    rest = [(CPU, name) for name in there if (CPU, name) not in places]
    return tuple(places + rest)


def _open(
    bundle: Bundle,
    engine: str,
    files: Mapping[str, str],
    *,
    variant: str,
    backend: str,
    threads: int,
    share_weights: bool,
) -> Runner:
    """Opens one variant by name, or the best of the variants in ``files`` (variant -> file name)."""
    if variant != AUTO and variant not in files:
        read_graph(bundle, engine, variant)  # refuses it, and lists those there are
    request = _Request(bundle, engine, files, variant, threads, share_weights)
    if backend == HOST:
        later = [(place.name, place.why_not() or "not opened at first") for place in better_than(CPU)]
        return _with_rejected(request.open_on_host(later), later)
    if backend != AUTO:
        return request.open_on(backend_named(backend), build=True)
    rejected: list[tuple[str, str]] = []
    for place in CHAIN:
        if place.asked_only:
            continue
        if place.host:
            break
        why = place.why_not()
        if not why:
            try:
                runner = request.open_on(place, build=False)
            except (BackendError, MissingDependencyError) as error:
                why = str(error)
            else:
                return _with_rejected(runner, rejected)
        log.info("%s: not on %s: %s", engine, place.name, why)
        rejected.append((place.name, why))
    return _with_rejected(request.open_on_host(rejected), rejected)


def _with_rejected(runner: Runner, rejected: list[tuple[str, str]]) -> Runner:
    if runner.choice is not None:
        runner.choice = replace(runner.choice, rejected=tuple(rejected))
    return runner


@dataclass(frozen=True)
class _Request:
    """What is to be opened."""

    bundle: Bundle
    engine: str
    files: Mapping[str, str]
    variant: str
    threads: int
    share_weights: bool

    def open_on(self, place: Backend, *, build: bool) -> Runner:
        """Opens it on one backend."""
        local = [name for name in place.variants if name in self.files]
        if self.variant == AUTO and not local and place.name != CPU:
            raise BackendError(
                f"engine {self.engine}: {place.name} runs {' or '.join(place.variants)}; this bundle has "
                f"it in {', '.join(self.files)}"
            )
        return self._choose([place], build=build)

    def open_on_host(self, rejected: list[tuple[str, str]]) -> Runner:
        """Opens it on the CPU, by whichever of the two providers is faster here where both can be had."""
        cpu, openvino = backend_named(CPU), backend_named(OPENVINO)
        why = openvino.why_not()
        if not why and self.variant not in (AUTO, *openvino.variants):
            why = f"it runs {', '.join(openvino.variants)}"
        if why:
            rejected.append((OPENVINO, why))
            return self._choose([cpu])
        runner = self._choose([cpu, openvino])
        if runner.backend != OPENVINO:
            rejected.append((OPENVINO, "slower here than the CPU provider, or it failed"))
        return runner

    def _choose(self, places: list[Backend], *, build: bool = False) -> Runner:
        """Times what may run, once on this machine, and opens the fastest."""
        candidates: dict[str, tuple[Backend, str]] = {}
        for place in places:
            local = [name for name in place.variants if name in self.files]
            if self.variant != AUTO:
                local = [self.variant]
            elif place.name == CPU:
                local = local or list(self.files)
            label = "{}" if place is places[0] else "{} on " + place.name
            candidates |= {label.format(name): (place, name) for name in local}

        def open_label(label: str) -> Runner:
            place, name = candidates[label]
            if place.name != CPU:
                return place.open(self.bundle, self.engine, name, threads=self.threads, build=build)
            return OrtRunner(
                read_graph(self.bundle, self.engine, name),
                engine=self.engine,
                variant=name,
                threads=self.threads,
                share_weights=self.share_weights,
            )

        if self.variant != AUTO and len(candidates) == 1:
            runner = open_label(next(iter(candidates)))
            runner.choice = VariantChoice(self.engine, self.variant, (), "asked")
            return runner
        if len(candidates) == 1:
            return choose_variant(self.engine, list(candidates), open_label, key={})
        hashes = {
            label: self.bundle.manifest.files[self.files[name]].sha256
            for label, (_, name) in candidates.items()
        }
        key: dict[str, Any] = {
            "backend": ",".join(place.name for place in places),
            "cpu": cpu_model(),
            "onnxruntime": onnxruntime_version() if places[0].host else "",
            "threads": self.threads,
            "files": hashes,
            **({"share_weights": True} if self.share_weights else {}),
            **({} if places[0].host else {"gpu": places[0].machine()}),
        }
        return choose_variant(self.engine, list(candidates), open_label, key=key)
