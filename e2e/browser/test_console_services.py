"""Services in the console: what runs and why, what is wrong and what to do, and how demand moved it."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Route, expect

from browser.conftest import Open, Seen
from browser.served import DEMO

LONG = {"type": "array", "minItems": 200, "maxItems": 200, "items": {"type": "integer", "minimum": 10, "maximum": 99}}
"""An answer of this form takes the demo model some seconds."""


def test_what_runs_and_why(seen: Seen) -> None:
    seen.go()
    row = seen.page.get_by_role("listitem").filter(has_text="default/demo")
    expect(row).to_contain_text("Ready")
    expect(row).to_contain_text("llama.cpp")
    seen.shot("services")
    row.get_by_role("link", name="default/demo", exact=True).click()
    page = seen.page
    expect(page.get_by_role("heading", name="default/demo")).to_be_visible()
    plan = page.get_by_role("region", name="Plan")
    expect(plan).to_contain_text("vLLM")  # and why not it
    expect(plan).to_contain_text("Speed at most")  # or that it is not known
    memory = page.get_by_role("table").filter(has_text="Planned")
    expect(memory).to_contain_text("Measured")
    expect(page.get_by_role("region", name="Replicas")).to_contain_text("Loaded in")
    expect(page.get_by_role("region", name="Manifest").first).to_contain_text("kind: LLMService")
    expect(page.get_by_role("img", name="Replicas: wanted 1, ready 1")).to_be_visible()
    seen.shot("service", whole=True)


def test_the_manifest_is_copied(open_page: Open, console: str) -> None:
    seen = open_page(console, permissions=["clipboard-read", "clipboard-write"])
    seen.go("services/default/demo")
    seen.page.get_by_role("region", name="Manifest").first.get_by_role("button", name="Copy").click()
    expect(seen.page.get_by_role("button", name="Copied")).to_be_visible()
    assert "kind: LLMService" in seen.page.evaluate("navigator.clipboard.readText()")


def test_a_failed_service_says_what_to_do(seen: Seen) -> None:
    seen.go()
    row = seen.page.get_by_role("listitem").filter(has_text="default/broken")
    expect(row).to_contain_text("Failed")
    expect(row).to_contain_text("none.gguf")
    row.get_by_role("link", name="default/broken", exact=True).click()
    expect(seen.page.get_by_text("What to do:")).to_be_visible()
    seen.shot("failed")


@pytest.mark.parametrize("path", ["100%", "nonsense", "constructor", "services/default"])
def test_a_wrong_address_has_the_list_and_a_word(seen: Seen, path: str) -> None:
    seen.go(path)
    expect(seen.page.get_by_text("There is nothing at this address.")).to_be_visible()
    expect(seen.page.get_by_role("listitem").filter(has_text="default/demo")).to_be_visible()
    seen.page.get_by_role("link", name="Engines").click()
    expect(seen.page.get_by_text("There is nothing at this address.")).to_have_count(0)


def test_a_service_that_is_not_there_is_told_by_its_name(seen: Seen) -> None:
    seen.go("services/default/100%")
    expect(seen.page.get_by_role("heading", level=1)).to_contain_text("default/100%")


def test_a_scale_up_is_seen_in_the_plot(seen: Seen) -> None:
    seen.go("services/default/busy")
    expect(seen.page.get_by_role("img", name="Replicas: wanted 1")).to_be_visible()
    with load(seen.url, "default/busy", 3):
        expect(seen.page.get_by_role("list", name="Decisions of the autoscaler")).to_contain_text("1 → 2")
    expect(seen.page.get_by_role("img", name="Replicas: wanted 2, ready 2")).to_be_visible()
    expect(seen.page.get_by_role("region", name="Scaling by demand").first).to_contain_text("1 → 2")
    seen.shot("plots", whole=True)


@contextmanager
def load(url: str, model: str, clients: int) -> Iterator[None]:
    """So many clients, each of which asks again and again, until it is over."""
    over = threading.Event()
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Count."}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "numbers", "schema": LONG}},
    }

    def ask() -> None:
        while not over.is_set():
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}v1/chat/completions", json.dumps(body).encode(), headers)
            urllib.request.urlopen(request, timeout=120).read()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_what_a_model_could_run_on_and_the_ways_out(seen: Seen) -> None:
    seen.go("engines")
    page = seen.page
    page.get_by_label("Model", exact=True).fill(f"file://{DEMO}")
    page.get_by_label("Machine").select_option("L4")
    page.get_by_role("button", name="Look").click()
    table = page.get_by_role("table").filter(has_text="Where, or why not")
    expect(table).to_contain_text("llama.cpp")
    expect(table).to_contain_text("Q4_K_M")
    expect(page.get_by_role("region", name="What would run")).to_contain_text("llama.cpp on 1 × L4")
    seen.shot("engines", whole=True)
    page.get_by_label("Machine").select_option("")
    page.get_by_role("textbox", name="Host memory").fill("300Mi")
    page.get_by_role("button", name="Look").click()
    refused = page.get_by_role("region", name="It can't run there")
    expect(refused).to_contain_text("Ways out")
    seen.shot("ways-out", whole=True)


def test_a_day_where_prometheus_keeps_it(seen: Seen) -> None:
    asked: list[str] = []

    def session(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "prometheus": True})

    def history(route: Route) -> None:
        if "seconds=86400" not in route.request.url:
            return route.continue_()
        asked.append(route.request.url)
        at = [1790000000 + 300 * step for step in range(288)]
        columns = {"at": at, "ready": [3] * 288, "wanted": [3] * 288, "kvUsed": [None] * 288}
        return route.fulfill(json={"gateway": "x", "step": 300, "columns": columns, "decisions": []})

    seen.page.route("**/-/api/session", session)
    seen.page.route("**/history?**", history)
    seen.go("services/default/demo")
    seen.page.get_by_role("button", name="24 h").click()
    expect(seen.page.get_by_role("img", name="Replicas: wanted 3, ready 3")).to_be_visible()
    expect(seen.page.get_by_role("img", name="KV cache used: used –")).to_be_visible()
    assert asked
