"""What an open console costs and how soon it is there: `make bench-console-page`, or `python -m browser.bench` in e2e/.

The first view is timed from the navigation to the first service that is drawn, in a browser that kept nothing. The
cost is the processor time of all of the browser's processes while one view of a service is open, less that of an empty
page, as a share of one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from browser.chromium import launch
from browser.served import manifest, served

FIRST_VIEW = """new Promise(done => {
  const look = () => document.querySelector('.services li') ? done(performance.now()) : requestAnimationFrame(look);
  look();
})"""


def first_view(browser: Browser, url: str) -> float:
    """Seconds until the services are seen, in a browser without a cache."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url, wait_until="commit")
    milliseconds: float = page.evaluate(FIRST_VIEW)
    context.close()
    return milliseconds / 1000


def share(browser: Browser, url: str, seconds: float) -> float:
    """Of a core, that the browser takes with this page open."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(10_000)  # what is drawn once is not counted
    before, began = spent(), time.monotonic()
    page.wait_for_timeout(1000 * seconds)
    used, took = spent() - before, time.monotonic() - began
    context.close()
    return used / took


def spent() -> float:
    """Processor seconds of every process below this one that is a browser's."""
    ticks, known = 0, descendants()
    for pid in known:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            name = Path(f"/proc/{pid}/comm").read_text()
        except OSError:
            continue
        if name.startswith("chrom"):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def descendants() -> list[int]:
    """Processes that this one, or one of them, started."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a console that is there; omitted = one service of the demo model")
    parser.add_argument("--views", type=int, default=10, help="first views that are timed")
    parser.add_argument("--seconds", type=float, default=60, help="how long a page is watched")
    args = parser.parse_args()
    if args.url:
        measure(args.url, args.views, args.seconds)
        return
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), manifest("demo")) as url:
        measure(url, args.views, args.seconds)


def measure(url: str, views: int, seconds: float) -> None:
    """First views, then what stays open."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        times = sorted(first_view(browser, url) for _ in range(views))
        print(f"first view: median {statistics.median(times):.2f} s, slowest {times[-1]:.2f} s of {views}")
        empty = share(browser, "about:blank", seconds)
        for name, path in (("services", "#/services"), ("a service", "#/services/default/demo"), ("chat", "#/chat")):
            took = share(browser, f"{url}{path}", seconds)
            print(f"{name}, open: {100 * (took - empty):.2f} % of a core (empty page {100 * empty:.2f} %)")
        browser.close()


if __name__ == "__main__":
    main()
