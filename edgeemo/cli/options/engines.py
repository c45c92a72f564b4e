"""Which engines a command opens, and how: the same word everywhere."""

from __future__ import annotations

import argparse

from edgeemo.session import EngineOptions


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
    add_variant_option(group)
    add_backend_option(group)
    group.add_argument(
        "--memory-budget",
        type=float,
        metavar="MB",
        help="memory that open engines may take; what stays closed is opened when it is wanted",
    )
    add_threads_option(group)


def add_variant_option(parser: argparse._ActionsContainer) -> None:
    """Adds ``--variant``, of which one is taken."""
    parser.add_argument(
        "--variant",
        default="auto",
        metavar="V",
        help="one that the bundle has, such as int8, or auto: the fastest here (default)",
    )


def add_backend_option(parser: argparse._ActionsContainer) -> None:
    """Adds ``--backend``."""
    parser.add_argument(
        "--backend",
        default="auto",
        metavar="B",
        help="tensorrt, rtx (TensorRT for RTX), cuda, ort-tensorrt, openvino or cpu, which is used or "
        "refused; auto (default): the first that works here and has nothing to build",
    )


def add_threads_option(parser: argparse._ActionsContainer) -> None:
    """Adds ``--threads``."""
    parser.add_argument(
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
