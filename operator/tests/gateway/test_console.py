"""The console at a gateway, over real sockets: the page, its files, what it may load, and who sees what."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
import yaml
from aiohttp import web
from gateway_world import World, answer, serve, stream  # type: ignore[import-not-found]

from llmservice_api.gateway_keys import new_key, record_of
from llmservice_console.assets import Assets
from llmservice_console.vendor import FILES
from llmservice_gateway.console.facts import Json, NoFacts
from llmservice_gateway.console.hiding import hidden
from llmservice_gateway.keys.door import Door
from llmservice_gateway.keys.ring import Ring
from llmservice_gateway.routing import Backend, Replica, Table, Unready

KEY, LITTLE = new_key(), new_key()
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def folder(path: Path, *, libraries: bool = True) -> Path:
    """A page with a script, and libraries in which there is nothing."""
    for name, text in (
        ("static/index.html", '<script type="module" src="{{assets}}/static/main.js"></script>'),
        ("static/missing.html", "Bring them"),
        ("static/main.js", "export const many = 1;\n" * 100),
        *((f"vendor/{name}", "export default 1;") for name in FILES if libraries),
    ):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    return path


class Shown(World):  # type: ignore[misc]
    """A gateway with a console, whose files the test makes."""

    def __init__(self, stack: AsyncExitStack, files: Path, door: Door | None = None) -> None:
        super().__init__(stack, door, console=True)
        self.gateway.console._assets = Assets(files)
        self.gateway.console.sampler.run = asyncio.Event().wait  # looks when the test says

    async def get(self, path: str, key: str = "", **headers: str) -> aiohttp.ClientResponse:
        given = {**headers, **({"Authorization": f"Bearer {key}"} if key else {})}
        response: aiohttp.ClientResponse = await self.client.get(self.url + path, headers=given)
        await response.read()
        return response

    async def told(self, path: str, key: str = "") -> Any:
        response = await self.get(f"/-/api/{path}", key)
        assert response.status == 200, await response.text()
        return await response.json()


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[Shown]:
    async with AsyncExitStack() as stack:
        made = Shown(stack, folder(tmp_path))
        await made.open()
        yield made


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Shown]:
    async with AsyncExitStack() as stack:
        door = Door()
        door.publish(Ring({"default": record_of(KEY), "little": record_of(LITTLE, ["apps/demo"], None, None)}))
        made = Shown(stack, folder(tmp_path), door)
        await made.open()
        made.publish(Backend("apps", "demo"), Backend("other", "demo"))
        yield made


async def test_browsers_get_the_page_and_ollamas_clients_their_text(shown: Shown) -> None:
    page = await shown.get("/", **BROWSER)
    assert page.content_type == "text/html"
    assert (await (await shown.get("/")).text()) == "Ollama is running"


async def test_the_page_may_load_and_run_nothing_but_its_own_files(shown: Shown) -> None:
    page = await shown.get("/", **BROWSER)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_files_are_kept_by_browsers_for_ever_and_come_compressed(shown: Shown) -> None:
    text = await (await shown.get("/", **BROWSER)).text()
    script = await shown.get(text.split('"')[3])
    assert script.content_type == "text/javascript"
    assert "immutable" in script.headers["Cache-Control"]
    assert script.headers["Content-Encoding"] == "gzip"
    again = await shown.get(text.split('"')[3], **{"If-None-Match": script.headers["ETag"]})
    assert again.status == 304


@pytest.mark.parametrize(
    ("said", "packed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, *", False),
        ("br", False),
    ],
)
async def test_only_who_takes_gzip_gets_it(shown: Shown, said: str, packed: bool) -> None:
    text = await (await shown.get("/", **BROWSER)).text()
    script = await shown.get(text.split('"')[3], **{"Accept-Encoding": said})
    assert ("Content-Encoding" in script.headers) == packed
    assert b"export const many" in await script.read()


async def test_a_changed_file_has_another_url(shown: Shown, tmp_path: Path) -> None:
    before = await (await shown.get("/", **BROWSER)).text()
    (tmp_path / "static" / "main.js").write_text("export const other = 2;")
    assert before != await (await shown.get("/", **BROWSER)).text()


@pytest.mark.parametrize("path", ["static/../__init__.py", "static/none.js", "static/index.html", "%2e%2e/vendor.py"])
async def test_no_other_file_is_served(shown: Shown, path: str) -> None:
    assert (await shown.get(f"/-/assets/0/{path}")).status == 404


async def test_without_libraries_the_page_says_how_to_get_them(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        made = Shown(stack, folder(tmp_path, libraries=False))
        await made.open()
        assert "Bring them" in await (await made.get("/", **BROWSER)).text()
        for name in FILES:
            (tmp_path / "vendor").mkdir(exist_ok=True)
            (tmp_path / "vendor" / name).write_text("export default 1;")
        assert "Bring them" not in await (await made.get("/", **BROWSER)).text()


async def test_a_page_of_somebody_else_may_not_ask(shown: Shown) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await shown.get("/-/api/services", **headers)).status == 403


async def test_the_page_needs_no_key_and_what_it_shows_does(keyed: Shown) -> None:
    assert (await keyed.get("/", **BROWSER)).status == 200
    assert (await keyed.get("/")).status == 401
    for path in ("services", "services/apps/demo", "services/apps/demo/history"):
        assert (await keyed.get(f"/-/api/{path}")).status == 401
    session = await keyed.told("session")
    assert session["keys"] and session["key"] is None and session["problem"] is None
    assert (await keyed.told("session", "wrong"))["problem"] == "invalid_api_key"
    assert (await keyed.told("session", LITTLE))["key"] == "little"


async def test_who_guesses_keys_is_written_down_and_no_key_is(keyed: Shown) -> None:
    for key in ("", "guess-1", "guess-1", "guess-2", LITTLE):
        await keyed.told("session", key)
    assert (await keyed.get("/-/api/services", "guess-3")).status == 401
    async with asyncio.timeout(30):
        while len(keyed.lines) < 3:  # noqa: ASYNC110 - it is over a moment after its answer
            await asyncio.sleep(0.01)
    lines = [json.loads(line) for line in keyed.lines]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/-/api/session", 200), ("/-/api/session", 200), ("/-/api/services", 401)
    ]  # fmt: skip
    assert {(line["reason"], line["address"]) for line in lines} == {("invalid_api_key", "127.0.0.1")}
    assert b"guess-" not in b"".join(keyed.lines)


async def test_what_only_looks_like_a_file_needs_a_key(keyed: Shown) -> None:
    async with keyed.client.post(f"{keyed.url}/-/assets/v1/chat/completions", data=b"{}") as response:
        assert response.status == 401


async def test_a_key_sees_what_it_may_use(keyed: Shown) -> None:
    assert [one["name"] for one in (await keyed.told("services", KEY))["services"]] == ["apps/demo", "other/demo"]
    assert [one["name"] for one in (await keyed.told("services", LITTLE))["services"]] == ["apps/demo"]
    assert (await keyed.get("/-/api/services/other/demo", LITTLE)).status == 404
    assert (await keyed.get("/-/api/services/other/demo/history", LITTLE)).status == 404


@pytest.mark.parametrize(
    ("unready", "state"),
    [
        (Unready("Idle", ""), "Idle"),
        (Unready("Stopped", "", final=True), "Stopped"),
        (Unready("Loading", ""), "Starting"),
        (Unready("WaitingForRoom", ""), "Waiting"),
        (Unready("Draining", "", held=False), "Draining"),
        (Unready("OutOfMemory", "", "Ask for less."), "Failed"),
        (Unready("DoesNotFit", "", "Ask for less.", final=True), "Failed"),
    ],
)
async def test_a_service_that_is_not_ready_says_why(shown: Shown, unready: Unready, state: str) -> None:
    shown.publish(Backend("apps", "demo", unready=unready))
    (told,) = (await shown.told("services"))["services"]
    assert (told["state"], told["reason"], told["remedy"]) == (state, unready.reason, unready.remedy)


async def test_what_did_not_change_is_not_sent_again(shown: Shown) -> None:
    await shown.service(answer())
    first = await shown.get("/-/api/services")
    again = await shown.get("/-/api/services", **{"If-None-Match": first.headers["ETag"]})
    assert again.status == 304


async def test_the_consoles_own_questions_are_no_traffic(shown: Shown) -> None:
    await shown.service(answer())
    await shown.get("/", **BROWSER)
    await shown.told("services")
    assert not shown.lines
    assert "llmservice_gateway_requests_total{" not in await (await shown.get("/metrics")).text()


async def test_a_question_that_is_refused_has_its_line(keyed: Shown) -> None:
    assert (await keyed.get("/-/api/services", "wrong")).status == 401
    async with asyncio.timeout(30):
        while not keyed.lines:  # noqa: ASYNC110 - it comes a moment after its answer
            await asyncio.sleep(0.01)
    assert json.loads(keyed.lines[0])["reason"] == "invalid_api_key"


async def test_aliases_are_shown_with_their_service(shown: Shown) -> None:
    shown.gateway.proxy.publish(Table({"apps/demo": Backend("apps", "demo")}, {"gpt-4o": "apps/demo"}))
    assert (await shown.told("services"))["services"][0]["aliases"] == ["gpt-4o"]


async def test_a_request_shows_in_the_history(shown: Shown) -> None:
    await shown.service(answer({"choices": []}))
    await (await shown.chat()).read()
    async with asyncio.timeout(30):
        while not shown.lines:  # noqa: ASYNC110 - it is over a moment after its answer
            await asyncio.sleep(0.01)
    await shown.gateway.console.sampler.look()
    told = await shown.told("services/apps/demo/history")
    assert told["columns"]["requests"] == [1]
    assert told["columns"]["ttft50"][0] is not None  # the loop's clock has milliseconds
    assert (await shown.told(f"services/apps/demo/history?since={told['columns']['at'][0]}"))["columns"]["at"] == []


async def test_the_times_of_batch_work_are_nobodys_wait(shown: Shown) -> None:
    await shown.service(answer({"choices": []}))
    body, headers = {"model": "demo", "messages": []}, {"X-LLMService-Priority": "batch"}
    async with shown.client.post(f"{shown.url}/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
    async with asyncio.timeout(30):
        while not shown.lines:  # noqa: ASYNC110 - it is over a moment after its answer
            await asyncio.sleep(0.01)
    await shown.gateway.console.sampler.look()
    columns = (await shown.told("services/apps/demo/history"))["columns"]
    assert (columns["requests"], columns["ttft50"]) == ([1], [None])


async def test_switched_off_there_is_none(world: World) -> None:
    for path in ("/", "/-/api/services", "/-/api/session"):
        response = await world.client.get(world.url + path, headers=BROWSER)
        assert response.content_type != "text/html"
        assert response.status == (200 if path == "/" else 404)


class Cluster(NoFacts):
    """A service whose manifest has what not everybody is to read."""

    def object(self, service: str) -> Json:
        env = [{"name": "TOKEN", "value": "secret-1"}, {"name": "ON", "valueFrom": {"secretKeyRef": {"name": "a"}}}]
        probe = {"httpGet": {"port": 1, "httpHeaders": [{"name": "Authorization", "value": "secret-4"}]}}
        script = ["sh", "-c", "export HF_TOKEN=secret-5; serve --api-key secret-6 --port 1"]
        container = {"name": "engine", "env": [{"name": "TOKEN", "value": "secret-2"}], "startupProbe": probe}
        containers = [container, {"name": "side", "command": script}]
        args = ["--api-key", "secret-7", "secret-8", "--max-tokens", "64", "--hf-token=secret-9"]
        args += ["--config", '{"api_key": "secret-10", "size": 2}']
        return {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": "demo", "namespace": "apps", "managedFields": [{}], "resourceVersion": "7"},
            "spec": {
                "model": {"uri": "https://host/model.gguf?signature=secret-3"},
                "engine": {"args": args, "env": env},
                "podTemplate": {"spec": {"containers": containers}},
            },
            "status": {
                "plan": {
                    "engine": "LlamaCpp",
                    "notes": ["Chats take pictures: mmproj.gguf sees them."],
                    "rejected": [{"engine": "VLLM", "reason": "It reads no GGUF."}],
                    "memory": [{"name": "weights", "where": "Host", "planned": "100Mi"}],
                    "speed": {"tokensPerSecond": 20, "fullTokensPerSecond": 17},
                },
                "load": {
                    "milliseconds": 2500,
                    "tokensPerSecond": 14,
                    "memory": [{"name": "weights", "where": "Host", "planned": "100Mi", "measured": "90Mi"}],
                },
            },
        }


@pytest.mark.parametrize(
    "words",
    [
        ["--header=Authorization: Bearer s3cret"],
        ["--header", "Authorization: Bearer s3cret"],
        ["--header Authorization: Bearer s3cret"],
        ["sh", "-c", 'curl --header="Authorization: Bearer s3cret" http://h/x'],
        ['--model-loader-extra-config={"token": "s3cret"}'],
        ['{"nested": [{"header": "Authorization: Bearer s3cret"}]}'],
        ["-H", "X-Api-Key:s3cret"],
        ["--header=Authorization:Bearer s3cret"],
        ["sh", "-c", "curl -H Authorization:'Bearer s3cret' http://h/x"],
        ['{"store": {"accessKey": "s3cret", "hfToken": "s3cret", "DBPassword": "s3cret"}}'],
        ["sh", "-c", """serve --loader='{"token": "s3cret"}' --port 1"""],
        ["https://u:s3cret@h/x"],
        ["https://u:s3cret@more-of-s3cret@h/x"],
        ["--mirror=https://u:s3cret@h/x", "--mirror", "https://h/x?signature=s3cret"],
        ["sh", "-c", "wget https://u:s3cret@h/x && serve"],
        ['{"mirror": "https://u:s3cret@h/x"}'],
    ],
)
def test_secrets_in_words_of_a_command_line_are_hidden(words: list[str]) -> None:
    for key in ("args", "command"):
        shown = json.dumps(hidden({key: words}))
        assert "s3cret" not in shown and "(hidden)" in shown


def test_what_is_no_secret_in_words_stays_as_it_is() -> None:
    words = ["--port=1", "--max-tokens", 64, -1, "--name=a b", "https://h/x", "--x={no json}", "me@h", "key", "shown"]
    words += ["sh", "-c", "serve --tokenizer a:b --at h:80", '{"maxTokens": 2, "monkey": 3}']
    assert hidden({"args": words}) == {"args": words}


async def test_a_key_does_not_read_what_a_tenant_configured(keyed: Shown) -> None:
    keyed.gateway.console.facts = Cluster()
    told = await keyed.told("services/apps/demo", LITTLE)
    assert "secret-" not in json.dumps(told)
    assert "valueFrom" in told["manifest"] and told["manifestNote"]
    spec = yaml.safe_load(told["manifest"])["spec"]
    assert spec["engine"]["args"][3:5] == ["--max-tokens", "64"]
    assert spec["podTemplate"]["spec"]["containers"][1]["command"][2].endswith("--api-key (hidden) --port 1")


async def test_without_keys_the_manifest_can_be_applied_as_it_is(shown: Shown) -> None:
    shown.gateway.console.facts = Cluster()
    shown.publish(Backend("apps", "demo"))
    told = await shown.told("services/apps/demo")
    manifest = yaml.safe_load(told["manifest"])
    assert manifest["spec"] == Cluster().object("apps/demo")["spec"]  # and nothing that is so anyway
    assert set(manifest["metadata"]) == {"name", "namespace"} and "status" not in manifest


class Annotated(Cluster):
    """What tools write there."""

    annotations: ClassVar[dict[str, str]] = {
        "llmservice.dev/aliases": ", ".join(f"a-name-{number}" for number in range(40)),
        "argocd.argoproj.io/tracking-id": "models:llmservice.dev/LLMService:apps/demo",
        "kubectl.kubernetes.io/last-applied-configuration": '{"secret-1": 1}',
        "kapp.k14s.io/original": '{"secret-2": 1}',
        "objectset.rio.cattle.io/applied": "secret-3" * 99,
        "example.com/api-token": "secret-4",
        "example.com/from": "https://user:secret-5@git.example.com/models",
    }

    def object(self, service: str) -> Json:
        told = super().object(service)
        return {**told, "metadata": {**told["metadata"], "annotations": self.annotations}}


async def test_what_tools_keep_in_annotations_is_not_shown(shown: Shown, keyed: Shown) -> None:
    left = "Annotations in which other tools keep what they need are left out: kapp.k14s.io/original, objectset."
    for world, key, secrets in ((shown, "", {"secret-4", "secret-5"}), (keyed, LITTLE, set[str]())):
        world.gateway.console.facts = Annotated()
        world.publish(Backend("apps", "demo"))
        told = await world.told("services/apps/demo", key)
        found = yaml.safe_load(told["manifest"])["metadata"]["annotations"]
        assert found["llmservice.dev/aliases"].endswith("a-name-39")
        assert found["argocd.argoproj.io/tracking-id"].endswith("apps/demo")
        assert set(re.findall(r"secret-\d", json.dumps(found))) == secrets and left in told["manifestNote"]


@pytest.mark.parametrize(("mode", "shown_replicas"), [("Managed", None), ("Fixed", 2)])
async def test_the_manifest_has_no_number_that_demand_chose(
    shown: Shown, mode: str, shown_replicas: int | None
) -> None:
    class Scaled(Cluster):
        def object(self, service: str) -> Json:
            spec = {"model": {"uri": "hf://a/b"}, "replicas": 2, "scaling": {"maxReplicas": 4, "mode": mode}}
            return {**super().object(service), "spec": spec}

    shown.gateway.console.facts = Scaled()
    shown.publish(Backend("apps", "demo"))
    manifest = yaml.safe_load((await shown.told("services/apps/demo"))["manifest"])
    assert manifest["spec"].get("replicas") == shown_replicas


async def test_plan_and_load_are_told_in_numbers(shown: Shown) -> None:
    shown.gateway.console.facts = Cluster()
    shown.publish(Backend("apps", "demo"))
    told = await shown.told("services/apps/demo")
    assert told["plan"]["rejected"][0]["engine"] == "VLLM"
    assert told["plan"]["memory"] == [{"name": "weights", "where": "Host", "planned": 100 << 20}]
    assert told["load"]["memory"][0]["measured"] == 90 << 20
    assert told["speed"]["predicted"] == {"tokensPerSecond": 20, "fullTokensPerSecond": 17}
    assert told["speed"]["measured"]["tokensPerSecond"] == 14
    assert (told["pictures"], told["loadSeconds"]) == (True, 2.5)


async def test_a_decision_is_marked_in_the_history(shown: Shown) -> None:
    class Scaled(NoFacts):
        replicas_wanted = 1

        def wanted(self, service: str) -> int:
            return self.replicas_wanted

        def object(self, service: str) -> Json:
            scaling = {"desiredReplicas": 2, "reason": "Demand", "message": "More is asked."}
            return {"metadata": {}, "spec": {}, "status": {"scaling": scaling}}

    shown.gateway.console.facts = facts = Scaled()
    shown.publish(Backend("apps", "demo"))
    await shown.gateway.console.sampler.look()
    facts.replicas_wanted = 2
    await shown.gateway.console.sampler.look()
    (move,) = (await shown.told("services/apps/demo/history"))["decisions"]
    assert (move["before"], move["replicas"], move["reason"], move["sentence"]) == (1, 2, "Demand", "More is asked.")


async def test_engines_tell_how_full_they_are(shown: Shown) -> None:
    (runtime,) = await shown.service(stream(b"data: {}\n\n", then="stall"))
    app = web.Application()
    generated = iter((100, 150))

    async def metrics(_: web.Request) -> web.Response:
        told = ("num_requests_running 2", "num_requests_waiting 1", "kv_cache_usage_perc 0.25")
        lines = [f'vllm:{one.split()[0]}{{engine="0"}} {one.split()[1]}' for one in told]
        return web.Response(text="\n".join([*lines, f"vllm:generation_tokens_total {next(generated)}", ""]))

    app.router.add_get("/metrics", metrics)
    app.router.add_post("/{path:.*}", runtime.answer)
    shown.publish(Backend("apps", "demo", (Replica("demo-0", await serve(shown.stack, app)),)))
    response = await shown.chat(stream=True)
    await shown.gateway.console.sampler.look()
    await shown.gateway.console.sampler.look()
    columns = (await shown.told("services/apps/demo/history"))["columns"]
    assert (columns["running"][-1], columns["waiting"][-1], columns["kvUsed"][-1]) == (2, 1, 0.25)
    assert columns["tokensPerSecond"] == [None, 10] and columns["inFlight"][-1] == 1
    response.close()


async def test_what_a_busy_replica_does_not_tell_is_a_gap_and_no_zero(shown: Shown) -> None:
    await shown.service(stream(b"data: {}\n\n", then="stall"))
    look, names = shown.gateway.console.sampler.look, ("running", "waiting", "tokensPerSecond", "wanted")
    await look()
    response = await shown.chat(stream=True)
    await look()
    columns = (await shown.told("services/apps/demo/history"))["columns"]
    assert [columns[name] for name in names] == [[0, None]] * 3 + [[None, None]]
    response.close()
