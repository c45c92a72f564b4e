"""``python -m benchmarks.methods``: trains what is missing, then writes ``benchmarks/methods/methods.*``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.methods.results import collect_results, run_folder
from benchmarks.methods.tables import write_tables
from edgeemo.datasets.mosi import MODALITIES, MosiVideos, read_mosi
from edgeemo.errors import EdgeEmoError
from edgeemo.training.config import BASELINES, FAMILIES, METHODS, MethodConfig, read_config
from edgeemo.training.methods import networks_of, run_network

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parents[1] / "samples" / "configs"


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of mosi_trimodal.npz")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="keeps every run; finished ones are not repeated",
    )
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="default: samples/configs")
    parser.add_argument("--results", type=Path, default=HERE, help="default: benchmarks/methods")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), metavar="NAME", choices=METHODS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4], metavar="N")
    parser.add_argument(
        "--trunk",
        choices=FAMILIES,
        help="compare this family with the baselines on its own trunk; the page goes to on-FAMILY",
    )
    parser.add_argument("--train-only", action="store_true", help="leave the tables as they are")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of torch; default: 2")
    args = parser.parse_args()
    try:
        return _run(args)
    except EdgeEmoError as error:
        print(f"benchmarks.methods: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    import torch

    torch.set_num_threads(args.threads)
    data = (read_mosi(args.data, "train"), read_mosi(args.data, "dev"))
    configs = {method: read_config(args.configs / f"{method}.toml") for method in args.methods}
    folder, command = (
        args.results,
        f"python -m benchmarks.methods --data {args.data.name} --out {args.out.name}",
    )
    if args.trunk is not None:
        configs = on_trunk(configs, read_config(args.configs / f"{args.trunk}.toml"))
        folder, command = folder / f"on-{args.trunk}", f"{command} --trunk {args.trunk}"
    if set(args.methods) != set(METHODS):
        command += f" --methods {' '.join(configs)}"
    for seed in args.seeds:
        for method, config in configs.items():
            _train(method, config, seed, data=data, out=args.out)
    if not args.train_only:
        results = collect_results(configs, args.seeds, data, args.out)
        for path in write_tables(results, folder, command=command):
            print(path)
    return 0


def _train(
    method: str, config: MethodConfig, seed: int, *, data: tuple[MosiVideos, MosiVideos], out: Path
) -> None:
    for network in networks_of(config, MODALITIES):
        begun = time.perf_counter()
        record = run_network(network, config, seed, data, run_folder(out, config, network, seed))
        spent = time.perf_counter() - begun
        line = f"{method:<17}{network.name:<27}seed {seed}  {record.meta['epochs']:3d} epochs  {spent:6.1f} s"
        print(line, flush=True)


def on_trunk(configs: Mapping[str, MethodConfig], family: MethodConfig) -> dict[str, MethodConfig]:
    """Returns one family and the baselines, those with the trunk of that family."""
    chosen = {family.method: family} if family.method in configs else {}
    return chosen | {
        method: replace(config, family=family.family, trunk=family.trunk)
        for method, config in configs.items()
        if method in BASELINES
    }


if __name__ == "__main__":
    sys.exit(main())
