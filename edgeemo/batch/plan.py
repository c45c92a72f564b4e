"""How recordings are scored: what two runs must have in common to go on with each other's readings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeemo import __version__
from edgeemo.bundle import Bundle
from edgeemo.errors import BundleError
from edgeemo.records import RecordHeader, header_from_manifest
from edgeemo.session import EngineOptions
from edgeemo.session.settings import settings_from_thresholds, settings_with
from edgeemo.shipped import DEFAULT_BUNDLE

MOST_BYTES = 16_000_000_000


@dataclass(frozen=True)
class Plan:
    """How recordings are scored, the same on every machine.

    Attributes:
        bundle: folder of the bundle, at the same place on every machine; None for the one that ships.
        bundle_sha256: of its manifest, so that no machine scores with another one.
        engines: which engines are opened, and how.
        settings: changes to the bundle's settings, by name.
        most_bytes: what is fetched of one recording in a bucket.
    """

    bundle: str | None
    bundle_sha256: str
    engines: EngineOptions = field(default_factory=EngineOptions)
    settings: Mapping[str, Any] = field(default_factory=dict)
    most_bytes: int = MOST_BYTES

    @property
    def folder(self) -> Path:
        """Where the bundle lies on this machine."""
        return DEFAULT_BUNDLE if self.bundle is None else Path(self.bundle)

    def open_bundle(self) -> Bundle:
        """Returns the bundle, opened on this machine.

        Raises:
            BundleError, FormatVersionError: it is not there, broken, or another one than was planned with.
        """
        bundle = Bundle.open(self.folder)
        if bundle.manifest_sha256 != self.bundle_sha256:
            raise BundleError(
                f"{self.folder} is {bundle.manifest_sha256[:12]} here, and the run began with "
                f"{self.bundle_sha256[:12]}; put the same bundle on every machine"
            )
        return bundle

    def header(self, bundle: Bundle) -> RecordHeader:
        """Returns what the readings of each recording are of."""
        settings = settings_with(settings_from_thresholds(bundle.manifest.thresholds), self.settings)
        return header_from_manifest(bundle.manifest, hop_s=settings.hop_s)

    def identity(self) -> dict[str, Any]:
        """Returns what decides the readings, as plain data: equal where runs may be mixed."""
        return {
            "bundle": self.bundle_sha256,
            "settings": dict(sorted(self.settings.items())),
            **json.loads(json.dumps(asdict(self.engines))),
            "edgeemo": __version__,
        }


def plan_from_options(
    bundle: str | None,
    *,
    engines: EngineOptions,
    settings: Mapping[str, Any],
    most_bytes: int = MOST_BYTES,
) -> Plan:
    """Returns the plan for the bundle as it is now.

    Raises:
        BundleError, FormatVersionError: no bundle there, or a broken one.
    """
    place = None if bundle is None else str(Path(bundle).resolve())
    opened = Bundle.open(DEFAULT_BUNDLE if place is None else Path(place))
    return Plan(place, opened.manifest_sha256, engines, dict(settings), most_bytes)


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns in words how two identities differ; empty where they do not."""
    said = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old != new:
            short = (lambda value: str(value)[:12]) if key == "bundle" else str
            said.append(f"{key} {short(old)}, now {short(new)}")
    return "; ".join(said)
