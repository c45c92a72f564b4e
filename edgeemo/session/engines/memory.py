"""How much memory an open engine takes, estimated from its files before it is opened."""

from __future__ import annotations

from collections.abc import Mapping

from edgeemo.bundle import Bundle
from edgeemo.errors import BundleError

BYTES_PER_BYTE: Mapping[str, float] = {"int8": 3.7, "fp16": 5.6, "fp32": 2.9}
"""Variant -> private bytes of a process for each byte of the graph and of the shared tensors it points to.

Measured on the shipped bundle with onnxruntime 1.31 on x86, each engine and stem opened and run ten times in
one process: 3.3 to 3.7 (int8), 4.1 to 5.6 (fp16, which this CPU computes in fp32) and 2.1 to 2.9 (fp32), so
these are upper bounds. The text stem, most of which is a table that is looked up and never packed, stays at
1.3, 2.0 and 2.1. Together that makes up: all stems and engines are estimated at 15.9 MB (int8) and 34.8 MB
(fp16), and a process that opens and runs them grows by 16.1 to 16.6 and by 33.7. See also
``benchmarks/results/footprint.md``."""
_OTHERS = 5.6


class Footprints:
    """Estimates, each made once: finding them reads the graph."""

    def __init__(self) -> None:
        self._stored: dict[str, int] = {}  # SHA-256 of a graph -> bytes of it and of what it points to

    def learn(self, bundle: Bundle) -> None:
        """Reads all graphs of a bundle, so that no estimate has to wait for a disk later."""
        manifest = bundle.manifest
        for files in (*manifest.stems.values(), *manifest.engines.values()):
            for variant, file in files.items():
                self.estimate_bytes(bundle, file, variant)

    def estimate_bytes(self, bundle: Bundle, file: str, variant: str) -> int:
        """Returns the memory that a graph of a bundle takes once it is open, from above.

        Args:
            bundle: where it lies.
            file: the graph's name in the manifest.
            variant: of the engine or stem.
        """
        key = bundle.manifest.files[file].sha256
        if key not in self._stored:
            self._stored[key] = _stored_bytes(bundle, file)
        return round(BYTES_PER_BYTE.get(variant, _OTHERS) * self._stored[key])


def _stored_bytes(bundle: Bundle, file: str) -> int:
    """Returns the bytes of a graph and of those tensors in shared files that it points to."""
    manifest = bundle.manifest
    own = manifest.files[file].bytes
    shared = manifest.weights.get(file, ())
    if not shared:
        return own
    try:
        return own + sum(array.nbytes for array in bundle.read_graph(file).tensors.values())
    except BundleError:  # whoever opens it says so; all of the shared files is an upper bound
        return own + sum(manifest.files[name].bytes for name in shared)
