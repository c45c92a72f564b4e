"""``edgeemo merge``: a plain ONNX model and a PEFT adapter become one plain ONNX model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeemo.cli.exit_codes import UsageError
from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.show.progress import progress_bar
from edgeemo.errors import InputError

if TYPE_CHECKING:
    from edgeemo.export import MergeReport


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "merge",
        about="For models that are not edgeemo's: what torch.onnx.export wrote, and an adapter that PEFT "
        "trained for the same network. All of the adapter is merged or nothing is written.",
        examples=(
            ("merge model.onnx adapter --out merged.onnx", "one plain ONNX file"),
            (
                "merge model.onnx adapter --out merged.onnx --skip pooler.dense",
                "leave out a module that the exported graph has no use for",
            ),
        ),
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL.onnx", help="float32, as torch.onnx.export writes it"
    )
    parser.add_argument(
        "adapter", type=Path, metavar="ADAPTER_DIR", help="folder that PEFT's save_pretrained wrote"
    )
    parser.add_argument("--out", type=Path, metavar="OUT.onnx", required=True, help="file to write")
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="MODULE",
        help="module of the adapter that the exported graph has no use for, such as pooler.dense; repeatable",
    )
    add_json_option(parser, "merge")


def run(args: argparse.Namespace) -> int:
    """Merges and prints what was merged."""
    from edgeemo.export import merge_peft

    with progress_bar("merging") as advance:
        try:
            report = merge_peft(args.model, args.adapter, args.out, skip=args.skip, progress=advance)
        except InputError as error:  # --out or --skip: the words are wrong, not the files
            raise UsageError(str(error)) from None
    print(json.dumps(report.to_json(), indent=1) if args.json else "\n".join(_lines(report)))
    return 0


def _lines(report: MergeReport) -> list[str]:
    width = max(len(entry.module) for entry in report.weights)
    lines = [f"{'':<{width}}  found by   stored  rank   scale   largest change"]
    for entry in report.weights:
        how = f"{entry.rank:>4}  {entry.scale:>6.3g}" if entry.rank else "       whole"
        lines.append(
            f"{entry.module:<{width}}  {entry.found_by:<8}  {entry.stored:>7}  {how}   {entry.change:14.3g}"
        )
    size = f"{report.bytes / 1e6:.1f} MB" if report.bytes >= 1e5 else f"{report.bytes / 1e3:.1f} kB"
    return [*lines, f"{report.out}: {len(report.weights)} weights merged, {size}"]
