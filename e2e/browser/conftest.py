"""One browser and one instance for all tests of the console; a page of its own for each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from browser.chromium import launch
from browser.served import ROOT, manifest, served

SHOTS = ROOT / "build" / "console"
"""Where a run leaves its screenshots."""
SECONDS = 30
"""What is waited for comes within it, on a busy machine too."""
REFUSED = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")

expect.set_options(timeout=1000 * SECONDS)


@dataclass
class Seen:
    """A page, and what went wrong in it or was asked of others."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def go(self, path: str = "") -> None:
        """To a view, by what stands behind `#` in the address."""
        self.page.goto(f"{self.url}#/{path}")

    def shot(self, name: str, *, whole: bool = False) -> None:
        """Keep what is seen."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=whole, animations="disabled")

    def ask(self, question: str) -> None:
        """Type a question, and send it with Enter."""
        self.page.get_by_role("textbox", name="Ask a question").fill(question)
        self.page.keyboard.press("Enter")

    def watch(self) -> None:
        """Note what goes wrong from now on."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not REFUSED.match(message.text):
            self.wrong.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.elsewhere.append(request.url)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = launch(playwright)
        yield made
        made.close()


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`demo` serves, `sleepy` leaves after a second without work, `busy` has one replica for each request, at most
    two, and `broken` can't be served."""
    scaled = {"minReplicas": 1, "maxReplicas": 2, "scaleDownSeconds": 600, "target": {"requestsPerReplica": 1}}
    asleep = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 1, "scaleDownSeconds": 1}
    with served(
        tmp_path_factory.mktemp("console"),
        manifest("demo"),
        manifest("sleepy", scaling=asleep),
        manifest("busy", scaling=scaled),
        manifest("broken", uri="file://none.gguf"),
    ) as url:
        yield url


Open = Callable[..., Seen]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """A page of its own, as `Browser.new_context` makes it; nothing may go wrong in it or leave the gateway."""
    pages: list[Seen] = []

    def opened(url: str, **options: object) -> Seen:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, "locale": "en-US", **options})  # type: ignore[arg-type]
        context.set_default_timeout(1000 * SECONDS)
        seen = Seen(context.new_page(), url)
        seen.watch()
        pages.append(seen)
        return seen

    yield opened
    for seen in pages:
        seen.page.context.close()
    assert [(seen.wrong, seen.elsewhere) for seen in pages] == [([], [])] * len(pages)


@pytest.fixture
def seen(open_page: Open, console: str) -> Seen:
    """The console of `console`."""
    return open_page(console)


def stream(*deltas: dict[str, object]) -> str:
    """An answer of a model, as engines send it."""
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, end]) + "data: [DONE]\n\n"
