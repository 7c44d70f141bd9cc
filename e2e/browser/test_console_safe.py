"""What must not happen: an answer that does anything, a page for whoever has no key."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from playwright.sync_api import Route, expect

from browser.conftest import Open, Seen, stream
from browser.test_console_chat import talk
from llmservice_api.gateway_keys import KeyRecord, new_key, record_of
from llmservice_gateway.app import Gateway
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.routing import Backend, Table
from llmservice_runtime.wire.server import ApiRunner

HOSTILE = """Before <script>window.hit = 1</script> <img src="http://127.0.0.1:9/a.png" onerror="window.hit = 2">
[a link](javascript:window.hit=3) [data](data:text/html,window.hit=4) ![a picture](http://127.0.0.1:9/b.png)
[fine](https://example.com/ "so") <b>bold<b onclick="window.hit = 4">

<style>body { display: none } @import url(http://127.0.0.1:9/c.css);</style>
<a href="https://example.com/" onclick="window.hit = 5" style="position: fixed; inset: 0" class="skip">fine</a>
<iframe src="http://127.0.0.1:9/d"></iframe> <object data="http://127.0.0.1:9/e"></object>
<form action="/"><input></form> <math><mi xlink:href="javascript:window.hit=8">
<svg onload="window.hit = 6"><animate onbegin="window.hit = 7"></animate></svg>
<div id="page" style="background: url(http://127.0.0.1:9/f)"></div>

```html"><script>window.hit = 9</script>
<b onmouseover="window.hit = 10">code</b>
```

| a |
|---|
| <img src=x onerror=window.hit=11> |

After
"""
FORBIDDEN = "script, style, img, iframe, object, form, input, svg, math, [onclick], [onerror], [onload], [style], [id]"


def test_a_hostile_answer_is_harmless(seen: Seen) -> None:
    def answers(route: Route) -> None:
        route.fulfill(body=stream({"content": HOSTILE}), content_type="text/event-stream")

    seen.page.route("**/v1/chat/completions", answers)
    talk(seen)
    seen.ask("Do your worst.")
    answer = seen.page.get_by_role("region", name="default/demo")
    expect(answer).to_contain_text("After")
    expect(answer.get_by_role("button", name="Retry")).to_be_visible()
    said = answer.locator(".markdown")
    assert said.locator(FORBIDDEN).count() == 0
    links = said.locator("a[href]").evaluate_all("all => all.map(one => [one.protocol, one.rel, one.target])")
    assert links
    assert all(protocol in ("http:", "https:") and "noopener" in rel for protocol, rel, _ in links)
    answer.get_by_text("a link").click()
    said.locator("pre").hover()
    assert seen.page.evaluate("window.hit") is None
    seen.shot("hostile")
    # That nothing was asked of another host is asserted of every page when it closes.


def test_a_key_is_asked_for_and_a_wrong_one_refused(open_page: Open) -> None:
    right = new_key()
    with gateway({"dify": record_of(right, ["apps/*"])}) as url:
        seen = open_page(url)
        seen.go()
        field = seen.page.get_by_label("API key", exact=True)
        field.fill("llms-not-this-one")
        seen.page.get_by_role("button", name="Enter").click()
        expect(seen.page.get_by_role("alert")).to_contain_text("not a key of this gateway")
        seen.shot("refused")
        field.fill(right)
        seen.page.get_by_role("button", name="Enter").click()
        services = seen.page.get_by_role("main").get_by_role("listitem")
        expect(services).to_have_count(1)  # what the key may not use is not there
        expect(services).to_contain_text("apps/theirs")
        seen.page.reload()
        expect(services).to_have_count(1)
        seen.page.get_by_role("button", name="Leave").click()
        expect(field).to_be_visible()


@contextmanager
def gateway(keys: dict[str, KeyRecord]) -> Iterator[str]:
    """A gateway that asks for these keys, in a thread of its own, with a service of apps and one of others."""
    started: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        door = Door()
        door.publish(Ring(keys))
        made = Gateway(door=door, console=True)
        backends = (Backend("apps", "theirs"), Backend("other", "ours"))
        made.proxy.publish(Table({one.full_name: one for one in backends}))
        runner = ApiRunner(made.application(), handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        over = asyncio.Event()
        started.put((f"http://127.0.0.1:{runner.addresses[0][1]}/", asyncio.get_running_loop(), over))
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    url, loop, over = started.get(timeout=30)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
