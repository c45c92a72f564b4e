"""Options that several commands share, the same word everywhere."""

from __future__ import annotations

import argparse

from edgeemo.session import EngineOptions

BACKEND_HELP = (
    "tensorrt, rtx (TensorRT for RTX), cuda, ort-tensorrt, openvino or cpu, which is used or refused; auto "
    "(default): the first that works here and has nothing to build"
)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--bundle --subset --variant --backend --memory-budget --threads``."""
    group = parser.add_argument_group("engines")
    group.add_argument("--bundle", metavar="DIR", help="bundle to run; default: the one that ships")
    group.add_argument(
        "--subset",
        action="append",
        metavar="S",
        help="serve only this subset, such as audio+video; repeatable",
    )
    group.add_argument(
        "--variant",
        default="auto",
        metavar="V",
        help="one that the bundle has, such as int8, or auto: the fastest here (default)",
    )
    group.add_argument("--backend", default="auto", metavar="B", help=BACKEND_HELP)
    group.add_argument(
        "--memory-budget",
        type=float,
        metavar="MB",
        help="memory that open engines may take; what stays closed is opened when it is wanted",
    )
    group.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of each engine (default 1)"
    )


def engine_options(args: argparse.Namespace) -> EngineOptions:
    """Returns what `add_engine_options` parsed."""
    return EngineOptions(
        subsets=None if args.subset is None else tuple(args.subset),
        variant=args.variant,
        backend=args.backend,
        threads=args.threads,
        memory_budget_mb=args.memory_budget,
    )
