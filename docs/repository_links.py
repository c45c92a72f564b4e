"""A hook of MkDocs: links that leave `docs/` are for the repository; the site shows their words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_PROJECT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Returns the page with links that leave the documentation replaced by their words."""
    folder = Path(page.file.abs_src_path).parent

    def shown(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        leaves = (_PROJECT / "docs") not in target.parents and _PROJECT in target.parents
        return match[1] if leaves and target.exists() else match[0]

    return _LINK.sub(shown, markdown)
