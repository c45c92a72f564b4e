"""What the README and the documentation say is so: programs, commands, options, links, messages, files."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeemo.cli.main import COMMANDS, build_parser
from edgeemo.shipped import RECORDING

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
PAGES = [PROJECT / "README.md", *sorted(DOCS.rglob("*.md"))]
NAMES = [page.relative_to(PROJECT).as_posix() for page in PAGES]
BLOCK = re.compile(
    r"<!-- run(?P<roughly> roughly)?(?P<fails> and fail)?(?: with (?P<package>\w+))? -->\n"
    r"```(?P<language>python|sh)\n(?P<program>.*?)```\n\n```\w*\n(?P<expected>.*?)```",
    re.DOTALL,
)
VARIANT = r"\.(?:int8|fp16)"  # which one is faster is measured where the test runs
# Long options in our pages that belong to other programs.
FOREIGN = {"--constraint", "--system-site-packages", "--editable", "--no-deps", "--gpus", "--device"}


class Block(NamedTuple):
    page: str
    number: int
    roughly: bool
    fails: bool
    package: str | None
    language: str
    program: str
    expected: str


def blocks_of(page: Path, name: str) -> list[Block]:
    found = BLOCK.finditer(page.read_text("utf-8"))
    return [
        Block(
            name,
            number,
            bool(m["roughly"]),
            bool(m["fails"]),
            m["package"],
            m["language"],
            m["program"],
            m["expected"],
        )
        for number, m in enumerate(found, start=1)
    ]


BLOCKS = [block for page, name in zip(PAGES, NAMES, strict=True) for block in blocks_of(page, name)]


def pattern_of(expected: str, *, roughly: bool = False) -> re.Pattern[str]:
    """Returns what matches output: `...` stands for anything on its line, alone on a line for any lines.

    Args:
        expected: as a page shows it.
        roughly: numbers may be others, and bars and gaps as long as these make them.
    """
    lines = []
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "...":
            lines.append(r"(?:[^\n]*\n)*?")
            continue
        parts = [re.escape(part) for part in line.rstrip().split("...")]
        parts = [part.replace(r"\.int8", VARIANT) for part in parts]
        if roughly:
            parts = [
                re.sub(r"\d+(?:\\\.\d+)?(?:e\\-\d+)?", lambda _: r"\d+(?:\.\d+)?(?:e-\d+)?", part)
                for part in parts
            ]
            parts = [re.sub(r"(?:\\ |█)+", "[ █]+", part) for part in parts]
        lines.append("[^\n]*?".join(parts) + "[ ]*\n")
    return re.compile("".join(lines))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each page, in which its blocks run one after the other."""
    return {name: tmp_path_factory.mktemp("page") for name in NAMES}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}-{block.number}")
def test_what_is_shown_is_what_happens(block: Block, folders: dict[str, Path]) -> None:
    if block.package:
        pytest.importorskip(block.package, reason=f"needs {block.package}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAMPLES": str(PROJECT / "samples"),
        "RECORDING": str(RECORDING),
        "COLUMNS": "110",
    }
    shell = shutil.which("bash") or "bash"
    command = [sys.executable, "-c"] if block.language == "python" else [shell, "-eu", "-c"]
    done = subprocess.run(
        [*command, block.program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if block.fails else subprocess.PIPE,  # errors go there
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=120,
        env=environment,
        cwd=folders[block.page],
    )
    assert (done.returncode != 0) == block.fails, f"{done.stdout}{done.stderr}"
    output = "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())
    if not pattern_of(block.expected, roughly=block.roughly).fullmatch(output):
        assert output == block.expected  # shows where they differ


def test_every_block_that_is_marked_is_found() -> None:
    for page, name in zip(PAGES, NAMES, strict=True):
        marked = re.findall(r"^<!-- run\b.*-->$", page.read_text("utf-8"), re.MULTILINE)
        assert len(marked) == sum(block.page == name for block in BLOCKS), name
    assert {"python", "sh"} == {block.language for block in BLOCKS}


@pytest.mark.parametrize(
    ("expected", "output", "fits"),
    [
        ("took ... s\n", "took 1.5 s\n", True),
        ("took ... s\n", "took 1.5 s\nmore\n", False),
        ("first\n...\nlast\n", "first\na\nb\nlast\n", True),
        ("first\n...\nlast\n", "first\na\nb\n", False),
        ("a.c\n", "abc\n", False),
        ("from text.int8\n", "from text.fp16\n", True),
        ("from text.int8\n", "from audio.int8\n", False),
    ],
)
def test_dots_stand_for_anything(expected: str, output: str, fits: bool) -> None:
    assert bool(pattern_of(expected).fullmatch(output)) == fits


def test_rough_output_has_other_numbers_and_the_same_words() -> None:
    shown = pattern_of("  1.0s  happy  ███ 64% 1.5e-02\n", roughly=True)
    assert shown.fullmatch(" 12s happy  █████ 100% 2e-03\n")
    assert not shown.fullmatch("  1.0s  angry  ███ 64% 1.5e-02\n")


def links_of(text: str) -> list[str]:
    without_code = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", without_code)


def anchor_from_heading(heading: str) -> str:
    words = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower()).strip()
    return re.sub(r"[\s]+", "-", words)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = PROJECT / name
    for link in links_of(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert PROJECT in (target, *target.parents), link
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(anchor_from_heading, headings), link


@cache
def options_of(command: str) -> frozenset[str]:
    """Every long option that a command takes, its own commands included."""
    found: set[str] = set()
    parsers = [subparsers()[command]]
    while parsers:
        for action in parsers.pop()._actions:
            found.update(option for option in action.option_strings if option.startswith("--"))
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
    return frozenset(found)


@cache
def subparsers() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    (found,) = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def code_of(text: str) -> list[str]:
    """Fenced lines, continued ones joined, and what stands between backticks in a sentence."""
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line for block in fenced for line in re.sub(r"\\\n", " ", block).splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_options_exist(name: str) -> None:
    known = set(COMMANDS)
    everywhere = frozenset().union(*map(options_of, known)) | {"--version", "--verbose", "--help"}
    for line in code_of((PROJECT / name).read_text("utf-8")):
        line = re.sub(r"\s#\s.*", "", line)  # noqa: PLW2901 - the comment behind a command
        called = re.match(r"(?:.*[/&|;] ?|\$ ?|\w+=\S+ )?edgeemo ([a-z]+)(.*)", line)
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)
        if called:
            assert called[1] in known, line
            inside = re.split(r"[|;&]", called[2])[0]
            unquoted = re.sub(r"\"[^\"]*\"|'[^']*'", "", inside)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", unquoted):
                assert option in options_of(called[1]), line
        elif re.fullmatch(r"--[a-z][a-z-]*(?:[ =]\S.*)?", line):
            assert options[0] in everywhere | FOREIGN, line


def test_every_sample_is_described() -> None:
    text = (DOCS / "samples.md").read_text("utf-8")
    elsewhere = {"checkpoints", "configs", "recording", "jetson", "ros2"}  # data, or with pages of their own
    for sample in sorted((PROJECT / "samples").iterdir()):
        if sample.suffix == ".py" or (sample.is_dir() and sample.name not in elsewhere | {"__pycache__"}):
            assert sample.name in text


def programs_of(page: Path) -> list[ast.Module]:
    return [
        ast.parse(program)
        for program in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_programs_that_are_only_shown_use_what_exists(name: str) -> None:
    import edgeemo

    for node in (node for program in programs_of(PROJECT / name) for node in ast.walk(program)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeemo"):
            for imported in node.names:
                assert hasattr(importlib.import_module(str(node.module)), imported.name), imported.name
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, called = node.func.value, node.func.attr
        if not isinstance(owner, ast.Name) or owner.id not in {"edgeemo", "session"}:
            continue
        target = getattr(edgeemo if owner.id == "edgeemo" else edgeemo.Session, called)
        known = inspect.signature(target).parameters
        for keyword in node.keywords:
            assert keyword.arg in known, f"{called}({keyword.arg}=...)"


def test_every_setting_is_described() -> None:
    from dataclasses import fields

    from edgeemo import Settings

    text = (DOCS / "embedding.md").read_text("utf-8")
    named = set(re.findall(r"\bsettings=\{\"(\w+)\"", text))
    assert named <= {field.name for field in fields(Settings)}
    assert named


@cache
def sentences_in_the_code() -> str:
    """Every string of the packages, one a line; a value that is filled in is a NUL."""
    found: set[str] = set()
    for room in ("edgeemo", "export", "runtimes", "training"):
        for path in sorted((PROJECT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                text = _text(node)
                if text and " " in text:
                    found.add(" ".join(text.split()))
    return "\n".join(sorted(found))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_text(node.left) or "\0") + (_text(node.right) or "\0")
    return ""


def is_said_by_the_code(message: str) -> bool:
    parts = [re.escape(part) for part in message.split("...")]
    return re.search("[^\n]*?".join(parts), sentences_in_the_code()) is not None


def test_messages_of_troubleshooting_are_those_of_the_code() -> None:
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    messages = re.findall(r"^### `(.+)`$", text, re.MULTILINE)
    assert len(messages) > 20
    assert [message for message in messages if not is_said_by_the_code(message)] == []


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert is_said_by_the_code("this session is closed; open a new one")
    assert is_said_by_the_code("no data from ... for ... s")
    assert not is_said_by_the_code("this session is shut; open a new one")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built; a warning is an error."""
    if not find_spec("mkdocs") or not find_spec("material") or not find_spec("mkdocstrings"):
        pytest.skip("needs mkdocs-material and mkdocstrings")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Resources(HTMLParser):
    """What a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"link", "script", "img", "iframe", "source", "video", "audio", "object", "embed"}:
            self.places += [value for name, value in attrs if name in {"src", "href", "data"} and value]


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= len(NAMES) - 1
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text("utf-8"))
        assert resources.places, page
        assert [place for place in resources.places if re.match(r"(?:https?:)?//", place)] == [], page
    for sheet in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        asked = r"url\(['\"]?(?:https?:)?//|@import|href=['\"](?:https?:)?//"
        assert not re.search(asked, sheet.read_text("utf-8")), sheet


@pytest.mark.parametrize(
    ("package", "page"),
    [
        ("edgeemo", "session sensors bundle errors"),
        ("edgeemo.session", "session"),
        ("edgeemo.sensors", "sensors"),
        ("edgeemo.bundle", "bundle"),
        ("edgeemo.export", "export"),
        ("edgeemo.runtimes", "runtimes"),
        ("edgeemo.records", "records"),
        ("edgeemo.training", "training"),
        ("edgeemo.mqtt", "integrations"),
        ("edgeemo.batch", "integrations"),
        ("edgeemo.plots", "integrations"),
        ("edgeemo.schemas", "integrations"),
    ],
)
def test_public_names_are_in_the_reference(site: Path, package: str, page: str) -> None:
    text = "".join((site / "api" / f"{name}.html").read_text("utf-8") for name in page.split())
    ends = {anchor.rpartition(".")[2] for anchor in re.findall(r'id="(edgeemo[\w.]*)"', text)}
    assert set(getattr(importlib.import_module(package), "__all__", ())) - ends == set()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        pass


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_browser_asks_no_other_host_and_finds_words(served: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{served}/index.html")
        page.fill("input[name=query]", "withdraw")
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        for name in ("architecture", "api/session", "troubleshooting"):
            page.goto(f"{served}/{name}.html")
        browser.close()
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((served, "data:", "blob:"))] == []
