"""Turn a trained checkpoint into a bundle of engines, one for each subset of sensors, and look at it.

python samples/export_checkpoint.py samples/checkpoints/live my_bundle
python samples/export_checkpoint.py samples/checkpoints/live small_bundle --subset audio --variant int8
"""

from __future__ import annotations

import argparse

import edgeemo
from edgeemo.export import DEFAULT_VARIANTS, export_bundle


def main() -> None:
    """Exports and prints what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder that training wrote")
    parser.add_argument("bundle", help="folder to write")
    parser.add_argument("--subset", action="append", help="only this one; repeatable")
    parser.add_argument(
        "--variant", action="append", help="only this one: fp32, int8, fp16, int8-trt; repeatable"
    )
    args = parser.parse_args()

    variants = args.variant or DEFAULT_VARIANTS  # int8 for CPUs, fp16 for GPUs
    export_bundle(args.checkpoint, args.bundle, subsets=args.subset, variants=variants)
    bundle = edgeemo.Bundle.open(args.bundle)
    print(bundle)
    for subset, variants in bundle.manifest.engines.items():
        for variant, file in variants.items():
            print(f"{subset:<18} {variant:<8} {bundle.manifest.files[file].bytes / 1e3:8.1f} kB")


if __name__ == "__main__":
    main()
