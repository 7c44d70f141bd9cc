"""Figures into their places in a page."""

from __future__ import annotations

from pathlib import Path


def write(page: Path, place: str, text: str) -> None:
    """Replace what stands between `<!-- PLACE -->` and `<!-- /PLACE -->`. ValueError where the page has none."""
    before, start, rest = page.read_text().partition(f"<!-- {place} -->\n")
    _, end, after = rest.partition(f"<!-- /{place} -->")
    if not start or not end:
        raise ValueError(f"{page} has no place {place}")
    page.write_text(f"{before}{start}{text}\n{end}{after}")
