"""Objects that no parser reads: each costs only itself, in lists, watches and when it is asked for."""

from __future__ import annotations

import json

import pytest
from fake_api import FakeApi  # type: ignore[import-not-found]
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from llmservice_kube import answers
from llmservice_kube.answers import MARK, answer, event, parsed
from llmservice_kube.cache import MOST_BYTES
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import LLM_SERVICE, Json
from llmservice_kube.mirror import Mirror

LABEL = "llmservice.dev/name"
DEEP = '{"a":' * 3000 + "1" + "}" * 3000
UNPARSABLE = {
    "nested deep": DEEP,
    "nested deep in arrays": "[" * 3000 + "]" * 3000,
    "half a surrogate pair": '{"a":"\\ud800"}',
    "large": json.dumps([[]] * 200_000),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def odd(spec: str, name: str = "odd", version: int = 7) -> str:
    names = {"name": name, "namespace": "apps", "uid": "u", "resourceVersion": str(version), "annotations": {"b": "}"}}
    return f'{{"metadata": {json.dumps(names)}, "spec": {spec}}}'


@pytest.mark.parametrize("what", UNPARSABLE)
def test_an_object_that_cant_be_parsed_is_named_and_the_others_of_its_list_are_read(what: str) -> None:
    fine: Json = {"metadata": {"name": 'brackets ]}," and \\'}, "spec": [{}, [], "x"]}
    text = f'{{"items": [{json.dumps(fine)}, {odd(UNPARSABLE[what])}], "metadata": {{"resourceVersion": "9"}}}}'
    found = answer(text.encode())
    assert found["metadata"] == {"resourceVersion": "9"}
    assert found["items"][0] == fine
    names = {"name": "odd", "namespace": "apps", "uid": "u", "resourceVersion": "7"}
    assert found["items"][1]["metadata"] == names
    with pytest.raises(ValueError):
        parsed(found["items"][1])


@pytest.mark.parametrize("what", UNPARSABLE)
def test_a_watch_event_that_cant_be_parsed_still_names_its_object(what: str) -> None:
    found = json.loads(event(f'{{"type":"MODIFIED","object":{odd(UNPARSABLE[what])}}}'.encode()))
    assert (found["type"], found["object"]["metadata"]["name"], MARK in found["object"]) == ("MODIFIED", "odd", True)


@given(st.lists(JSON.map(lambda value: {"metadata": {"name": "a"}, "spec": value})), st.booleans())
def test_a_list_that_is_cut_apart_says_what_it_says_whole(items: list[Json], ascii_only: bool) -> None:
    page = {"metadata": {"resourceVersion": "1"}, "items": items}
    whole = json.dumps(page, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    spoilt = whole[:-1] + b', "spoils": "\\ud800"}'
    with pytest.raises(ValueError):
        from_json(spoilt)
    found = [from_json(item) for item in answers._cut(dict(answers._fields(spoilt))["items"])]
    assert found == items


@pytest.mark.parametrize("text", ["", "{", '{"items": [', '{"items": [{"a": ', "<html>", "[}", "]"])
def test_what_is_no_answer_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        answer(text.encode())
    assert event(text.encode()) == text.encode()


async def test_a_mirror_holds_what_can_be_parsed_and_counts_the_rest(api: FakeApi) -> None:
    for name in ("a", "b"):
        api.put({"metadata": {"name": name, "namespace": "apps"}, "spec": {}})
    async with Client(api.access) as client:
        mirror = Mirror(client, {LLM_SERVICE: ""}, LABEL, changed=lambda keys: None)
        await mirror.relist()
        api.put({"metadata": {"name": "b", "namespace": "apps"}, "spec": {"x": "\ud800"}})
        api.put({"metadata": {"name": "c", "namespace": "apps"}, "spec": {"x": "\ud800"}})
        for _ in range(2):
            await mirror.relist()
        held = mirror.cache.get(LLM_SERVICE, "apps", "b")
        assert mirror.cache.services() == [("apps", "a"), ("apps", "b")]
        assert held is not None and held["spec"] == {}, "what was held of it stays"
        assert mirror.cache.unreadable.counts == {"LLMService": 2}
        api.remove(LLM_SERVICE, "apps", "b")
        await mirror.relist()
        assert mirror.cache.services() == [("apps", "a")]


async def test_what_is_too_large_is_not_held(api: FakeApi) -> None:
    for name, spec in (("a", "x"), ("b", "x" * MOST_BYTES), ("c", [[]] * 50_000)):
        api.put({"metadata": {"name": name, "namespace": "apps"}, "spec": {"x": spec}})
    async with Client(api.access) as client:
        mirror = Mirror(client, {LLM_SERVICE: ""}, LABEL, changed=lambda keys: None)
        await mirror.relist()
        assert mirror.cache.services() == [("apps", "a")]
        assert mirror.cache.unreadable.counts == {"LLMService": 2}


def test_of_a_list_that_is_read_object_by_object_no_more_is_read_than_is_asked_for() -> None:
    items = [{"metadata": {"name": str(index)}, "spec": [[]] * 40_000} for index in range(6)]
    text = json.dumps({"items": items}, separators=(",", ":")).encode()
    assert len(answer(text)["items"]) == 6
    assert answer(text, 11 << 20)["items"] == items[:2]


async def test_an_object_that_cant_be_parsed_is_no_server_that_does_not_answer(api: FakeApi) -> None:
    api.put({"metadata": {"name": "odd", "namespace": "apps"}, "spec": {"x": "\ud800"}})
    async with Client(api.access) as client:
        with pytest.raises(ApiError, match="llmservices/odd: 200 Unreadable: the answer can't be parsed") as caught:
            await client.get(LLM_SERVICE, "apps", "odd")
        assert not caught.value.passing
        assert client.counts["get", "LLMService"] == 1
