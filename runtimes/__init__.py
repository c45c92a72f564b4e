"""Opens engines on the backends of this machine."""

from edgeemo.runtimes.base import Runner, TensorSpec, VariantChoice
from edgeemo.runtimes.open import AUTO, BACKENDS, open_engine, open_stem
from edgeemo.runtimes.ort import OrtRunner

__all__ = [
    "AUTO",
    "BACKENDS",
    "OrtRunner",
    "Runner",
    "TensorSpec",
    "VariantChoice",
    "open_engine",
    "open_stem",
]
