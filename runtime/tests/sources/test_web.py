"""http(s)://: single files, base URLs, servers without ranges, TLS bundles, proxies, forbidden addresses."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.guard import AddressRefusedError, check_url, public_connections_only
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Silent
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import Handler, Reply, Request, Server, certificate, file_reply, noise

GGUF = noise(2_500_000, 7)
Make = Callable[..., Server]


def static(files: dict[str, bytes], ranges: bool = True, auth: str | None = None) -> Handler:
    """A static web server."""

    def handle(request: Request) -> Reply:
        if auth and request.headers.get("authorization") != auth:
            return Reply(401)
        if request.path not in files:
            return Reply(404)
        return file_reply(request, files[request.path], {"ETag": f'"{len(files[request.path])}"'}, ranges)

    return handle


def opened(url: str, settings: SourceSettings, environ: dict[str, str] | None = None) -> Source:
    return open_model(url, None, base=Path(), secrets=Secrets(environ=environ or {}), settings=settings)


def test_a_single_file_is_listed_read_and_fetched(make_server: Make, settings: SourceSettings, tmp_path: Path) -> None:
    server = make_server(static({"/m/tiny.gguf": GGUF}))
    files = opened(f"{server.url}/m/tiny.gguf", settings)
    assert [(e.path, e.size) for e in files.entries()] == [("tiny.gguf", len(GGUF))]
    assert len(files.revision) == 40
    assert files.read("tiny.gguf", 5, 6) == GGUF[5:11]
    assert (fetch(files, ["tiny.gguf"], tmp_path / "cache", Silent()) / "tiny.gguf").read_bytes() == GGUF
    assert server.ranges("/m/tiny.gguf")[:2] == ["bytes=0-0", "bytes=5-10"]


def test_the_parts_of_a_split_file_come_with_it(make_server: Make, settings: SourceSettings) -> None:
    names = [f"/m/x-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    server = make_server(static(dict.fromkeys(names, b"GGUF")))
    files = opened(server.url + names[0], settings)
    assert [e.path for e in files.entries()] == [n.removeprefix("/m/") for n in names]


def test_a_base_url_is_probed_and_its_shards_are_found(make_server: Make, settings: SourceSettings) -> None:
    index = json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    )
    content = {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "model.safetensors.index.json": index.encode(),
        "model-00001-of-00002.safetensors": b"one",
        "model-00002-of-00002.safetensors": b"two",
    }
    server = make_server(static({f"/base/{n}": d for n, d in content.items()}))
    files = opened(f"{server.url}/base/", settings)
    assert [e.path for e in files.entries()] == sorted(content)
    assert files.read("model-00002-of-00002.safetensors", 0, 10) == b"two"


def test_an_index_that_leaves_its_folder_is_refused(make_server: Make, settings: SourceSettings) -> None:
    content = {
        "/b/config.json": b"{}",
        "/b/model.safetensors.index.json": b'{"weight_map": {"a": "../x"}}',
        "/b/../x": b"1",
    }
    with pytest.raises(SourceError):
        opened(make_server(static(content)).url + "/b", settings)


def test_an_empty_base_url_says_what_is_missing(make_server: Make, settings: SourceSettings) -> None:
    with pytest.raises(SourceError, match=r"config\.json"):
        opened(make_server(static({})).url + "/nothing", settings)


def test_without_ranges_a_small_head_is_read_and_a_far_one_refused(make_server: Make, settings: SourceSettings) -> None:
    big = noise(17 << 20)
    server = make_server(static({"/big.gguf": big}, ranges=False))
    files = opened(f"{server.url}/big.gguf", settings)
    assert files.read("big.gguf", 0, 100) == big[:100]
    assert files.read("big.gguf", 1000, 100) == big[1000:1100]
    with pytest.raises(SourceError, match="range requests"):
        files.read("big.gguf", (16 << 20) + 5, 100)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_body_is_resumed_or_restarted(
    make_server: Make, settings: SourceSettings, tmp_path: Path, ranges: bool
) -> None:
    server = make_server(static({"/x.gguf": GGUF}, ranges))
    files = opened(f"{server.url}/x.gguf", settings)
    server.faults["/x.gguf"] = [lambda r: replace(r, cut_after=1_500_000), lambda r: replace(r, cut_after=700_000)]
    counts: list[int] = []

    class Counting(Silent):
        def advance(self, count: int) -> None:
            counts.append(count)

    folder = fetch(files, ["x.gguf"], tmp_path / "cache", Counting())
    assert (folder / "x.gguf").read_bytes() == GGUF
    assert sum(counts) == len(GGUF)
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for r in server.ranges("/x.gguf")[2:] if r]
    assert starts[0] >= 1_400_000
    assert not ranges or starts == sorted(starts)


def test_a_file_replaced_meanwhile_is_noticed(make_server: Make, settings: SourceSettings, tmp_path: Path) -> None:
    content = {"/x.gguf": GGUF}
    server = make_server(static(content))
    files = opened(f"{server.url}/x.gguf", settings)
    content["/x.gguf"] = GGUF + b"more"
    with pytest.raises(SourceError, match="replaced") as caught:
        fetch(files, ["x.gguf"], tmp_path / "cache", Silent())
    assert caught.value.failure is FailureClass.MODEL_DAMAGED


def test_a_pinned_digest_is_checked(make_server: Make, settings: SourceSettings, no_secrets: Secrets) -> None:
    server = make_server(static({"/x.gguf": GGUF}))
    url = f"{server.url}/x.gguf"
    digest = opened(url, settings).revision
    plain = replace(settings, cache=None)
    assert open_model(url, digest, base=Path(), secrets=no_secrets, settings=plain).revision == digest
    with pytest.raises(SourceError, match=r"spec\.model\.revision") as caught:
        open_model(url, "main", base=Path(), secrets=no_secrets, settings=plain)
    assert caught.value.failure is FailureClass.MODEL_CHANGED


@pytest.mark.parametrize("cached", [False, True])
def test_the_ways_out_of_a_file_that_was_replaced_end_well(
    make_server: Make, settings: SourceSettings, no_secrets: Secrets, tmp_path: Path, cached: bool
) -> None:
    """Planned with one file, fetched when there is another: what the remedy says, done, fetches what is there now."""
    chosen = settings if cached else replace(settings, cache=None)
    content = {"/x.gguf": GGUF}
    server = make_server(static(content))
    url = f"{server.url}/x.gguf"

    def files(revision: str | None) -> Source:
        return open_model(url, revision, base=Path(), secrets=no_secrets, settings=chosen)

    planned = files(None).revision
    content["/x.gguf"] = GGUF + b"more"
    with pytest.raises(SourceError) as caught:
        fetch(files(planned), ["x.gguf"], tmp_path / "models", Silent())
    assert caught.value.failure is FailureClass.MODEL_CHANGED
    now = files(None).revision
    assert now != planned and f"write {now} there or leave it out" in caught.value.remedy
    for revision in (now, None):
        folder = fetch(files(revision), ["x.gguf"], tmp_path / "models", Silent())
        assert (folder / "x.gguf").read_bytes() == content["/x.gguf"]


@pytest.mark.parametrize(
    ("environ", "auth"),
    [
        ({"HTTP_BEARER_TOKEN": "tok"}, "Bearer tok"),
        ({"HTTP_USERNAME": "u", "HTTP_PASSWORD": "p"}, "Basic dTpw"),
    ],
)
def test_credentials_open_the_door(
    make_server: Make, settings: SourceSettings, environ: dict[str, str], auth: str
) -> None:
    server = make_server(static({"/x.gguf": GGUF}, auth=auth))
    assert opened(f"{server.url}/x.gguf", settings, environ).read("x.gguf", 0, 4) == GGUF[:4]
    with pytest.raises(SourceError, match="HTTP_BEARER_TOKEN") as caught:
        opened(f"{server.url}/x.gguf", settings, {"HTTP_BEARER_TOKEN": "hunter2"})
    assert caught.value.failure is FailureClass.MODEL_GATED
    assert "hunter2" not in str(caught.value)


def test_private_addresses_are_refused_directly_and_after_redirects(
    make_server: Make, settings: SourceSettings
) -> None:
    server = make_server(static({"/x.gguf": GGUF}))
    strict = replace(settings, allow_private=False)
    for host in ("127.0.0.1", "localhost", "127.1", "[::1]"):
        with pytest.raises(SourceError, match="may not be read"):
            opened(f"http://{host}:{server.port}/x.gguf", strict)
    assert server.requests == []


@pytest.mark.parametrize(
    "place", ["http://127.0.0.1:99999/x", "http://[::1", f"http://{'a' * 64}.com/", "http://[::1]]/"]
)
def test_a_redirect_to_no_address_is_an_error_of_the_source(
    make_server: Make, settings: SourceSettings, place: str
) -> None:
    server = make_server(lambda request: Reply(302, b"", {"Location": place}))
    with pytest.raises(SourceError, match="Check the endpoint"):
        opened(f"{server.url}/x.gguf", settings)


def test_a_redirect_into_the_network_is_refused_before_it_is_followed(
    make_server: Make, settings: SourceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public server stands on loopback here: only its own URL is let through."""
    inside = make_server(static({"/x.gguf": GGUF}))
    outside = make_server(lambda request: Reply(302, b"", {"Location": f"{inside.url}/x.gguf"}))

    def check(url: str, allow: bool) -> None:
        if not url.startswith(outside.url):
            check_url(url, allow)

    monkeypatch.setattr("llmservice_runtime.sources.http.check_url", check)
    monkeypatch.setattr("llmservice_runtime.sources.http.check_address", lambda *_: None)
    with pytest.raises(SourceError, match="may not be read"):
        opened(f"{outside.url}/x.gguf", replace(settings, allow_private=False))
    assert inside.requests == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "::1", "fe80::1", "fd00:ec2::254", "0.0.0.0"),
        *("fec0::1", "100.64.0.1", "198.18.0.1", "192.0.0.8", "240.0.0.1", "255.255.255.255", "2001:db8::1"),
        *("224.0.0.1", "ff02::1", "3fff::1", "5f00::1", "100::1"),
        "64:ff9b::a9fe:a9fe",  # 169.254.169.254 through NAT64
        *("64:ff9b::a00:1", "64:ff9b:1::a00:1", "64:ff9b:1::5db8:d822"),
        *("::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1", "::ffff:0:10.0.0.1", "2002:a00:1::1"),
        *("2001:0:5db8:d822::f5ff:fffe", "2600::5efe:10.0.0.1", "fe80::1%eth0"),
    ],
)
def test_names_of_inner_addresses_are_refused(address: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_url("https://innocent.example/x", False, lambda host: ["93.184.216.34", address])
    check_url("https://innocent.example/x", True, lambda host: [address])
    public = ["93.184.216.34", "64:ff9b::5db8:d822", "::ffff:93.184.216.34", "2606:4700::1111", "2002:5db8:d822::1"]
    check_url("https://innocent.example/x", False, lambda host: public)


@pytest.mark.parametrize("url", ["http://0x7f000001/", "http://2130706433/", "http://[::ffff:127.0.0.1]/"])
def test_odd_spellings_of_loopback_are_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_url(url, False, lambda host: [])


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_extra_bundle_is_trusted_and_without_it_the_remedy_names_it(
    make_server: Make, settings: SourceSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    context, bundle = certificate(tmp_path)
    server = make_server(static({"/x.gguf": GGUF}), tls=context)
    with pytest.raises(SourceError, match="SSL_CERT_FILE") as caught:
        opened(f"{server.url}/x.gguf", settings)
    assert "not trusted" in caught.value.reason
    monkeypatch.setenv(variable, str(bundle))
    assert opened(f"{server.url}/x.gguf", settings).read("x.gguf", 0, 4) == GGUF[:4]
    monkeypatch.setenv(variable, str(tmp_path / "missing.pem"))
    with pytest.raises(SourceError, match=variable):
        opened(f"{server.url}/x.gguf", settings)


def test_a_proxy_is_used_and_no_proxy_goes_around_it(
    make_server: Make, settings: SourceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"/x.gguf": GGUF}
    server = make_server(static(content))
    proxy = make_server(static(content))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    opened(f"{server.url}/x.gguf", replace(settings, cache=None))
    assert (len(proxy.requests), len(server.requests)) == (1, 0)
    assert proxy.requests[0].headers["host"] == f"127.0.0.1:{server.port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    opened(f"{server.url}/x.gguf", replace(settings, cache=None))
    assert (len(proxy.requests), len(server.requests)) == (1, 1)


def test_a_proxy_of_the_environment_leads_not_inside_the_network_unless_it_was_named(
    make_server: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = make_server(static({"/x.gguf": GGUF}))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    arguments = ["prepare", "--uri=http://192.0.32.7/x.gguf", f"--cache={tmp_path}"]
    command = [sys.executable, "-m", "llmservice_runtime", *arguments]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "127.0.0.1" in refused.stderr and "may not be read" in refused.stderr
    assert proxy.requests == []
    subprocess.run([*command, f"--proxy={proxy.url}"], capture_output=True, check=False)
    assert proxy.requests


def test_no_library_reaches_inside_the_network_while_that_is_refused(make_server: Make) -> None:
    server = make_server(static({"/x.gguf": GGUF}))
    where = ("127.0.0.1", urlsplit(server.url).port)

    def connect() -> None:
        with socket.socket() as connection:
            connection.connect(where)

    with public_connections_only([]), pytest.raises(AddressRefusedError, match=r"127\.0\.0\.1"):
        connect()
    with public_connections_only([server.url]):  # a proxy of the installation
        connect()
    connect()
