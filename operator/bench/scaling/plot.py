"""Attainment over GPU-hours as an SVG, a panel for each case. Written by hand: no library for three scatter plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from bench.scaling.compare import OURS, Case
from bench.scaling.simulate import Result

FONT = 'font-family="sans-serif" font-size="12"'
WIDTH, HEIGHT, GAP = 330, 300, 60
MOST_HOURS = 20
COLOURS = ("#777", "#4477aa", "#66ccee", "#88aadd", "#ccbb44", "#aa3377", "#dd77aa", "#ee8866", "#bb6633", "#44aa77")


def plot(cases: Sequence[Case]) -> str:
    """Up and to the left is better."""
    names = list(cases[0].results)
    width, height = len(cases) * (WIDTH + GAP) + GAP, HEIGHT + 2 * GAP + 18 * ((len(names) + 4) // 3)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, case in enumerate(cases):
        parts += _panel(case, GAP + number * (WIDTH + GAP))
    parts += _legend(names, HEIGHT + 2 * GAP, width)
    return "\n".join([*parts, "</svg>", ""])


def _panel(case: Case, left: float) -> Iterator[str]:
    bottom = GAP / 2 + HEIGHT
    yield f'<text x="{left}" y="{GAP / 2 - 10}" font-weight="bold">{escape(case.shape)}</text>'
    for share in range(0, 101, 20):
        y = bottom - share / 100 * HEIGHT
        yield f'<line x1="{left}" y1="{y}" x2="{left + WIDTH}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{share}</text>'
    for hours in range(0, MOST_HOURS + 1, 5):
        x = left + hours / MOST_HOURS * WIDTH
        yield f'<line x1="{x}" y1="{bottom}" x2="{x}" y2="{bottom - HEIGHT}" stroke="#ddd"/>'
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{hours}</text>'
    yield f'<text x="{left + WIDTH / 2}" y="{bottom + 34}" text-anchor="middle">GPU-hours</text>'
    for number, (name, result) in enumerate(case.results.items()):
        yield _mark(result, left, bottom, COLOURS[number % len(COLOURS)], name)
    for name, found in (("who knows all arrivals", case.free), ("the same, keeping for 300 s", case.keeping)):
        if found is not None:
            x, y = _place(found, left, bottom)
            fill = "none" if found is case.keeping else "black"
            yield f'<path d="M{x - 5} {y}l5 -6l5 6l-5 6z" fill="{fill}" stroke="black"><title>{name}</title></path>'


def _mark(result: Result, left: float, bottom: float, colour: str, name: str) -> str:
    x, y = _place(result, left, bottom)
    title = (
        f"<title>{escape(name)}: {result.attained:.1%}, {result.gpu_hours:.2f} GPU-hours, {result.flips} flips</title>"
    )
    if name == OURS:
        return f'<circle cx="{x}" cy="{y}" r="8" fill="#cc3311">{title}</circle>'
    return f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}">{title}</circle>'


def _place(result: Result, left: float, bottom: float) -> tuple[float, float]:
    hours = min(result.gpu_hours, MOST_HOURS)
    return round(left + hours / MOST_HOURS * WIDTH, 1), round(bottom - result.attained * HEIGHT, 1)


def _legend(names: Sequence[str], top: float, width: float) -> Iterator[str]:
    column = (width - GAP) / 3
    entries = [(COLOURS[number % len(COLOURS)], name) for number, name in enumerate(names) if name != OURS]
    entries = [("#cc3311", "ours"), ("black", "diamonds: who knows all arrivals (hollow: keeping for 300 s)"), *entries]
    for number, (colour, name) in enumerate(entries):
        x, y = GAP + (number % 3) * column, top + (number // 3) * 18
        yield f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colour}"/><text x="{x + 10}" y="{y}">{escape(name)}</text>'
