"""Prometheus as the source: what is asked, which answers are believed, and that anything else holds."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from cluster import programs
from llmservice_operator.control.prometheus import Prometheus
from llmservice_operator.demand.promql import AGE, KV_USED, RUNNING, WAITING, Answers, queries, vector
from llmservice_operator.demand.replicas import Replica, requests
from llmservice_operator.facts.config import PrometheusServer
from llmservice_scaling.signals import Validity

SERVER = PrometheusServer("http://prometheus", labels=(("cluster", 'a"b'),))
ONE, TWO = (Replica(f"u{n}", f"p{n}", ready=True) for n in (1, 2))
POD = ("apps", "p1")
RULES = Path(__file__).resolve().parents[3] / "charts/llmservice/files/rules.yaml"


def answer(*series: tuple[str, str]) -> dict[str, Any]:
    """(pod, value) of each."""
    result = [{"metric": {"namespace": "apps", "pod": pod}, "value": [1.0, value]} for pod, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


class Server:
    """Answers by what is asked for; a text is answered as it is."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        query = str((await request.post())["query"])
        self.asked.append((query, request.headers.get("Authorization", "")))
        kind = next(name for name, known in queries(SERVER).items() if known == query)
        found = self.answers[kind]
        return web.json_response(found) if isinstance(found, dict) else web.Response(text=found, status=502)

    async def ask(self, prometheus: Prometheus) -> None:
        app = web.Application()
        app.router.add_post("/api/v1/query", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            prometheus._server = dataclasses.replace(prometheus._server, url=url)
            async with aiohttp.ClientSession() as session:
                await prometheus.ask(session)
        finally:
            await runner.cleanup()


def good(**changed: Any) -> Server:
    answers = {
        RUNNING: answer(("p1", "3"), ("p2", "0"), ("gone", "50")),
        WAITING: answer(("p1", "1"), ("p2", "0"), ("gone", "50")),
        KV_USED: answer(("p1", "0.5"), ("p2", "0")),
        AGE: answer(("p1", "20"), ("p2", "4"), ("gone", "1")),
    }
    return Server(**{**answers, **changed})


def asking(server: PrometheusServer = SERVER) -> Prometheus:
    prometheus = Prometheus(server, lambda: 1000.0)
    prometheus.keep("apps/qwen", (ONE, TWO))
    return prometheus


async def test_only_pods_that_exist_now_count_and_each_is_as_old_as_its_sample() -> None:
    prometheus = asking()
    await good().ask(prometheus)
    assert prometheus.complaint((ONE, TWO)) == ""
    assert set(prometheus.told) == {"u1", "u2"}
    reading = requests((ONE, TWO), prometheus.told, 1000.0)
    assert (reading.value, reading.age(1000.0), reading.validity(1000.0)) == (4, 20, Validity.VALID)
    assert reading.validity(1069.0) is Validity.VALID, "it scrapes every 30 s"
    assert reading.validity(1071.0) is Validity.STALE
    prometheus.keep("apps/qwen", (TWO,))
    assert set(prometheus.told) == {"u2"}


async def test_a_pod_that_has_no_series_yet_is_missing_and_not_idle() -> None:
    prometheus = asking()
    await good(**{RUNNING: answer(("p1", "3"))}).ask(prometheus)
    assert prometheus.complaint((ONE, TWO)) == "Prometheus has no series of p2"
    assert requests((ONE, TWO), prometheus.told, 1000.0).validity(1000.0) is Validity.PARTIAL
    await good(**{name: answer() for name in (RUNNING, WAITING, KV_USED, AGE)}).ask(prometheus)
    assert requests((ONE, TWO), prometheus.told, 1000.0).validity(1000.0) is Validity.MISSING


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("bad gateway", "it answers 502, and no JSON"),
        ("[" * 100_000, "it answers 502, and no JSON"),
        ({"status": "error", "error": "query timed out"}, "query timed out"),
        ({"status": "success", "warnings": ["a store is away"], **answer()}, "it answers in part"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, "it is no vector"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"value": [1, "1"]}]}}, "a series has no"),
    ],
)
async def test_garbage_and_errors_leave_what_was_told_to_grow_old(wrong: Any, said: str) -> None:
    prometheus = asking()
    await good().ask(prometheus)
    before = dict(prometheus.told)
    await good(**{WAITING: wrong}).ask(prometheus)
    assert prometheus.told == before
    assert said in prometheus.complaint((ONE,))
    await good().ask(prometheus)
    assert prometheus.complaint((ONE,)) == ""


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-3"])
async def test_what_is_no_number_is_never_taken_for_one(value: str) -> None:
    prometheus = asking()
    await good(**{RUNNING: answer(("p1", value), ("p2", "5"))}).ask(prometheus)
    assert requests((ONE, TWO), prometheus.told, 1000.0).validity(1000.0) is Validity.NOT_A_NUMBER
    await good(**{AGE: answer(("p1", "NaN"), ("p2", "5"))}).ask(prometheus)
    assert requests((ONE, TWO), prometheus.told, 1000.0).validity(1000.0) is Validity.STALE


async def test_the_token_is_read_anew_each_time(tmp_path: Path) -> None:
    token = tmp_path / "token"
    prometheus = asking(dataclasses.replace(SERVER, token_file=str(token)))
    server = good()
    for secret in ("one", "two"):
        token.write_text(f"{secret}\n")
        await server.ask(prometheus)
    assert {header for _, header in server.asked} == {"Bearer one", "Bearer two"}
    token.unlink()
    await server.ask(prometheus)
    assert "No such file" in prometheus.complaint((ONE,))


def test_queries_name_the_labels_and_escape_them() -> None:
    asked = queries(SERVER)
    some = r'{namespace!="",pod!="",cluster="a\"b"}'
    assert asked[RUNNING] == f"sum by (namespace, pod) (vllm:num_requests_running{some})"
    assert asked[AGE] == f"max by (namespace, pod) (time() - timestamp(vllm:num_requests_running{some}))"
    assert all("cluster=" not in query for query in queries(PrometheusServer("http://p")).values())


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda of: st.lists(of) | st.dictionaries(
    st.sampled_from(["status", "data", "result", "resultType", "metric", "value", "pod", "namespace"]) | st.text(), of
)))  # fmt: skip
def test_no_answer_can_hurt(body: Any) -> None:
    try:
        found = vector(body)
    except ValueError:
        return
    Answers({RUNNING: found, WAITING: found, KV_USED: found, AGE: found}).of(POD, math.pi, 30.0)


def test_the_recording_rules_say_by_service_what_replicas_tell(tmp_path: Path) -> None:
    labels = 'namespace="apps",model_name="apps/qwen"'
    series = {
        f'vllm:num_requests_running{{{labels},pod="{pod}"}}': running for pod, running in (("a", "3"), ("b", "0"))
    } | {f'vllm:num_requests_waiting{{{labels},pod="{pod}"}}': waiting for pod, waiting in (("a", "4"), ("b", "0"))}
    test = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "30s",
                "input_series": [{"series": name, "values": f"{value}x4"} for name, value in series.items()],
                "promql_expr_test": [
                    {
                        "expr": "llmservice:requests:sum",
                        "eval_time": "1m",
                        "exp_samples": [{"labels": f"llmservice:requests:sum{{{labels}}}", "value": 7}],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "rules_test.yaml"
    file.write_text(yaml.safe_dump(test))
    promtool = programs.prometheus() / "promtool"
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(file)]):
        found = subprocess.run([promtool, *command], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr


def test_the_rules_are_yaml_and_name_what_engines_export() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert {rule["record"].partition(":")[0] for rule in rules} == {"llmservice"}
    assert "vllm:num_requests_running" in json.dumps(rules)


async def test_nobody_is_asked_while_nothing_scales() -> None:
    prometheus = Prometheus(SERVER, lambda: 1000.0)
    task = asyncio.create_task(prometheus.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert prometheus.complaint(()) == "Prometheus at http://prometheus does not tell: it was not asked yet"
