"""Run the benchmark: `python -m bench [--pairs N] [--only TEXT] [--write docs/benchmarks.md]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from pathlib import Path

import httpx

from bench import ours, peer
from bench.make_model import make_model
from bench.scenarios import all_scenarios
from bench.table import Pair, header, row

SLOTS = 16
CONTEXT = 2304
"""Tokens per llama-server slot: a 2,000-token prompt and its answer."""


def counter(base: str) -> object:
    """Token count of a text by the server's own tokenizer."""
    client = httpx.Client(base_url=base)

    def count(text: str) -> int:
        answer = client.post("/tokenize", json={"content": text, "add_special": False})
        return len(answer.json()["tokens"])

    return count
