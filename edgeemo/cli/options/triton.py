"""Options of ``edgeemo export --format triton``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgeemo.cli.exit_codes import UsageError
from edgeemo.errors import InputError

if TYPE_CHECKING:
    from edgeemo.export.triton.options import ServingOptions

FORMATS = ("bundle", "triton")
_OWN = ("triton_backend", "instance_group", "instances", "max_batch", "max_queue_delay_us")
_BUNDLES_ALONE = ("data", "tune", "recipe", "allow_drop")


def add_triton_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--format`` and how the models of a repository are served."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="bundle",
        help="bundle (default), or triton: a model repository for NVIDIA Triton Inference Server",
    )
    group = parser.add_argument_group("with --format triton")
    group.add_argument(
        "--triton-backend",
        choices=("onnxruntime", "python"),
        help="which backend of Triton runs the graphs: onnxruntime (default), or python, for a server "
        "without the former",
    )
    group.add_argument(
        "--instance-group", choices=("gpu", "cpu"), help="gpu (default, fp16 engines) or cpu (int8 engines)"
    )
    group.add_argument("--instances", type=int, metavar="N", help="copies of each model (default 1)")
    group.add_argument("--max-batch", type=int, metavar="N", help="most windows in one run (default 32)")
    group.add_argument(
        "--max-queue-delay-us",
        type=int,
        metavar="N",
        help="microseconds that a request waits for others to share its run (default 2000)",
    )


def check_format_options(args: argparse.Namespace) -> None:
    """Refuses options that belong to the other format.

    Raises:
        UsageError: naming the first.
    """
    if args.format == "bundle":
        given = [name for name in _OWN if getattr(args, name) is not None]
        if given:
            raise UsageError(f"{_spelled(given[0])} belongs to --format triton; add that, or leave it out")
        return
    given = [name for name in _BUNDLES_ALONE if getattr(args, name)]
    if given:
        raise UsageError(
            f"{_spelled(given[0])} belongs to the export of a bundle: export the checkpoint to a bundle with "
            "it first, then that bundle with --format triton"
        )
    if args.variant is not None and len(args.variant) > 1:
        raise UsageError(
            f"--format triton serves one variant, asked for: {', '.join(args.variant)}; write a repository "
            "for each"
        )


def serving_options(args: argparse.Namespace) -> ServingOptions:
    """Returns what `add_triton_options` parsed.

    Raises:
        UsageError: a number out of range, or a variant that cannot be served.
    """
    from edgeemo.export.triton.options import ServingOptions

    named = {"backend" if name == "triton_backend" else name: getattr(args, name) for name in _OWN}
    variant = args.variant[0] if args.variant else None
    try:
        return ServingOptions(
            variant=variant, **{name: value for name, value in named.items() if value is not None}
        )
    except InputError as reason:
        raise UsageError(str(reason)) from None


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")
