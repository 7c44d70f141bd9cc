"""Who can use the console: with a keyboard, a screen reader, a phone, in the dark, in Chinese."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from browser.axe import axe
from browser.conftest import Open, Seen

VIEWS = {
    "services": "",
    "service": "services/default/busy",
    "failed": "services/default/broken",
    "chat": "chat",
    "engines": "engines",
}
"""By their names here; what stands behind `#`."""
SERIOUS = ("serious", "critical")


def there(seen: Seen, view: str) -> None:
    """The view is drawn whole."""
    seen.go(VIEWS[view])
    expect(seen.page.get_by_role("heading", level=1)).to_have_count(1)
    if view in ("service", "failed"):
        expect(seen.page.get_by_role("img", name="Requests")).to_be_visible()
    if view == "chat":
        expect(seen.page.get_by_role("textbox", name="Ask a question")).to_be_visible()


def found_by_axe(page: Page) -> list[tuple[str, str, list[str]]]:
    """What is serious: rule, help, where."""
    page.evaluate(axe().read_text())
    found: dict[str, Any] = page.evaluate("axe.run()")
    return [
        (one["id"], one["help"], [str(node["target"]) for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Open, console: str, scheme: str) -> None:
    seen = open_page(console, color_scheme=scheme)
    for view in VIEWS:
        there(seen, view)
        assert found_by_axe(seen.page) == [], view
        seen.shot(f"{view}-{scheme}", whole=True)


def test_nothing_is_wider_than_a_phone(open_page: Open, console: str) -> None:
    seen = open_page(console, viewport={"width": 375, "height": 812}, device_scale_factor=2, has_touch=True)
    for view in VIEWS:
        there(seen, view)
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 375, view
        seen.shot(f"{view}-phone")
    there(seen, "chat")
    seen.page.get_by_role("button", name="Options").click()
    options = seen.page.get_by_role("region", name="Options")
    assert options.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
    seen.shot("options-phone")


def test_it_is_used_by_the_keyboard_alone(seen: Seen) -> None:
    there(seen, "services")
    press = seen.page.keyboard.press
    press("Tab")
    expect(seen.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    press("Enter")
    press("Tab")
    expect(seen.page.get_by_role("listitem").first.get_by_role("link").first).to_be_focused()
    press("Enter")
    expect(seen.page.get_by_role("heading", level=1)).to_contain_text("default/")


def test_it_speaks_chinese(open_page: Open, console: str) -> None:
    seen = open_page(console, locale="zh-CN")
    seen.go()
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("服务")
    assert seen.page.evaluate("document.documentElement.lang") == "zh-Hans"
    seen.page.get_by_role("button", name="English").click()
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("Services")
    seen.page.reload()
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("Services")  # it is remembered
