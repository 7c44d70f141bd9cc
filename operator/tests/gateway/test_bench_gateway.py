"""The benchmark of proxies itself, small: what it counts, and what it says of a proxy that can't be had."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "operator"))  # the benchmark is no part of the installed packages

from bench.gateway.__main__ import of_proxy  # noqa: E402
from bench.gateway.clients import Seen  # noqa: E402
from bench.gateway.engine import HEAD, LAST  # noqa: E402
from bench.gateway.figures import Decoding, of_decoding  # noqa: E402
from bench.gateway.paces import PACES, Pace  # noqa: E402
from bench.gateway.rivals import RIVALS  # noqa: E402

PACE = Pace(5, 0.0, 230)
CHUNK = b"%x\r\n%b\r\n" % (len(PACE.event), PACE.event)


@given(places=st.lists(st.integers(0, 2000), max_size=40))
def test_however_a_stream_is_cut_each_chunk_is_counted_once(places: list[int]) -> None:
    raw, seen = HEAD + CHUNK * PACE.chunks + LAST, Seen(PACE, 0.0)
    cuts = sorted({0, len(raw), *(place % len(raw) for place in places)})
    for start, end in pairwise(cuts):
        assert not seen.whole
        seen.feed(raw[start:end])
    assert seen.whole and seen.tokens == PACE.chunks


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + CHUNK * 4 + LAST,
        HEAD + CHUNK * 5,
        HEAD + CHUNK * 6 + LAST,
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_a_stream_of_which_something_is_missing_is_lost(raw: bytes) -> None:
    seen = Seen(PACE, 0.0)
    seen.feed(raw)
    assert not seen.whole


@pytest.mark.parametrize("pace", PACES.values())
def test_an_event_has_the_size_that_its_pace_says(pace: Pace) -> None:
    assert pace.size <= len(pace.event) <= pace.size + 20


def test_a_proxy_that_cannot_be_fetched_has_its_reason_in_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("bench.gateway.rivals.ELSEWHERE", "")

    def never(pid: int, port: int) -> Decoding:
        raise AssertionError(pid, port)

    said = of_proxy("HAProxy", 1, never)
    assert isinstance(said, str)
    (row,) = of_decoding({"HAProxy": said}, [])[2:]
    assert row.startswith("| HAProxy | not measured: Debian's package haproxy is wanted, and there is no apt-get")


def test_every_rival_from_a_registry_is_pinned_with_hashes() -> None:
    for lock in (ROOT / "operator/bench/gateway").glob("*.lock"):
        text = lock.read_text()
        assert text.count("--hash=sha256:") >= text.count("==") > 0 and "://" not in text
    assert set(RIVALS) == {"HAProxy", "vllm-router", "LiteLLM"}


def test_a_small_run_loses_no_stream() -> None:
    command = [sys.executable, "-m", "bench.gateway", "--only=splice,ours", "--streams=3", "--rounds=1", "--slow=0"]
    path = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'e2e'}"}
    done = subprocess.run(command, env={**os.environ, **path}, capture_output=True, text=True, timeout=300)
    rows = done.stdout.rstrip().splitlines()[-2:]
    assert all(row.endswith("| 0 of 3 |") for row in rows), done.stderr  # its exit code tells of a quiet machine alone
