"""A program that builds one plan into the cache, at the lowest priority, beside what is running.

``python -m edgeemo.runtimes.plans.child BACKEND BUNDLE MANIFEST_SHA256 NAME VARIANT``. It ends with 0, or
with 1 and one line on stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.backends import read_graph
from edgeemo.runtimes.gpu import gpu_facts
from edgeemo.runtimes.plans.source import source_for_gpu
from edgeemo.runtimes.plans.store import PlanCache

_BELOW_NORMAL = 0x00004000  # BELOW_NORMAL_PRIORITY_CLASS, winbase.h


def build_one(backend: str, folder: str, manifest_sha256: str, name: str, variant: str) -> str:
    """Builds the plan of one engine or stem for the GPU that is here; returns what could not be kept, or "".

    Raises:
        EdgeEmoError: it cannot be built, or the bundle has changed meanwhile.
    """
    bundle = Bundle.open(folder)
    if bundle.manifest_sha256 != manifest_sha256:
        raise EdgeEmoError(f"{folder} has changed since this build was asked for")
    graph = read_graph(bundle, name, variant)
    source = source_for_gpu(backend, graph, gpu_facts(), engine=name, variant=variant)
    cache = PlanCache()
    timing = cache.folder / f"{backend}-{source.library.version}-{gpu_facts().sm}.timing"

    def make() -> tuple[bytes, float]:
        built = source.build(timing=timing)
        return built.plan, built.seconds

    return cache.find_or_build(source.key(), name, make).trouble


def lower_priority() -> None:
    """Lets everything else on this machine go first."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _BELOW_NORMAL)
    else:
        os.nice(19)


def main(words: Sequence[str]) -> int:
    """Runs the program."""
    if len(words) != 5:
        print(__doc__, file=sys.stderr)
        return 2
    lower_priority()
    try:
        trouble = build_one(*words)
    except EdgeEmoError as error:
        print(error, file=sys.stderr)
        return 1
    if trouble:
        print(trouble, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
