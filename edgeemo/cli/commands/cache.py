"""``edgeemo cache``: plans and measurements that this user's machine keeps."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from edgeemo.cli.options.output import add_json_option


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "cache",
        about="TensorRT plans, and which variant was fastest here. Both are made anew when they are missing.",
        examples=(
            ("cache list", "what is kept, and how much room it may take"),
            ("cache clear", "delete all of it"),
        ),
    )
    parser.add_argument("action", choices=("list", "clear"), help="what to do")
    add_json_option(parser, "cache", "cache-clear")


def run(args: argparse.Namespace) -> int:
    """Prints what is kept, or deletes it."""
    from edgeemo.runtimes.cache import cache_folder, clear_facts
    from edgeemo.runtimes.plans.key import sm_name
    from edgeemo.runtimes.plans.store import PlanCache

    cache = PlanCache()
    if args.action == "clear":
        plans, freed = cache.clear()
        facts = clear_facts("variants")
        if args.json:
            print(
                json.dumps(
                    {"folder": str(cache_folder()), "plans": plans, "bytes": freed, "measurements": facts}
                )
            )
        else:
            print(f"{cache_folder()}: {plans} plans ({freed / 1e6:.1f} MB) and {facts} measurements deleted")
        return 0
    entries = cache.entries()
    if args.json:
        listed = [{**asdict(entry), "path": str(entry.path)} for entry in entries]
        document = {
            "folder": str(cache.folder),
            "bytes": cache.total_bytes(),
            "limit_bytes": cache.limit_bytes,
        }
        print(json.dumps({**document, "plans": listed}, indent=1))
        return 0
    for entry in entries:
        key = entry.key
        device = key.gpu or ", ".join(map(sm_name, key.capabilities))
        print(
            f"{entry.engine:<18} {key.precision:<8} {key.flavour} {key.version} for {device}: "
            f"{entry.bytes / 1e6:.1f} MB, {entry.built[:16]} UTC"
        )
    total_mb, limit_mb = cache.total_bytes() / 1e6, cache.limit_bytes / 1e6
    print(f"{len(entries)} plans, {total_mb:.1f} of {limit_mb:.0f} MB in {cache.folder}")
    return 0
