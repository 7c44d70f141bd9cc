"""API keys on the real API server: made once, edited from a command line, read and obeyed by gateways."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from live_world import make  # type: ignore[import-not-found]
from test_gateway_process import Process, gateway, put_endpoints, runtime, until  # type: ignore[import-not-found]
from wire import wire  # type: ignore[import-not-found]

from llmservice_api.gateway_keys import hash_of, read
from llmservice_api.gateway_usage import Used, decode
from llmservice_cli.main import main as cli
from llmservice_kube.client import Client
from llmservice_kube.kinds import CONFIG_MAP, SECRET, Json
from llmservice_operator.control.first_key import FirstKey
from llmservice_operator.control.health import Health

GATEWAY = "llm-gateway"
KEYS, FIRST, USAGE = f"{GATEWAY}-keys", f"{GATEWAY}-first-key", f"{GATEWAY}-usage"


Keys = Callable[..., Awaitable[tuple[int, str, str]]]


def maker(client: Client, namespace: str) -> FirstKey:
    return FirstKey(client, namespace, GATEWAY, {"app.kubernetes.io/instance": "x"}, Health(1e9))


async def secret(client: Client, namespace: str, name: str) -> Json:
    found = await client.get(SECRET, namespace, name)
    assert found is not None
    return found


async def first_key(client: Client, namespace: str) -> str:
    return base64.b64decode((await secret(client, namespace, FIRST))["data"]["key"]).decode()


@pytest.fixture
def keys(kubeconfig: Path, namespace: str, capsys: pytest.CaptureFixture[str]) -> Keys:
    """`llmservice keys WORDS`, as a user types it: (exit code, standard output, standard error)."""

    def run(words: Sequence[str]) -> tuple[int, str, str]:
        where = ("-n", namespace, "--gateway", GATEWAY, "--kubeconfig", str(kubeconfig))
        code = cli(["keys", words[0], *where, *words[1:]])
        return code, *capsys.readouterr()

    async def asked(*words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, words)

    return asked


async def test_the_first_key_is_made_once_however_often_and_wherever_it_ended(client: Client, namespace: str) -> None:
    assert [await each for each in asyncio.as_completed([maker(client, namespace).make() for _ in range(4)])] == [
        ""
    ] * 4
    shown = await first_key(client, namespace)
    records, wrong = read((await secret(client, namespace, KEYS))["data"])
    assert not wrong and [one.sha256 for one in records["default"].hashes] == [hash_of(shown)]
    assert records["default"].services == ("*/*",)
    before = [(await secret(client, namespace, name))["metadata"]["resourceVersion"] for name in (KEYS, FIRST)]
    await maker(client, namespace).make()
    after = [(await secret(client, namespace, name))["metadata"]["resourceVersion"] for name in (KEYS, FIRST)]
    assert after == before
    await client.send("delete", SECRET, SECRET.path(namespace, KEYS))  # as if it had ended between the two
    await maker(client, namespace).make()
    assert await first_key(client, namespace) == shown
    assert list(read((await secret(client, namespace, KEYS))["data"])[0]) == ["default"]
    await client.send("patch", SECRET, SECRET.path(namespace, KEYS), {"fieldManager": "x"}, {"data": None})
    await maker(client, namespace).make()
    assert not (await secret(client, namespace, KEYS)).get("data"), "a key that was revoked stays so"
    await client.send("delete", SECRET, SECRET.path(namespace, KEYS))
    await client.send("patch", SECRET, SECRET.path(namespace, FIRST), {"fieldManager": "x"}, {"data": None})
    assert "has no `key`" in await maker(client, namespace).make()


async def test_keys_from_the_command_line(client: Client, namespace: str, keys: Keys) -> None:
    code, out, err = await keys("create", "dify", "--services", "apps/*")
    assert (code, out) == (1, "") and f"there is no Secret {namespace}/{KEYS}" in err
    await maker(client, namespace).make()
    code, out, err = await keys("create", "dify", "--services", "apps/*,ml/qwen", "--tokens-per-minute", "1000")
    assert code == 0 and "only its hash" in err
    record = read((await secret(client, namespace, KEYS))["data"])[0]["dify"]
    assert record.hashes[0].sha256 == hash_of(out.strip()) and record.tokens_per_minute == 1000
    assert record.services == ("apps/*", "ml/qwen") and record.requests_per_minute is None
    for words, said in (
        (("create", "dify", "--services", "apps/*"), "there is a key dify already"),
        (("create", "Dify", "--services", "apps/*"), "no key's name"),
        (("create", "other", "--services", "apps"), "services.0"),
        (("revoke", "nobody"), "there is no key 'nobody'"),
        (("rotate", "nobody"), "there is no key 'nobody'"),
        (("usage",), f"there is no ConfigMap {namespace}/{USAGE}"),
    ):
        code, _, err = await keys(*words)
        assert code == 1 and said in err, words
    code, listed, _ = await keys("list")
    assert code == 0 and out.strip() not in listed and record.hashes[0].sha256 not in listed
    row = next(line for line in listed.splitlines() if line.startswith("dify"))
    assert row.split()[1:4] == ["apps/*,ml/qwen", "-", "1000"]
    assert (await keys("rotate", "dify", "--overlap", "1h"))[0] == 0
    code, listed, _ = await keys("list")
    assert "the one before works until" in listed
    again = read((await secret(client, namespace, KEYS))["data"])[0]["dify"]
    assert again.hashes[1].sha256 == record.hashes[0].sha256 and again.tokens_per_minute == 1000
    assert (await keys("revoke", "dify"))[0] == 0
    code, listed, _ = await keys("list", "-o", "json")
    assert '"default"' in listed and "dify" not in listed and "sha256" not in listed


async def ask(session: aiohttp.ClientSession, one: Process, key: str, model: str) -> int:
    headers, body = {"Authorization": f"Bearer {key}"}, {"model": model, "messages": []}
    async with session.post(f"{one.url}/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
        return response.status


async def is_status(asked: Awaitable[int], wanted: int) -> bool:
    return bool(await asked == wanted)


async def test_a_gateway_obeys_the_secret_and_goes_on_without_the_server(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str, keys: Keys
) -> None:
    model = f"{namespace}/qwen"
    await make(client, namespace)
    await client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": USAGE, "namespace": namespace}})
    async with (
        runtime() as port,
        wire(kubeconfig, tmp_path) as (line, through),
        aiohttp.ClientSession() as session,
        gateway(through, tmp_path, namespace, "a", f"--keys-of={GATEWAY}", "--accept-seconds=0") as one,
    ):
        await put_endpoints(client, namespace, "qwen", port)

        async def waits() -> bool:
            async with aiohttp.ClientSession() as asking, asking.get(f"{one.inner}/readyz") as response:
                return response.status == 503 and "API keys are not known yet" in await response.text()

        await until(lambda: _unless_refused(waits))
        assert await ask(session, one, "llmservice-x", model) == 503, "shut until it has read its keys"
        await maker(client, namespace).make()
        await until(lambda: is_status(one.status("/readyz"), 200))
        default = await first_key(client, namespace)
        await until(lambda: is_status(ask(session, one, default, model), 200))
        assert await ask(session, one, "llmservice-x", model) == 401

        patched: Json = {"data": {"Broken": "e30=", "broken": "e30="}}
        await client.send("patch", SECRET, SECRET.path(namespace, KEYS), {"fieldManager": "x"}, patched)
        _, out, _ = await keys("create", "dify", "--services", f"{namespace}/*")
        dify = out.strip()
        await until(lambda: is_status(ask(session, one, dify, model), 200))
        logs = one.logs.read_text()
        assert "the API key 'broken' of the Secret" in logs and "'Broken'" in logs and dify not in logs

        line.cut()
        for _ in range(3):
            assert await ask(session, one, dify, model) == 200, "what it knows counts without a server"
        assert await ask(session, one, "llmservice-x", model) == 401
        await keys("revoke", "dify")
        line.whole = True
        await until(lambda: is_status(ask(session, one, dify, model), 401))
        assert await ask(session, one, default, model) == 200

        one.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(one.process.wait, 90) == 0
        line.cut()
    found = await client.get(CONFIG_MAP, namespace, USAGE)
    assert found is not None
    used = [keys.get("dify", Used()) for keys in decode(found["data"]).values()]
    assert sum(each.requests for each in used) >= 4 and all(each.answer_tokens == 7 * each.requests for each in used)
    code, out, _ = await keys("usage", "dify")
    assert code == 0 and f"{datetime.now(UTC):%Y-%m}" in out and "dify" in out and "default" not in out


async def _unless_refused(asked: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return bool(await asked())
    except aiohttp.ClientError:
        return False


async def test_two_gateways_share_one_keys_limit(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str, keys: Keys
) -> None:
    model = f"{namespace}/qwen"
    await make(client, namespace)
    await maker(client, namespace).make()
    _, out, _ = await keys("create", "dify", "--services", "*/*", "--requests-per-minute", "10")
    words = f"--keys-of={GATEWAY}"
    async with (
        runtime() as port,
        aiohttp.ClientSession() as session,
        gateway(kubeconfig, tmp_path, namespace, "a", words) as one,
        gateway(kubeconfig, tmp_path, namespace, "b", words) as two,
    ):
        await put_endpoints(client, namespace, "qwen", port)
        default = await first_key(client, namespace)
        for each in (one, two):
            await until(partial(_answers, session, each, default, model))
            await until(partial(_knows_both, each))
        answers = [await ask(session, each, out.strip(), model) for each in (one, two) for _ in range(20)]
        assert [answers[:20].count(status) for status in (200, 429)] == [5, 15]
        assert [answers[20:].count(status) for status in (200, 429)] == [5, 15]


async def _answers(session: aiohttp.ClientSession, each: Process, key: str, model: str) -> bool:
    return await _unless_refused(partial(is_status, ask(session, each, key, model), 200))


async def _knows_both(each: Process) -> bool:
    async with aiohttp.ClientSession() as asking, asking.get(f"{each.inner}/metrics") as response:
        return "llmservice_gateway_gateways 2.0" in await response.text()
