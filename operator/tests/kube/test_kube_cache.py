from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmservice_kube.cache import Cache
from llmservice_kube.kinds import DEPLOYMENT, LLM_SERVICE, Json

LABEL = "llmservice.dev/name"


def thing(name: str, version: int, owner: str = "qwen", uid: str = "u", namespace: str = "apps") -> Json:
    metadata = {"namespace": namespace, "name": name, "resourceVersion": str(version), "uid": uid}
    return {"metadata": {**metadata, "labels": {LABEL: owner}}}


def cache() -> Cache:
    return Cache((LLM_SERVICE, DEPLOYMENT), LABEL)


def test_an_event_names_the_service_it_belongs_to() -> None:
    known = cache()
    assert known.event(DEPLOYMENT, "ADDED", thing("qwen-1", 5)) == ("apps", "qwen")
    assert known.event(LLM_SERVICE, None, thing("qwen", 4)) == ("apps", "qwen")
    assert [obj["metadata"]["name"] for obj in known.of(("apps", "qwen"))] == ["qwen-1"]
    assert known.services() == [("apps", "qwen")]


def test_old_and_repeated_news_are_no_news() -> None:
    known = cache()
    known.event(DEPLOYMENT, "ADDED", thing("a", 5))
    assert known.event(DEPLOYMENT, "MODIFIED", thing("a", 5)) is None
    assert known.event(DEPLOYMENT, "MODIFIED", thing("a", 4)) is None
    assert known.event(DEPLOYMENT, "DELETED", thing("a", 4)) is None
    assert known.get(DEPLOYMENT, "apps", "a") is not None


def test_a_relist_purges_ghosts_and_wakes_their_service() -> None:
    known = cache()
    known.event(DEPLOYMENT, "ADDED", thing("stays", 5))
    known.event(DEPLOYMENT, "ADDED", thing("ghost", 6, owner="lama"))
    assert known.replace(DEPLOYMENT, None, [thing("stays", 5)], "9") == {("apps", "lama")}
    assert known.get(DEPLOYMENT, "apps", "ghost") is None


def test_a_relist_keeps_what_the_watch_brought_after_it_was_read() -> None:
    known = cache()
    known.event(DEPLOYMENT, "ADDED", thing("young", 12))
    known.event(DEPLOYMENT, "MODIFIED", thing("changed", 11))
    assert known.replace(DEPLOYMENT, None, [thing("changed", 7)], "10") == set()
    assert known.get(DEPLOYMENT, "apps", "young") is not None
    changed = known.get(DEPLOYMENT, "apps", "changed")
    assert changed is not None
    assert changed["metadata"]["resourceVersion"] == "11"


def test_a_relist_of_one_namespace_says_nothing_about_another() -> None:
    known = cache()
    known.event(DEPLOYMENT, "ADDED", thing("a", 5, namespace="elsewhere"))
    assert known.replace(DEPLOYMENT, "apps", [], "9") == set()
    assert known.get(DEPLOYMENT, "elsewhere", "a") is not None


def test_a_name_taken_again_is_another_object() -> None:
    known = cache()
    known.event(DEPLOYMENT, "ADDED", thing("a", 5, uid="first", owner="one"))
    known.replace(DEPLOYMENT, None, [thing("a", 8, uid="second", owner="two")], "9")
    assert list(known.of(("apps", "one"))) == []
    assert [obj["metadata"]["uid"] for obj in known.of(("apps", "two"))] == ["second"]


def test_absence_means_something_only_after_every_kind_was_listed() -> None:
    known = cache()
    known.replace(DEPLOYMENT, None, [], "1")
    assert not known.complete
    known.replace(LLM_SERVICE, None, [], "1")
    assert known.complete


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=20), st.randoms())
def test_in_whatever_order_events_come_a_relist_at_the_end_brings_the_truth(
    steps: list[tuple[str, bool]], order: object
) -> None:
    truth: dict[str, Json] = {}
    events = []
    for version, (name, there) in enumerate(steps, start=1):
        if there:
            truth[name] = thing(name, version)
            events.append(("MODIFIED", truth[name]))
        elif name in truth:
            events.append(("DELETED", {**truth.pop(name), **thing(name, version)}))
    order.shuffle(events)  # type: ignore[attr-defined]
    known = cache()
    for kind, obj in events[: len(events) // 2]:
        known.event(DEPLOYMENT, kind, obj)
    known.replace(DEPLOYMENT, None, truth.values(), str(len(steps)))
    assert {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in known.of(("apps", "qwen"))} == {
        name: obj["metadata"]["resourceVersion"] for name, obj in truth.items()
    }
