"""Really running an engine on a backend, in a process of its own: a driver that hangs hangs only that."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from edgeemo.bundle import Bundle
from edgeemo.doctor.report import BackendTrial, without_private
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.choose import typical_feed
from edgeemo.runtimes.open import open_engine
from edgeemo.runtimes.reference import compare_with_reference

TRIAL_S = 120.0
"""How long a backend may take: building a plan for one small engine is most of it."""
_CALLS = 30


def try_backend(backend: str, bundle: Path, *, limit_s: float = TRIAL_S) -> BackendTrial:
    """Returns what comes of opening and running an engine on a backend, whatever its driver does.

    Args:
        backend: a name of `edgeemo.runtimes.open.BACKENDS`.
        bundle: whose engine of its first subset runs.
        limit_s: how long it may take.
    """
    command = [sys.executable, "-m", "edgeemo.doctor.trial", backend, str(bundle)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=limit_s, check=False, text=True)
    except subprocess.TimeoutExpired:
        return BackendTrial(backend, False, f"it hung: no answer within {limit_s:g} s")
    except OSError as error:
        return BackendTrial(backend, False, f"it could not be tried: {error.strerror}")
    try:
        answer = json.loads(child.stdout.splitlines()[-1])  # libraries may have printed before
        return BackendTrial(**answer)
    except (IndexError, ValueError, TypeError):
        said = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit {child.returncode}"
        return BackendTrial(backend, False, without_private(f"it crashed ({how}): {said}"))


def run_trial(backend: str, bundle: Path) -> BackendTrial:
    """Returns what comes of it in this very process."""
    try:
        opened = Bundle.open(bundle)
        subset = next(iter(opened.manifest.engines))
        with open_engine(opened, subset, backend=backend) as runner:
            agreement = compare_with_reference(runner, opened, subset)
            feed, times = typical_feed(runner.inputs), []
            for _ in range(_CALLS):
                begun = time.perf_counter()
                runner.run(feed)
                times.append(time.perf_counter() - begun)
            detail = f"{subset}.{runner.variant} on {runner.backend}: {agreement}"
            return BackendTrial(
                backend,
                agreement.agrees,
                without_private(detail),
                round(median(times) * 1e3, 4),
                round(agreement.rms_error, 6),
            )
    except EdgeEmoError as error:
        return BackendTrial(backend, False, without_private(str(error)))


if __name__ == "__main__":
    print("\n" + json.dumps(vars(run_trial(sys.argv[1], Path(sys.argv[2])))))
