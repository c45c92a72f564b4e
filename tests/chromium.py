"""A real Chromium for tests of the page: opened pages remember what they asked for and complained about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs playwright")

from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Opens the machine's own browser without a window; skips the test where there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("needs a Chromium browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Opened:
    """A page with what it did.

    Attributes:
        page: it.
        requests: addresses that it asked for, WebSockets too.
        problems: errors and warnings of its console, and errors that nobody caught.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def wait(self, script: str, argument: object = None, *, timeout_s: float = 20.0) -> None:
        """Waits until a JavaScript expression is true; fails only where it never is."""
        self.page.wait_for_function(script, arg=argument, timeout=1000 * timeout_s, polling=50)

    def wait_for_text(self, selector: str, text: str) -> None:
        """Waits until the text of an element holds some words."""
        script = "([at, words]) => document.querySelector(at)?.textContent.includes(words)"
        self.wait(script, [selector, text])

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text().replace("\N{NO-BREAK SPACE}", " ")


@contextmanager
def opened(
    browser: Browser, url: str, *, size: tuple[int, int] = (1400, 900), **options: Any
) -> Iterator[Opened]:
    """Opens a page in a profile of its own."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        page = context.new_page()
        seen = Opened(page)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("websocket", lambda socket: seen.requests.append(socket.url))
        page.on("pageerror", lambda error: seen.problems.append(str(error)))

        def complain(message: Any) -> None:
            if message.type in ("error", "warning"):
                seen.problems.append(message.text)

        page.on("console", complain)
        page.goto(url, wait_until="domcontentloaded")  # a page with a moving picture never ends to load
        yield seen
    finally:
        context.close()
