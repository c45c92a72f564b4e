"""Merge a new adapter into an installed bundle while a session runs on it: no pause, no lost reading.

python samples/update_adapter.py my_bundle samples/checkpoints/live text=adapters/new
python samples/update_adapter.py my_bundle samples/checkpoints/live text=adapters/new --undo
"""

from __future__ import annotations

import argparse

import edgeemo
from edgeemo.bundle import BundleWriter
from edgeemo.export import update_bundle


def show(session: edgeemo.Session, at_s: float) -> None:
    """Prints what the session says of the words that it heard, and from which state of the bundle."""
    reading = session.read(at_s=at_s)
    state = session.stats().manifest_sha256[:12]
    print(f"{at_s:.1f} s: {reading.label} {reading.confidence:.2f} from {reading.engine}, bundle {state}")


def main() -> None:
    """Reads, updates, reads again; takes the update back if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="folder of a bundle that may be changed")
    parser.add_argument("base", help="the checkpoint that it was made from")
    parser.add_argument("adapter", help="SUBSET=DIR, or common=DIR for all subsets")
    parser.add_argument("--undo", action="store_true", help="take the update back at the end")
    args = parser.parse_args()
    subset, _, folder = args.adapter.partition("=")

    with edgeemo.Session(args.bundle) as session:
        session.push_text("I am so happy that you came, this is wonderful!", time_s=0.0)
        show(session, 0.5)
        report = update_bundle(args.bundle, args.base, {subset: folder})
        for engine in report.engines:
            print(f"{engine.subset} made anew in {engine.seconds:.2f} s, judged by {engine.judged_by}")
        session.reload().result()  # or session.watch(), which does it whenever the bundle changes
        show(session, 1.0)
        if args.undo:
            with BundleWriter(args.bundle) as writer:
                writer.rollback()
            session.reload().result()
            show(session, 1.5)
        for event in session.events():
            print(f"{event.kind}: {event.message}")
        print(f"the last exchange took {session.stats().reloads.swap_ms or 0:.3f} ms")


if __name__ == "__main__":
    main()
