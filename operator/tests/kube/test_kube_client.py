from __future__ import annotations

import pytest
from fake_api import FakeApi, refusal  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError, LeadershipLost
from llmservice_kube.kinds import LLM_SERVICE, SERVICE, Json


class Pauses(list[float]):
    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def service(name: str, namespace: str = "apps", **metadata: object) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"ports": [{"port": 80}]},
    }


async def test_a_list_reads_every_page_and_names_what_it_read(api: FakeApi) -> None:
    for index in range(7):
        api.put({"metadata": {"name": f"s{index}", "namespace": "apps"}})
    async with Client(api.access) as client:
        listing = await client.list(LLM_SERVICE, limit=3)
    assert [item["metadata"]["name"] for item in listing.items] == [f"s{index}" for index in range(7)]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("llmservice.dev/v1alpha1", "LLMService")}
    assert client.counts["list", "LLMService"] == 3


async def test_a_list_whose_continuation_expired_begins_anew(api: FakeApi) -> None:
    for index in range(4):
        api.put({"metadata": {"name": f"s{index}", "namespace": "apps"}})
    asked = 0

    def compact_after_first(method: str, path: str) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            api.version += 1
            api.compact()

    api.fault = compact_after_first
    async with Client(api.access) as client:
        assert len((await client.list(LLM_SERVICE, limit=3)).items) == 4


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_a_failing_server_is_asked_again_with_growing_pauses(api: FakeApi, status: int) -> None:
    api.put(service("a"), SERVICE)
    failures = 3

    def fail(method: str, path: str) -> object:
        nonlocal failures
        failures -= 1
        return refusal(status) if failures >= 0 else None

    api.fault = fail
    pauses = Pauses()
    async with Client(api.access, sleep=pauses) as client:
        assert await client.get(SERVICE, "apps", "a") is not None
    assert len(pauses) == 3
    assert all(0.5 * most <= pause <= most for pause, most in zip(pauses, (0.5, 1.0, 2.0), strict=True))


async def test_retry_after_is_obeyed(api: FakeApi) -> None:
    refused = [refusal(429, "TooManyRequests", {"Retry-After": "7"})]
    api.fault = lambda method, path: refused.pop() if refused else None
    pauses = Pauses()
    async with Client(api.access, sleep=pauses) as client:
        assert await client.get(SERVICE, "apps", "none") is None
    assert pauses == [7.0]


async def test_what_cannot_pass_is_not_repeated(api: FakeApi) -> None:
    api.fault = lambda method, path: refusal(403, "Forbidden")
    pauses = Pauses()
    async with Client(api.access, sleep=pauses) as client:
        with pytest.raises(ApiError) as caught:
            await client.apply(service("a"))
    assert (caught.value.status, caught.value.refused, caught.value.passing) == (403, True, False)
    assert pauses == []


async def test_a_policy_that_speaks_in_several_lines_is_one_line(api: FakeApi) -> None:
    said = "denied the request: \n\nresource Service/apps/a was blocked:\n\n  owner: 'a label is missing'\n"
    api.fault = lambda method, path: refusal(400, "BadRequest", message=said)
    async with Client(api.access, sleep=Pauses()) as client:
        with pytest.raises(ApiError) as caught:
            await client.apply(service("a"))
    assert caught.value.message == (
        "denied the request: resource Service/apps/a was blocked: owner: 'a label is missing'"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "message"), [(500, "etcdserver: request is too large"), (413, "Request entity too large: limit is 3")]
)
async def test_what_is_too_large_is_not_repeated_and_wrong_in_itself(api: FakeApi, status: int, message: str) -> None:
    api.fault = lambda method, path: refusal(status, "InternalError", message=message)
    pauses = Pauses()
    async with Client(api.access, sleep=pauses) as client:
        with pytest.raises(ApiError) as caught:
            await client.apply(service("a"))
    assert (caught.value.refused, caught.value.final, caught.value.passing) == (True, True, False)
    assert pauses == []


async def test_a_server_that_is_gone_is_an_error_of_status_0(api: FakeApi) -> None:
    access = api.access
    access.configuration.host = "http://127.0.0.1:1"
    async with Client(access, sleep=Pauses()) as client:
        with pytest.raises(ApiError) as caught:
            await client.get(SERVICE, "apps", "a")
    assert caught.value.status == 0
    assert caught.value.passing


async def test_an_apply_whose_answer_was_lost_is_sent_again_and_changes_nothing_more(api: FakeApi) -> None:
    lost = [True]

    def lose(method: str, path: str) -> None:
        if lost:
            lost.pop()
            raise ConnectionResetError

    api.after_write = lose
    async with Client(api.access, sleep=Pauses()) as client:
        first = await client.apply(service("a"))
    assert client.counts["apply", "Service"] == 2
    assert first["metadata"]["resourceVersion"] == str(api.version) == "101"


async def test_a_delete_names_the_uid_it_means(api: FakeApi) -> None:
    old = api.put(service("a"), SERVICE)
    api.remove(SERVICE, "apps", "a")
    new = api.put(service("a"), SERVICE)
    async with Client(api.access) as client:
        assert not await client.delete(SERVICE, "apps", "a", old["metadata"]["uid"])
        assert await client.get(SERVICE, "apps", "a") is not None
        assert await client.delete(SERVICE, "apps", "a", new["metadata"]["uid"])
        assert not await client.delete(SERVICE, "apps", "a", new["metadata"]["uid"])


async def test_a_write_behind_a_closed_fence_is_not_sent(api: FakeApi) -> None:
    def closed() -> None:
        raise LeadershipLost("somebody else leads")

    async with Client(api.access, fence=closed) as client:
        for write in (
            client.apply(service("a")),
            client.delete(SERVICE, "apps", "a", "u"),
            client.create(service("b")),
        ):
            with pytest.raises(LeadershipLost):
                await write
        assert await client.get(SERVICE, "apps", "a") is None
    assert [method for method, _ in api.requests] == ["GET"]


async def test_a_create_finds_what_is_there(api: FakeApi) -> None:
    async with Client(api.access) as client:
        assert await client.create(service("a")) is not None
        assert await client.create(service("a")) is None


async def test_a_page_that_is_too_large_is_asked_for_with_fewer_objects(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmservice_kube.client.PAGE_BYTES", 20_000)
    names = [f"s{index:02}" for index in range(40)]
    for index, name in enumerate(names):
        size = 15_000 if index in (17, 18, 19, 39) else 30_000 if index == 20 else 10
        api.put({"metadata": {"name": name, "namespace": "apps"}, "spec": {"x": "x" * size}})
    async with Client(api.access) as client:
        listing = await client.list(LLM_SERVICE, limit=16)
        assert [item["metadata"]["name"] for item in listing.items] == names
        assert client.counts["list", "LLMService"] < 25
