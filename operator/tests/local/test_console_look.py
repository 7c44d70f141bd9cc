"""What the console's page is told of a model that is not served: by the same code as the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from llmservice_cli.local.instance import LOOK

DEMO = Path(__file__).resolve().parents[3] / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"


def look(tmp_path: Path, env: Mapping[str, str] | None = None, **asked: Any) -> Any:
    body = {"revision": None, "gpu": None, "gpus": None, "memory": None, "private": True, **asked}
    done = subprocess.run(
        LOOK, input=json.dumps(body), capture_output=True, text=True, timeout=120, check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **(env or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "uri",
    ["http://169.254.169.254/latest/model.gguf", "http://127.0.0.1:1/model.gguf", "http://[fd00:ec2::254]/m.gguf"],
)
def test_addresses_inside_the_network_are_refused(tmp_path: Path, uri: str) -> None:
    told = look(tmp_path, uri=uri)["error"]
    assert "inside this network" in told["reason"]
    assert "llmservice engines" in told["remedy"]


def test_a_model_has_its_table_and_its_plan(tmp_path: Path) -> None:
    told = look(tmp_path, uri=f"file://{DEMO}", gpu="L4", gpus=1)
    assert told["where"].startswith("a machine with 1 × L4")
    assert {row["engine"] for row in told["rows"] if row["runs"]}
    assert told["plan"]["memory"] and told["plan"]["text"]
    assert "caches" in told["plan"]["speed"]["unknown"]
    assert f"file://{DEMO}" in told["manifest"]


def test_a_model_that_does_not_fit_has_ways_out(tmp_path: Path) -> None:
    file = tmp_path / f"{'7' * 33}-b-chat.gguf"  # which is no name of a service
    file.symlink_to(DEMO)
    told = look(tmp_path, uri=f"file://{file}", memory=100 << 20)
    assert told["plan"] is None
    assert told["refusal"]["waysOut"]
    assert f"name: m-{'7' * 33}-b-ch" in told["manifest"]


@pytest.fixture
def asked() -> Iterator[tuple[str, list[Mapping[str, str]]]]:
    """URL of a proxy that has nothing, and the headers of what it was asked."""
    seen: list[Mapping[str, str]] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_a_server_that_a_page_names_gets_no_credentials_of_this_machine(
    tmp_path: Path, asked: tuple[str, list[Mapping[str, str]]]
) -> None:
    """Whoever sees the page may name a server of his own."""
    url, seen = asked
    env = {"http_proxy": url, "HTTP_BEARER_TOKEN": "secret", "HTTP_USERNAME": "me", "HTTP_PASSWORD": "secret"}
    assert "error" in look(tmp_path, env, uri="http://models.example/model.gguf")
    assert seen and not any("authorization" in headers for headers in seen)


@pytest.mark.parametrize("private", [True, False])
def test_the_owners_token_reads_models_for_those_on_the_machine_alone(
    tmp_path: Path, asked: tuple[str, list[Mapping[str, str]]], private: bool
) -> None:
    """With another host, or behind a proxy, strangers see the page."""
    url, seen = asked
    (tmp_path / "token").write_text("stored")
    env = {"http_proxy": url, "HF_ENDPOINT": "http://hub.example", "HF_TOKEN_PATH": str(tmp_path / "token")}
    assert "error" in look(tmp_path, env, uri="hf://me/secret", private=private)
    assert seen and all(("authorization" in headers) == private for headers in seen)
