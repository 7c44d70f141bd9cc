from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fake_api import FakeApi, fake_api, refusal  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import EVENT, LLM_SERVICE, Json
from llmservice_operator.control.recorder import Recorder

SERVICE: Json = {
    "apiVersion": LLM_SERVICE.api_version,
    "kind": LLM_SERVICE.kind,
    "metadata": {"name": "qwen", "namespace": "apps", "uid": "u-1"},
}


def events(api: FakeApi) -> list[Json]:
    return [obj for (kind, _, _), obj in api.objects.items() if kind == EVENT]


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


async def test_what_is_said_again_is_counted_and_what_the_server_forgot_is_said_anew() -> None:
    async with fake_api() as api, Client(api.access) as client:
        recorder = Recorder(client)
        for _ in range(3):
            await recorder.say(SERVICE, "Warning", "CrashLoop", "It ended again.")
        (event,) = events(api)
        assert (event["reason"], event["count"], event["involvedObject"]["uid"]) == ("CrashLoop", 3, "u-1")
        await recorder.say(SERVICE, "Normal", "Ready", "It serves.")
        assert len(events(api)) == 2
        api.remove(EVENT, "apps", event["metadata"]["name"])
        await recorder.say(SERVICE, "Warning", "CrashLoop", "It ended again.")
        assert sorted(event["count"] for event in events(api)) == [1, 4]


async def test_an_event_that_is_refused_stops_nothing() -> None:
    async with fake_api() as api, Client(api.access, sleep=no_sleep) as client:
        api.fault = lambda method, path: refusal(403, "Forbidden")
        await Recorder(client).say(SERVICE, "Normal", "Ready", "It serves.")
        assert events(api) == []


async def test_names_are_in_the_order_of_what_was_said_also_when_the_clock_stands_or_goes_back() -> None:
    times = [datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    async with fake_api() as api, Client(api.access) as client:
        number = 0
        recorder = Recorder(client, lambda: times[number > 20])
        for number in range(40):
            await recorder.say(SERVICE, "Normal", "Step", f"step {number}")
        said = sorted(events(api), key=lambda event: str(event["metadata"]["name"]))
        assert [event["message"] for event in said] == [f"step {number}" for number in range(40)]
        assert len({event["metadata"]["name"] for event in said}) == 40
