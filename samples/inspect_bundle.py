"""Look into a bundle: what it takes, which engines it has, whether every file is what it promises.

python samples/inspect_bundle.py
python samples/inspect_bundle.py my_bundle
"""

from __future__ import annotations

import argparse

import edgeemo
from edgeemo.shipped import DEFAULT_BUNDLE


def main() -> None:
    """Prints modalities, engines and terms."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("bundle", nargs="?", default=DEFAULT_BUNDLE, help="default: the one that ships")
    args = parser.parse_args()

    bundle = edgeemo.Bundle.open(args.bundle)
    bundle.verify()  # every byte, against the manifest
    manifest = bundle.manifest
    print(f"{manifest.model_id}: {', '.join(manifest.labels)}; a reading every {manifest.hop_s:g} s")
    for modality in manifest.modalities:
        kind, window = modality.front_end["kind"], modality.window
        print(f"  {modality.name:<6} through {kind}, {window.length} features over {window.window_s:g} s")
    for subset, variants in manifest.engines.items():
        sizes = [f"{name} {manifest.files[file].bytes / 1e3:.0f} kB" for name, file in variants.items()]
        print(f"  engine {subset:<17} {', '.join(sizes)}")
    print(f"{manifest.licence.weights}: {manifest.licence.notice}")


if __name__ == "__main__":
    main()
