"""Serves a built book on this machine and opens its pages in Chromium with the network cut off."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever slips past the routes below resolves to nothing.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


#: Every chart has become interactive or given up, and MathJax has begun where there is anything for it.
READY = """() =>
  [...document.querySelectorAll(".vegtts-chart")].every((chart) => chart.dataset.state)
  && (!document.querySelector(".math") || document.querySelector("mjx-container"))
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of ``folder`` on this machine, with a slash at its end."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page that was opened, and what happened meanwhile."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    """Requests to other machines (all of them stopped)."""
    failed: list[str] = field(default_factory=list)
    """Files of the book that could not be loaded."""
    errors: list[str] = field(default_factory=list)
    """Uncaught exceptions and errors on the console."""


@contextmanager
def visit(browser: Browser, base: str, path: str, width: int, scripts: bool = True) -> Iterator[Visit]:
    """Open ``path`` in a fresh context ``width`` pixels wide; ready when charts and formulas have been drawn."""
    context: BrowserContext = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=scripts)
    try:
        page = context.new_page()
        seen = Visit(page)

        def gate(route: Route) -> None:
            if route.request.url.startswith((base, "data:", "blob:")):
                route.continue_()
            else:
                seen.foreign.append(route.request.url)
                route.abort()

        context.route("**/*", gate)
        page.on("pageerror", lambda problem: seen.errors.append(str(problem)))
        page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
        page.on("response", lambda reply: seen.failed.append(reply.url) if reply.status >= 400 else None)
        page.goto(base + path, wait_until="load")
        if scripts:
            page.wait_for_function(READY, timeout=60_000)
            page.evaluate("() => window.MathJax?.startup?.promise")
        yield seen
    finally:
        context.close()
