"""Run one engine on every backend of this machine: the same windows, do they agree, and how fast are they?

python samples/compare_backends.py
python samples/compare_backends.py my_bundle --subset audio+video
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
import time

import numpy as np

import edgeemo
from edgeemo.runtimes import BACKENDS, open_engine
from edgeemo.runtimes.reference import compare_with_reference, reference_windows
from edgeemo.shipped import DEFAULT_BUNDLE


def main() -> None:
    """Prints a line for each backend and variant."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("bundle", nargs="?", default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--subset", help="default: all modalities of the bundle")
    args = parser.parse_args()

    bundle = edgeemo.Bundle.open(args.bundle)
    subset = args.subset or list(bundle.manifest.engines)[-1]
    windows, _ = reference_windows(bundle, subset)  # every bundle carries some, with the right answers
    print(f"{subset} of {bundle.manifest.model_id}, {len(windows)} windows of the bundle's own")
    for backend, variant in itertools.product(BACKENDS, bundle.variants(subset)):
        try:
            runner = open_engine(bundle, subset, variant=variant, backend=backend)
        except edgeemo.EdgeEmoError as error:
            print(f"{backend:<12} {variant:<6} not here: {textwrap.shorten(str(error), 88)}")
            continue
        with runner:
            agreement = compare_with_reference(runner, bundle, subset)
            times_ms = []
            for window in windows * 10:
                begun = time.perf_counter()
                runner.run(window)
                times_ms.append((time.perf_counter() - begun) * 1e3)
        p50, p95 = np.percentile(times_ms, [50, 95])
        verdict = "agrees" if agreement.agrees else "DISAGREES"
        print(f"{backend:<12} {variant:<6} {verdict}, p50 {p50:.2f} ms, p95 {p95:.2f} ms; {agreement}")


if __name__ == "__main__":
    main()
