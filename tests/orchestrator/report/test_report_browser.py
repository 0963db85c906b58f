"""The report in a real browser: nothing overflows on a phone, nothing is loaded, both colour schemes read.

Chromium is driven through its DevTools protocol. Without one on the PATH the tests are skipped;
MUSTER_REQUIRE_BROWSER=1 turns that into a failure, so that a pipeline can't lose them unnoticed.
"""

from __future__ import annotations

import asyncio
import base64
import os
import runpy
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.report.page import ReportData, render_report

# By path, because what a test module is called depends on how pytest imports it.
a_report = runpy.run_path(str(Path(__file__).with_name("test_report.py")))["a_report"]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions "
    "--hide-scrollbars --remote-debugging-port=0"
).split()
PHONE, DESKTOP = (390, 844), (1200, 1600)
START_SECONDS = 60.0


def chromium() -> str:
    """The browser's path; skips or fails the test where there is none."""
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        why = f"no Chromium on the PATH (looked for {', '.join(CHROMIUMS)}): install one, e.g. apt-get install chromium"
        if os.environ.get("MUSTER_REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return found


class Page:
    """One tab, spoken to over its DevTools web socket. `requests` are the addresses it asked for."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._last = socket, 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": params})
        while True:
            answer = await self._hear()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    async def open(self, path: Path, size: tuple[int, int], dark: bool = False) -> None:
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.do(f"{domain}.enable")
        width, height = size
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.do("Emulation.setEmulatedMedia", features=[scheme])
        await self.do("Page.navigate", url=path.as_uri())
        while not self._loaded:
            await self._hear()

    async def ask(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = await self.do("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def screenshot(self, whole: bool = False) -> bytes:
        answer = await self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    async def _hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = await self._socket.receive_json(timeout=START_SECONDS)
        if heard.get("method") == "Network.requestWillBeSent":
            self.requests.append(heard["params"]["request"]["url"])
        elif heard.get("method") == "Log.entryAdded":
            self.complaints.append(heard["params"]["entry"]["text"])
        elif heard.get("method") == "Page.loadEventFired":
            self._loaded = True
        return heard


def in_browser(folder: Path, visit: Callable[[Page], Awaitable[None]]) -> None:
    """Start a browser with a new profile, let `visit` use one tab of it, and end it."""
    profile = folder / "profile"
    with (folder / "chromium.log").open("wb") as log:
        browser = subprocess.Popen(
            [chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"], stderr=log
        )
    try:
        asyncio.run(_in_tab(_port(profile / "DevToolsActivePort", browser, folder), visit))
    finally:
        browser.terminate()
        try:
            browser.wait(timeout=20)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()


def _port(file: Path, browser: subprocess.Popen[bytes], folder: Path) -> int:
    """The port that the browser chose: it writes it into its profile when it is ready."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and browser.poll() is None:
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    log = (folder / "chromium.log").read_text(errors="replace")[-2000:]
    raise AssertionError(f"chromium did not open its DevTools port (exit status {browser.poll()}):\n{log}")


async def _in_tab(port: int, visit: Callable[[Page], Awaitable[None]]) -> None:
    from aiohttp import ClientSession

    async with ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tab = next(t for t in await answer.json(content_type=None) if t["type"] == "page")
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            await visit(Page(socket))


def written(folder: Path, data: ReportData) -> Path:
    path = folder / "report.html"
    path.write_text(render_report(data), encoding="utf-8")
    return path


# Elements whose box leaves the page, but for what lies in a container that scrolls by itself.
OUTSIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll table')
  && (e.getBoundingClientRect().right > innerWidth + 0.5 || e.getBoundingClientRect().left < -0.5))
  .map(e => e.tagName + '.' + e.className)"""


@pytest.mark.parametrize("long_words", [False, True])
def test_nothing_overflows_on_a_phone(tmp_path: Path, long_words: bool) -> None:
    word = "W" * 300 if long_words else "words"
    path = written(tmp_path, a_report(members=48, word=word))

    async def visit(page: Page) -> None:
        await page.open(path, PHONE)
        assert await page.ask("innerWidth") == PHONE[0]
        assert await page.ask("document.documentElement.scrollWidth") <= PHONE[0]
        assert await page.ask("document.body.scrollWidth") <= PHONE[0]
        assert await page.ask(OUTSIDE) == []
        # The wide table can be scrolled, and what it is drawn in stays inside.
        assert (
            await page.ask("Math.max(...[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth))")
            > 390
        )
        await page.ask("document.querySelector('details').open = true")
        assert await page.ask("document.documentElement.scrollWidth") <= PHONE[0]

    in_browser(tmp_path, visit)


def test_the_page_is_drawn_whole_and_loads_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, a_report(members=4, word="<script>document.title='run'</script>"))

    async def visit(page: Page) -> None:
        await page.open(path, DESKTOP)
        outside = [url for url in page.requests if not url.startswith(("file://", "data:"))]
        assert outside == []
        assert [url for url in page.requests if url.startswith("file://")] == [path.as_uri()]
        assert page.complaints == []
        assert await page.ask("document.scripts.length") == 0
        assert await page.ask("document.title") != "run"
        drawn = await page.ask(
            "[...document.images].map(i => i.complete && i.naturalWidth > 0 && i.alt.length > 20)"
        )
        assert drawn == [True, True]
        # The first screen has the name, the state, the key figures and the curve.
        bottom = "Math.max(...['h1', '.state', '.figures', '.plot'].map(s => document.querySelector(s).{}))"
        assert await page.ask(bottom.format("getBoundingClientRect().bottom")) < 1000

    in_browser(tmp_path, visit)


# The lowest contrast of a text with what lies behind it (WCAG's formula).
CONTRAST = """(() => {
  const rgb = c => c.match(/[\\d.]+/g).map(Number);
  const lum = c => rgb(c).slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (rgb(c)[3] !== 0) return c; } return 'rgb(255, 255, 255)'; };
  return [...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3
    && n.data.trim())).map(e => { const a = lum(getComputedStyle(e).color), b = lum(behind(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName + '.' + e.className]; })
    .sort((a, b) => a[0] - b[0])[0];
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_both_colour_schemes(tmp_path: Path, dark: bool) -> None:
    path = written(tmp_path, a_report(members=4))

    async def visit(page: Page) -> None:
        await page.open(path, DESKTOP, dark=dark)
        ground = await page.ask("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 150) == dark
        assert (
            await page.ask("getComputedStyle(document.querySelector('.plot')).backgroundColor")
            == "rgb(255, 255, 255)"
        )
        contrast, where = await page.ask(CONTRAST)
        assert contrast >= 4.5, where
        assert (await page.screenshot()).startswith(b"\x89PNG")

    in_browser(tmp_path, visit)
