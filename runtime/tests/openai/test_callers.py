"""Which requests a web page may have made, and which of them are answered."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from multidict import CIMultiDict

from llmservice_runtime.contract.bounds import ANY
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.probes import View, application
from llmservice_runtime.supervisor.state import State
from llmservice_runtime.wire.callers import Callers, protect
from llmservice_runtime.wire.errors import ApiError

EVIL = "http://evil.example"
OURS = "127.0.0.1:8080"


def refused(callers: Callers, method: str = "POST", **headers: str | list[str]) -> str:
    """The code of the refusal; empty = it may."""
    given: CIMultiDict[str] = CIMultiDict()
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            given.add(name.replace("_", "-"), value)
    try:
        callers.check(method, given)
    except ApiError as error:
        assert error.status == 403 and error.message.isprintable()
        return error.code
    return ""


@pytest.mark.parametrize(
    "host",
    [OURS, "127.0.0.1", "127.8.9.1:80", "[::1]:8080", "[::1]", "[::ffff:127.0.0.1]:1", "localhost", "LocalHost:8080",
     "localhost.", "localhost.:8080", "demo.localhost:8080", "demo.localhost."],
)  # fmt: skip
def test_a_loopback_endpoint_answers_to_the_names_of_loopback(host: str) -> None:
    assert refused(Callers(), Host=host) == ""


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io:8080", "127.1",
     "notlocalhost", "localhost..", ".localhost.evil", "2130706433", "0x7f000001", "0.0.0.0:8080", "10.1.2.3",
     "[fe80::1]", "[::ffff:10.0.0.1]", "::1", "[::1", "localhost:x", "localhost:80:80", "user@localhost", "localhost/x",
     "localhost\x00.evil", "", "localhost, evil.example", "\ud800"],
)  # fmt: skip
def test_it_answers_to_no_other_name(host: str) -> None:
    assert refused(Callers(), Host=host) == "host_not_allowed"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "Send one, as HTTP/1.1 does."),
        ({"Host": "a b"}, "--allow-host NAME"),
        ({"Host": "llm.example:80"}, "--allow-host llm.example"),
    ],
)
def test_what_would_allow_it_can_be_done(headers: dict[str, str], said: str) -> None:
    with pytest.raises(ApiError) as refusal:
        Callers(host_setting="Start it with --allow-host {}").check("POST", CIMultiDict(headers))
    assert refusal.value.message.endswith(said)


def test_one_host_is_named_and_once() -> None:
    assert refused(Callers()) == "host_not_allowed"
    assert refused(Callers(), Host=["localhost", "evil.example"]) == "host_not_allowed"


def test_names_can_be_allowed() -> None:
    callers = Callers(hosts=frozenset({"llm.example.com", "10.1.2.3"}))
    assert [refused(callers, Host=host) for host in ("LLM.example.com:443", "llm.example.com.", "10.1.2.3")] == [""] * 3
    assert refused(callers, Host="sub.llm.example.com") == "host_not_allowed"
    assert refused(Callers(hosts=frozenset({ANY})), Host="what.ever") == ""


def test_an_endpoint_of_the_network_has_its_addresses_and_the_machines_names() -> None:
    callers, name = Callers(loopback=False), socket.gethostname().partition(".")[0]
    for host in ("10.1.2.3:8080", "[2001:db8::1]", name, f"{name}.local:8080", "localhost"):
        assert refused(callers, Host=host) == ""
    assert refused(callers, Host="evil.example") == "host_not_allowed"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec_Fetch_Site": "none"}, {"Sec_Fetch_Site": "same-origin"}, {"Origin": f"http://{OURS}"},
     {"Origin": f"https://{OURS}"}],
)  # fmt: skip
def test_programs_and_pages_of_the_endpoint_itself_may_call(headers: dict[str, str]) -> None:
    assert refused(Callers(), Host=OURS, **headers) == ""


@pytest.mark.parametrize(
    "headers",
    [{"Origin": EVIL}, {"Origin": "null"}, {"Origin": "http://localhost:3000"}, {"Origin": "http://127.0.0.1"},
     {"Origin": f"http://{OURS}.evil.example"}, {"Origin": f"http://{OURS}/"}, {"Origin": f"ftp://{OURS}"},
     {"Origin": "file://"}, {"Origin": f"http://evil@{OURS}"}, {"Origin": [f"http://{OURS}", EVIL]},
     {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
     {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}],
)  # fmt: skip
def test_other_pages_may_not(headers: dict[str, Any]) -> None:
    assert refused(Callers(), Host=OURS, **headers) == "origin_not_allowed"


def test_a_link_may_be_followed() -> None:
    assert refused(Callers(), "GET", Host=OURS, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == ""
    assert refused(Callers(), "GET", Host=OURS, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") != ""


def test_origins_can_be_allowed() -> None:
    callers = Callers(origins=frozenset({"http://localhost:3000", "null"}))
    for origin in ("http://localhost:3000", "HTTP://LOCALHOST:3000", "null"):
        assert refused(callers, Host=OURS, Origin=origin, Sec_Fetch_Site="cross-site") == ""
    for origin in ("http://localhost:3001", "http://localhost", "https://localhost:3000", EVIL):
        assert refused(callers, Host=OURS, Origin=origin) == "origin_not_allowed"
    every = Callers(origins=frozenset({ANY}))
    assert refused(every, Host=OURS, Origin="null") == refused(every, Host=OURS, Origin=EVIL) == ""
    assert refused(every, Host="evil.example", Origin=EVIL) == "host_not_allowed"


async def test_what_is_refused_says_which_setting_and_what_is_allowed_gets_headers() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="yes")

    callers = Callers(
        origins=frozenset({"https://chat.example.com"}), host_setting="--host-setting {}", origin_setting="--setting {}"
    )
    app = web.Application()
    protect(app, callers)
    app.router.add_post("/chat", answer)
    async with TestClient(TestServer(app)) as client:
        refusal = await client.post("/chat", headers={"Origin": EVIL})
        assert refusal.status == 403 and "Access-Control-Allow-Origin" not in refusal.headers
        assert refusal.headers["Vary"] == (await client.post("/chat")).headers["Vary"] == "Origin"
        assert f"--setting {EVIL}" in (await refusal.json())["error"]["message"]
        refusal = await client.post("/chat", headers={"Host": "llm.example.com:80"})
        assert "--host-setting llm.example.com" in (await refusal.json())["error"]["message"]

        asked = {"Origin": "https://chat.example.com"}
        for path, status in (("/chat", 200), ("/none", 404)):
            response = await client.post(path, headers=asked)
            assert response.status == status
            assert response.headers["Access-Control-Allow-Origin"] == asked["Origin"]
            assert response.headers["Vary"] == "Origin"
        wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = await client.options("/chat", headers=asked | wanted)
        assert preflight.status == 204 and preflight.headers["Access-Control-Allow-Headers"] == "authorization"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert (await client.options("/chat", headers={"Origin": EVIL, **wanted})).status == 403


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 403), ("::", 200)])
async def test_probes_of_this_machine_are_not_for_pages_and_those_of_a_pod_have_any_name(
    host: str, status: int
) -> None:
    settings = RuntimeSettings(EngineType.LLAMA_CPP, "/m.gguf", "demo", host=host)
    async with TestClient(TestServer(application(View(settings, State, lambda: None, 1)))) as client:
        assert (await client.get("/status", headers={"Host": "evil.example"})).status == status
        assert (await client.get("/status")).status == 200


async def test_an_engine_of_this_machine_is_not_for_pages(connect: Any) -> None:
    client = await connect(None, callers=Callers())
    for headers in ({"Host": "evil.example"}, {"Origin": EVIL, "Content-Type": "text/plain"}):
        response = await client.post("/v1/chat/completions", data="{}", headers=headers)
        assert response.status == 403
    assert (await client.get("/v1/models")).status == 200


def test_an_endpoint_is_private_until_others_are_let_in() -> None:
    assert Callers(hosts=frozenset({"127.0.0.1", "localhost", "::1"})).private
    assert not Callers(hosts=frozenset({"127.0.0.1", "llm.example.com"})).private  # a proxy's name
    assert not Callers(origins=frozenset({"https://chat.example.com"})).private
    assert not Callers(loopback=False).private
