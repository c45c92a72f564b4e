"""A second CPU backend that stands where an accelerator would be: what it needs is built beside the session.

``python -m benchmarks.gpu.stand_in BUNDLE NAME VARIANT MARK`` is that build: where TensorRT for RTX is
installed it makes the real plan for sm_89, at the lowest priority as `edgeemo.runtimes.plans.child` does;
where it is not, it sleeps.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from edgeemo.bundle import Bundle, GraphFile
from edgeemo.runtimes.backends import Backend, read_graph
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.ort import OrtRunner
from edgeemo.runtimes.plans.child import lower_priority
from edgeemo.runtimes.plans.source import PlanSource
from edgeemo.runtimes.trt_library import RTX, is_installed, load_library

NAME = "second-cpu"
_SLEEP_S = 1.0


class SecondCpu(Backend):
    """onnxruntime on the CPU once more, under another name.

    Args:
        folder: where its builds leave their marks.
    """

    name = NAME
    variants = ("fp16",)
    builds = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def why_not(self) -> str:
        """Always usable."""
        return ""

    def is_prepared(self, bundle: Bundle, name: str, variant: str) -> bool:
        """Tells whether the build of an engine was finished."""
        return (self._folder / name).exists()

    def prepare_command(self, bundle: Bundle, name: str, variant: str) -> Sequence[str]:
        """Returns this module as a program."""
        mark = str(self._folder / name)
        return (sys.executable, "-m", "benchmarks.gpu.stand_in", str(bundle.path), name, variant, mark)

    def open_graph(self, graph: GraphFile, name: str, variant: str, *, threads: int, build: bool) -> Runner:
        """Opens it in onnxruntime."""
        runner = OrtRunner(graph, engine=name, variant=variant, threads=threads)
        runner.backend = self.name
        return runner


def build(bundle: str, name: str, variant: str) -> None:
    """Builds the plan of an engine for a GPU that is not here; waits where nothing can build it."""
    lower_priority()
    if not is_installed(RTX):
        time.sleep(_SLEEP_S)
        return
    model = read_graph(Bundle.open(bundle), name, variant).self_contained()
    PlanSource(load_library(RTX), model, name, variant, ((8, 9),)).build()


if __name__ == "__main__":
    build(*sys.argv[1:4])
    Path(sys.argv[4]).touch()
