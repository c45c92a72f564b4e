"""Writes docs/command-line.md and docs/json.md from the parser and the schemas; with --images their pictures.

`python docs/write_reference.py`. What they hold is checked by tests/project/test_reference_pages.py.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeemo.cli.main import COMMANDS, build_parser, main
from edgeemo.cli.parser import EXIT_CODES
from edgeemo.schemas import load_schema, schema_names

HERE = Path(__file__).resolve().parent
WIDTH = 100

COMMAND_LINE = """\
# Command line

One command, `edgeemo`, with a verb for each task. What stands here is what `edgeemo COMMAND --help` prints.

```text
{help}
```

## In a terminal

`edgeemo run` shows a live picture in a terminal: the emotion and how sure it is, a bar for each label, the
state of every modality with its reason, the engine that serves and its latency, the last minute of emotion
and mood, valence and arousal, and what happened. It is drawn at most four times a second, beside the
readings and never in their way. What libraries write to standard error stands above it. Ctrl-C ends it and
leaves the last picture.

![The live picture of edgeemo run while the camera is away](images/live-view.svg)

Lines come instead, one for each reading, where output is piped, with `--plain`, with `TERM=dumb`, in a
terminal that cannot show the signs, where rich is not installed (`pip install 'edgeemo[live]'`), and for a
recording at the fast pace. `NO_COLOR` switches colours off; the strips are letters then. `--json` is for
[programs](json.md).

Where neither a microphone nor a camera is there, `edgeemo run` says what it looked for and what works
without them.

## Shell completion

`edgeemo completion bash`, `zsh`, `tcsh` or `fish` prints a script that lets the shell complete commands,
options, choices, and files or folders where an option takes them. For one bash:
`eval "$(edgeemo completion bash)"`.

## Exit codes

| Code | Meaning |
|---|---|
{codes}

A program that ends with 1 has said why on standard error, and what to do. With 2 the words were wrong:
nothing was opened or written. 141 is what shells say of any program whose reader has gone, as in `edgeemo
inspect | head`; it says nothing on standard error then.

## A record as a picture

![Readings of the demo recording while sensors fail, drawn by edgeemo plot](images/timeline.png)

```sh
edgeemo run --media $RECORDING --drop video@3-5 --drop audio@6.5-8.5 --record session.jsonl
edgeemo plot session.jsonl --out timeline.png
```

From the top: probabilities of the labels, the momentary emotion and the mood, the state of every modality,
the engine that served, valence and arousal. Days of readings are drawn as columns of means; of states a
column shows the worst, so that no outage is lost.
"""

JSON = """\
# JSON

Every command that a program may read has `--json`; the server and records speak the same documents. Each
has a JSON Schema (draft 2020-12) that ships with the package:

```sh
edgeemo schema            # which there are
edgeemo schema reading    # one of them
```

```python
from edgeemo.schemas import load_schema

schema = load_schema("reading")
```

A document has every key that its schema asks for. Later versions may add keys, and none refuses those: take
no offence at keys that you do not know. Numbers of readings are rounded to 6 digits. What is not known is
`null`; a number is never NaN or infinite.

| Schema | What it is of | Given by |
|---|---|---|
{table}

{sections}
"""


def command_line_page() -> str:
    """Returns docs/command-line.md."""
    head = COMMAND_LINE.format(
        help=f"$ edgeemo --help\n{_help(None)}",
        codes="\n".join(f"| {code} | {EXIT_CODES[code]} |" for code in sorted(EXIT_CODES)),
    )
    parts = [f"## edgeemo {name}\n\n```text\n{_help(name)}\n```\n" for name in COMMANDS]
    return "\n".join([head, *parts])


def json_page() -> str:
    """Returns docs/json.md."""
    rows, sections = [], []
    for name in schema_names():
        schema = load_schema(name)
        given = "; ".join(f"`{each}`" for each in schema["x-given-by"])
        rows.append(f"| [{name}](#{name}) | {schema['description']} | {given} |")
        sections.append("\n".join(_section(name, schema)))
    return JSON.format(table="\n".join(rows), sections="\n\n".join(sections))


def _section(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{schema['description']}\n"
    body = schema["items"] if schema.get("type") == "array" else schema
    if "properties" in body:
        yield from _keys(body)
    elif "additionalProperties" in body:
        yield f"An object whose values are {_kind(body['additionalProperties'])}."
    for part, inner in schema.get("$defs", {}).items():
        if "properties" in inner:
            yield f"\n**{part}**: {inner.get('description', '')}\n"
            yield from _keys(inner)


def _keys(schema: dict[str, Any]) -> Iterator[str]:
    yield "| Key | Holds | Meaning |\n|---|---|---|"
    for key, inner in schema["properties"].items():
        optional = "" if key in schema.get("required", ()) else ", may be missing"
        meaning = inner.get("description", "").replace("|", "\\|")
        yield f"| `{key}` | {_kind(inner)}{optional} | {meaning} |"


def _kind(schema: dict[str, Any]) -> str:  # noqa: PLR0911 - one for each keyword
    """Returns in words what a schema lets through."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(map(_kind, schema[several]))
    kinds = schema.get("type", "anything")
    words = [kinds] if isinstance(kinds, str) else kinds
    if "array" in words:
        return f"list of {_kind(schema['items'])}" if "items" in schema else "list"
    if "object" in words and "additionalProperties" in schema:
        return f"name → {_kind(schema['additionalProperties'])}"
    bounds = [schema[key] for key in ("minimum", "maximum") if key in schema]
    between = f" {bounds[0]}..{bounds[1]}" if len(bounds) == 2 else ""
    return " or ".join(f"{word}{between if word == 'number' else ''}" for word in words)


def _parsers() -> dict[str, Any]:
    actions = build_parser()._actions
    (commands,) = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    return dict(commands.choices)


def _help(command: str | None) -> str:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(WIDTH)
    try:
        parser = build_parser() if command is None else _parsers()[command]
        return str(parser.format_help()).rstrip()
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def draw_images() -> None:
    """Draws images/live-view.svg and images/timeline.png of the demo recording."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console

    from edgeemo import Session
    from edgeemo.cli.show.live_view import LiveView
    from edgeemo.sensors.drop import parse_drop
    from edgeemo.shipped import RECORDING

    drops = [parse_drop(text) for text in ("video@8-14",)]
    console = Console(width=WIDTH, height=30, record=True, file=io.StringIO(), force_terminal=True)
    with Session(media=RECORDING, drops=drops) as session:
        view = LiveView(session, advice=lambda reading: "", console=console)
        for reading in session:
            view.show(reading)
            if reading.time_s >= 10:
                break
        console.print(view.draw())
    # Without the fonts that rich would have the reader's browser fetch from elsewhere.
    picture = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(HERE / "images" / "live-view.svg"), title="edgeemo run", code_format=picture)
    with tempfile.TemporaryDirectory() as folder:
        record = f"{folder}/session.jsonl"
        drop = ["--drop", "video@3-5", "--drop", "audio@6.5-8.5"]
        code = main(["run", "--media", str(RECORDING), *drop, "--record", record])
        code = code or main(["plot", record, "--out", str(HERE / "images" / "timeline.png")])
    if code:
        sys.exit(code)


if __name__ == "__main__":
    (HERE / "command-line.md").write_text(command_line_page(), encoding="utf-8")
    (HERE / "json.md").write_text(json_page(), encoding="utf-8")
    if "--images" in sys.argv[1:]:
        draw_images()
