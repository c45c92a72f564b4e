"""What a plan depends on: all of it is in its key, and a plan whose key differs is not used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edgeemo.errors import BackendError
from edgeemo.runtimes.trt_library import TITLES

BUILD_OPTIONS = ("workspace_mb", "dla", "level")
"""Fields of a key that a user chooses; a plan runs whatever they are."""


@dataclass(frozen=True)
class PlanKey:
    """What a plan was built from, with and for.

    Attributes:
        engine_sha256: of the graph with its weights.
        flavour: ``tensorrt`` or ``rtx``.
        version: of the library, in full.
        gpu: the GPU's name; empty for a plan that every GPU of its capabilities runs.
        capabilities: compute capabilities that it is for, ``8.9``.
        precision: the variant, ``fp16`` or ``int8-trt``.
        profile: shape of each input, ``features.audio=1x40x64``, sorted.
        workspace_mb: memory that a layer may use; 0 for the library's own limit.
        dla: core of the deep learning accelerator, or -1.
        level: the builder's effort, or -1 for its default.
    """

    engine_sha256: str
    flavour: str
    version: str
    gpu: str
    capabilities: tuple[str, ...]
    precision: str
    profile: str
    workspace_mb: int = 0
    dla: int = -1
    level: int = -1

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that stand for all of it."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def misfit(self, wanted: PlanKey, *, any_options: bool = False) -> str:
        """Returns why a plan with this key is of no use where ``wanted`` is; empty where it is.

        Args:
            wanted: the key of this machine: one GPU, one capability.
            any_options: whether plans with another workspace, accelerator or effort will do too.
        """
        title = TITLES.get(self.flavour, self.flavour)
        if self.flavour != wanted.flavour:
            return f"plan is for {title}"
        if self.version != wanted.version:
            return f"plan is for {title} {self.version}, here is {wanted.version}"
        if not set(wanted.capabilities) <= set(self.capabilities):
            built = ", ".join(map(sm_name, self.capabilities))
            return f"plan is for {built}, this GPU is {', '.join(map(sm_name, wanted.capabilities))}"
        if self.gpu and self.gpu != wanted.gpu:
            return f"plan is for {self.gpu}, this GPU is {wanted.gpu}"
        of_the_engine = ("engine_sha256", "precision", "profile")
        for field in of_the_engine if any_options else (*of_the_engine, *BUILD_OPTIONS):
            have, want = getattr(self, field), getattr(wanted, field)
            if have != want:
                return f"plan has another {field.replace('_', ' ')}: {have}, wanted {want}"
        return ""


def sm_name(capability: str) -> str:
    """Returns ``sm_89`` for ``8.9``."""
    return "sm_" + capability.replace(".", "")


def capability_name(capability: tuple[int, int]) -> str:
    """Returns ``8.9`` for (8, 9)."""
    return "{}.{}".format(*capability)


def profile_name(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Returns the profile as a key holds it."""
    return ";".join(f"{name}={'x'.join(map(str, shapes[name]))}" for name in sorted(shapes))


def key_from_json(data: Any) -> PlanKey:
    """Returns the key that a plan's header holds.

    Raises:
        BackendError: it is no such key.
    """
    names = {field.name: field.type for field in fields(PlanKey)}
    if not isinstance(data, dict) or set(data) != set(names):
        raise BackendError("the plan's header holds no key of this version")
    listed = data["capabilities"]
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise BackendError("the plan's header holds no compute capabilities")
    for name, kind in names.items():
        expected = {"str": str, "int": int}.get(str(kind))
        if expected is not None and not isinstance(data[name], expected):
            raise BackendError(f"the plan's header holds {name} {data[name]!r}; expected {kind}")
    return PlanKey(**{**data, "capabilities": tuple(listed)})
