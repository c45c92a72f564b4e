"""docs/command-line.md and docs/json.md say what the parser and the schemas say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from edgeemo.cli.main import COMMANDS
from edgeemo.schemas import schema_names

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_reference", DOCS / "write_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_line_is_what_the_parser_says(writer: ModuleType) -> None:
    page = (DOCS / "command-line.md").read_text("utf-8")
    assert page == writer.command_line_page(), "run: python docs/write_reference.py"
    for command in COMMANDS:
        assert f"\n## edgeemo {command}\n" in page
        assert f"usage: edgeemo {command}" in page


def test_the_page_of_json_is_what_the_schemas_say(writer: ModuleType) -> None:
    page = (DOCS / "json.md").read_text("utf-8")
    assert page == writer.json_page(), "run: python docs/write_reference.py"
    assert re.findall(r"^## (\S+)$", page, re.MULTILINE) == list(schema_names())
    assert "| `confidence` | number 0..1 | its probability; 0 without a signal |" in page


def test_pictures_load_nothing_from_elsewhere() -> None:
    picture = (DOCS / "images" / "live-view.svg").read_text("utf-8")
    assert "url(http" not in picture
    assert "@font-face" not in picture
    assert "audio+text.int8" in picture
