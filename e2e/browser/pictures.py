"""The pictures of the README, of real services under real load: `python -m browser.pictures ../docs/images` in e2e/."""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from browser.chromium import launch
from browser.served import ROOT, manifest, served

WAVES = (1, 4, 2, 0, 3, 1)
"""Clients that ask at a time, one after the other."""
WIDTH, HEIGHT = 1200, 760


def services() -> list[str]:
    """One under load, one asleep, one on an engine that can not run it."""
    moves = {"minReplicas": 1, "maxReplicas": 3, "scaleDownSeconds": 30, "target": {"requestsPerReplica": 2}}
    sleeps = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": 5, "scaleDownSeconds": 5}
    return [
        manifest("assistant", scaling=moves),
        manifest("summaries", scaling=sleeps),
        manifest("archive", engine={"type": "VLLM"}),
    ]


def waves(url: str, model: str, seconds: float) -> None:
    """Load that comes and goes for so long."""
    questions = [pair["question"] for pair in json.loads((ROOT / "runtime/demo/questions.json").read_text())]
    end = time.monotonic() + seconds

    def ask(until: float, first: int) -> None:
        for number in range(first, 10_000):
            if time.monotonic() > until:
                return
            messages = [{"role": "user", "content": questions[number % len(questions)]}]
            body = json.dumps({"model": model, "stream": True, "messages": messages}).encode()
            request = urllib.request.Request(f"{url}v1/chat/completions", body, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=60).read()

    while time.monotonic() < end:
        for clients in WAVES:
            until = time.monotonic() + seconds / len(WAVES)
            threads = [threading.Thread(target=ask, args=(until, 17 * one)) for one in range(clients)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            time.sleep(max(0.0, until - time.monotonic()))


def shoot(page: Page, url: str, into: Path) -> None:
    """Services, plots and a conversation."""
    page.goto(f"{url}#/services")
    expect(page.get_by_role("listitem")).to_have_count(3)
    page.screenshot(path=into / "console-services.png", clip={"x": 0, "y": 0, "width": WIDTH, "height": 480})
    page.goto(f"{url}#/services/default/assistant")
    page.get_by_role("button", name="5 min", exact=True).click()
    expect(page.get_by_role("img", name="Requests")).to_be_visible()
    page.screenshot(path=into / "console-plots.png")
    page.goto(f"{url}#/chat/new/default%2Fassistant")
    for question in ("What is LLMService?", "What is GGUF?"):
        page.get_by_role("textbox", name="Ask a question").fill(question)
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Retry")).to_have_count(1)
    page.screenshot(path=into / "console-chat.png")


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("into", type=Path)
    parser.add_argument("--seconds", type=float, default=280, help="how long there is load before")
    args = parser.parse_args()
    args.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), *services()) as url, sync_playwright() as made:
        waves(url, "default/assistant", args.seconds)
        browser = launch(made)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, locale="en-US")
        shoot(page, url, args.into)
        browser.close()


if __name__ == "__main__":
    main()
