"""Takes the pictures of the kiosk page: a real server, the demo recording, a real camera that is unplugged.

    python docs/images/take_screenshots.py [--minutes 5]

Needs Debian's chromium, playwright, and for the picture of the dropped camera pulseaudio. What the page shows
is what the session read; the only staging is that sensors are muted for a while, as visitors do.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.session.servers import camera, microphone  # noqa: E402 - it lies beside the package

HERE = Path(__file__).resolve().parent
NOTICE = "This kiosk estimates emotions from your face, voice and words. Nothing is recorded."
DESK, PHONE = (1400, 1040), (360, 640)
SPELLS = (
    (0.15, 0.22, ("video",)),
    (0.35, 0.50, ("video", "text")),
    (0.58, 0.62, ("audio", "video", "text")),
    (0.72, 0.80, ("audio",)),
)
"""When sensors are muted, as parts of the whole time."""


def main() -> None:
    """Takes all four."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=5.2, help="how long the session runs before (default 5.2)"
    )
    total_s = 60 * parser.parse_args().minutes
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("no chromium on this machine; get it with: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        recording = ROOT / "edgeemo" / "assets" / "demo.mp4"
        with serve("--media", str(recording), "--loop", "--preview", "--notice", NOTICE) as url:
            picture_session(browser, url, total_s)
        with microphone() as environment:
            picture_drop(browser, environment)
        browser.close()


@contextmanager
def serve(*options: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Runs the command and yields the address of its page."""
    words = [sys.executable, "-m", "edgeemo", "serve", "--port", "0", *options]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield next(word for word in line.split() if word.startswith("http"))
        finally:
            process.terminate()


def picture_session(browser: Browser, url: str, total_s: float) -> None:
    """Lets the session run, mutes now and then, and takes what it looks like at the end."""
    page = open_page(browser, url, DESK, "light")
    page.get_by_role("button", name="Understood, start sensing").click()
    begun = time.monotonic()
    for start, end, modalities in SPELLS:
        wait(page, begun + start * total_s)
        switch(page, modalities, muted=True)
        wait(page, begun + end * total_s)
        switch(page, modalities, muted=False)
    wait(page, begun + total_s)
    wait_for_face(page)
    page.mouse.move(1, 1)  # no button is to look as if it were pointed at
    page.screenshot(path=HERE / "kiosk.png")
    for name, size, scheme in (("kiosk-dark", DESK, "dark"), ("phone", PHONE, "light")):
        other = open_page(browser, url, size, scheme)
        wait_for_face(other)
        other.screenshot(path=HERE / f"{name}.png")
        other.close()
    page.close()


def picture_drop(browser: Browser, environment: Mapping[str, str]) -> None:
    """Unplugs a network camera while the microphone goes on."""
    with ExitStack() as plug:
        address = plug.enter_context(camera("recording"))
        with serve("--camera", address, "--mic", "pulse", environment=environment) as url:
            page = open_page(browser, url, (1400, 578), "light")
            for modality in ("audio", "video"):
                wait_for_state(page, modality, "live")
            wait(page, time.monotonic() + 40)
            wait_for_state(page, "video", "live")
            plug.close()
            wait_for_state(page, "video", "lost")
            wait_for_state(page, "audio", "live")
            page.wait_for_timeout(2000)
            page.screenshot(path=HERE / "dropped-sensor.png")
            page.close()


def open_page(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Page:
    """Opens the page; it never ends to load where it shows a moving picture."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",  # a bar on its way would not show the figure beside it
        device_scale_factor=2 if size == PHONE else 1,
    )
    page.goto(url, wait_until="domcontentloaded")
    page.wait_for_selector(".sensor")
    return page


def switch(page: Page, modalities: tuple[str, ...], *, muted: bool) -> None:
    """Presses mute buttons and waits until they have worked."""
    for modality in modalities:
        page.locator(f'[data-modality="{modality}"] button').click()
    verb = "Unmute" if muted else "Mute"
    for modality in modalities:
        page.locator(f'[data-modality="{modality}"] button', has_text=re.compile(f"^{verb}$")).wait_for()


def wait_for_state(page: Page, modality: str, state: str) -> None:
    """Waits until the page says that a modality is so."""
    script = "([at, state]) => document.querySelector(at)?.dataset.state === state"
    page.wait_for_function(script, arg=[f'[data-modality="{modality}"]', state], timeout=60_000)


def wait_for_face(page: Page) -> None:
    """Waits until a face has been in view for some seconds, in the picture too."""
    script = "(at) => document.querySelector(at)?.textContent === 'for 3 s'"
    page.wait_for_function(script, arg="[data-modality=video][data-state=live] .since", timeout=60_000)


def wait(page: Page, until: float) -> None:
    """Lets the page live until a time of the monotonic clock."""
    page.wait_for_timeout(max(0.0, 1000 * (until - time.monotonic())))


if __name__ == "__main__":
    main()
