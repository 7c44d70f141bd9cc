from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmservice_kube.cache import Cache, Listing
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


def test_a_list_that_was_read_before_does_not_bring_back_what_was_deleted_since() -> None:
    known = cache()
    old = thing("qwen", 5)
    known.event(LLM_SERVICE, "ADDED", old)
    listing = known.listing(LLM_SERVICE, None, "6")
    assert known.event(LLM_SERVICE, "DELETED", thing("qwen", 7)) == ("apps", "qwen")
    assert listing.take(old) is None, "the page was read before the deletion"
    assert listing.end() == set()
    assert known.services() == []


def test_nothing_late_brings_back_what_a_list_did_not_have() -> None:
    """A watch's own first list that was read before ours, an event that waited in a mailbox, an answer to a write."""
    known = cache()
    known.event(LLM_SERVICE, None, thing("qwen", 5))
    assert known.replace(LLM_SERVICE, None, [], "9") == {("apps", "qwen")}
    for event in (None, "ADDED", "MODIFIED", "DELETED"):
        assert known.event(LLM_SERVICE, event, thing("qwen", 8)) is None
    assert known.services() == []


def test_what_takes_the_name_of_something_deleted_is_there() -> None:
    known = cache()
    known.event(LLM_SERVICE, "ADDED", thing("qwen", 5, uid="first"))
    known.event(LLM_SERVICE, "DELETED", thing("qwen", 7, uid="first"))
    assert known.event(LLM_SERVICE, "ADDED", thing("qwen", 9, uid="second")) == ("apps", "qwen")
    assert known.event(LLM_SERVICE, "DELETED", thing("qwen", 7, uid="first")) is None, "told twice"
    assert known.uid(LLM_SERVICE, "apps", "qwen") == "second"


def test_tombstones_last_until_a_list_tells_what_they_tell() -> None:
    known = cache()
    for version in range(1, 100):
        known.event(DEPLOYMENT, "DELETED", thing(f"d{version}", version))
    assert known.tombstones() == 99
    known.replace(DEPLOYMENT, None, [], "90")
    assert known.tombstones() == 9
    assert known.event(DEPLOYMENT, "MODIFIED", thing("d1", 1)) is None


def test_an_object_that_lost_its_label_and_is_read_anew_is_there() -> None:
    """No list has it, so no list says that it is gone: else we would try for ever to make what is there."""
    known = cache()
    bare = thing("qwen", 8)
    del bare["metadata"]["labels"]
    known.event(DEPLOYMENT, "ADDED", thing("qwen", 5))
    known.event(DEPLOYMENT, "DELETED", bare)  # as the watch says that it no longer matches
    known.replace(DEPLOYMENT, None, [], "20")
    known.event(DEPLOYMENT, "MODIFIED", bare)
    assert known.version(DEPLOYMENT, "apps", "qwen") == 8
    labelled = thing("qwen", 21)
    assert known.event(DEPLOYMENT, "MODIFIED", labelled) == ("apps", "qwen")


def test_a_list_that_begins_anew_forgets_what_its_first_pages_had() -> None:
    known = cache()
    first = known.listing(DEPLOYMENT, None, "5")
    first.take(thing("a", 3))
    second = known.listing(DEPLOYMENT, None, "9")
    assert second.end() == {("apps", "qwen")}, "it went between the two, and no event told"


def test_each_namespace_must_be_listed_before_absence_means_anything() -> None:
    known = Cache((LLM_SERVICE,), LABEL, ("one", "two"))
    known.replace(LLM_SERVICE, "one", [], "1")
    assert not known.complete
    known.replace(LLM_SERVICE, "two", [], "1")
    assert known.complete


def test_whatever_goes_is_told_by_its_uid() -> None:
    left = []
    known = Cache((LLM_SERVICE, DEPLOYMENT), LABEL, left=lambda kind, uid: left.append((kind, uid)))
    known.event(LLM_SERVICE, "ADDED", thing("a", 1, uid="a1"))
    known.event(LLM_SERVICE, "ADDED", thing("b", 2, uid="b1"))
    known.event(LLM_SERVICE, "ADDED", thing("c", 3, uid="c1"))
    known.event(LLM_SERVICE, "DELETED", thing("a", 4, uid="a1"))
    known.event(LLM_SERVICE, "MODIFIED", thing("b", 6, uid="b2"))
    known.replace(LLM_SERVICE, None, [thing("b", 6, uid="b2")], "9")
    assert left == [(LLM_SERVICE, "a1"), (LLM_SERVICE, "b1"), (LLM_SERVICE, "c1")]


def test_versions_that_begin_anew_after_a_restore_of_etcd_are_believed() -> None:
    known = cache()
    known.replace(DEPLOYMENT, None, [thing("a", 500), thing("b", 501)], "600")
    known.event(DEPLOYMENT, "DELETED", thing("b", 601))
    known.replace(DEPLOYMENT, None, [thing("b", 40)], "50")
    assert known.version(DEPLOYMENT, "apps", "b") == 40
    assert known.get(DEPLOYMENT, "apps", "a") is None
    assert known.event(DEPLOYMENT, "MODIFIED", thing("b", 51)) is not None


@given(st.data())
def test_what_was_deleted_stays_deleted_however_lists_events_and_writes_interleave(data: st.DataObject) -> None:
    """Three names; a watch that may lose some of their history, lists page by page, late answers to own writes."""
    story = Story(data)
    for _ in range(data.draw(st.integers(5, 60))):
        story.step()
        story.check()
    story.finish()
    story.check()
    assert story.in_cache() == story.truth


class Story:
    """The API server's side of it, and what the cache may no longer hold."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.cache = cache()
        self.version = 10
        self.truth: dict[str, tuple[str, int]] = {}
        """By name: (uid, version)."""
        self.pending: list[tuple[str, Json]] = []
        """Events on their way, in order."""
        self.answers: list[Json] = []
        """Of own writes, on their way, in no order."""
        self.list: tuple[Listing, list[Json], int] | None = None
        """The pages that are not taken in yet, of a list of that version."""
        self.ends: dict[str, int] = {}
        """By uid: the version of its deletion."""
        self.told: set[str] = set()
        """uids that the cache was told to be gone."""

    def step(self) -> None:
        choice = self.data.draw(st.sampled_from("wwwddeeeeaalllg"))
        name = self.data.draw(st.sampled_from("abc"))
        if choice == "w":
            self.write(name)
        elif choice == "d" and name in self.truth:
            self.delete(name)
        elif choice == "e":
            self.deliver()
        elif choice == "a" and self.answers:
            self.cache.event(DEPLOYMENT, "MODIFIED", self.answers.pop(self.draw(len(self.answers))))
        elif choice == "l":
            self.page()
        elif choice == "g":
            self.pending.clear()  # a gap: a list follows, which is read after it
            self.list = None
            self.begin()

    def draw(self, below: int) -> int:
        return self.data.draw(st.integers(0, below - 1))

    def write(self, name: str) -> None:
        self.version += 1
        new = name not in self.truth
        uid = f"u{self.version}" if new else self.truth[name][0]
        self.truth[name] = uid, self.version
        obj = thing(name, self.version, uid=uid)
        self.pending.append(("ADDED" if new else "MODIFIED", obj))
        if self.data.draw(st.booleans()):
            self.answers.append(obj)

    def delete(self, name: str) -> None:
        self.version += 1
        uid, _ = self.truth.pop(name)
        self.ends[uid] = self.version
        self.pending.append(("DELETED", thing(name, self.version, uid=uid)))

    def deliver(self) -> None:
        if self.pending:
            event, obj = self.pending.pop(0)
            self.cache.event(DEPLOYMENT, event, obj)
            if event == "DELETED":
                self.told.add(obj["metadata"]["uid"])

    def begin(self) -> None:
        items = [thing(name, version, uid=uid) for name, (uid, version) in sorted(self.truth.items())]
        self.list = self.cache.listing(DEPLOYMENT, None, str(self.version)), items, self.version

    def page(self) -> None:
        if self.list is None:
            self.begin()
            return
        listing, items, version = self.list
        if items:
            listing.take(items.pop(0))
            return
        listing.end()
        self.told |= {uid for uid, end in self.ends.items() if end <= version}
        self.list = None

    def finish(self) -> None:
        while self.pending:
            self.deliver()
        self.begin()
        while self.list:
            self.page()
        for answer in self.answers:
            self.cache.event(DEPLOYMENT, "MODIFIED", answer)

    def check(self) -> None:
        """Nothing is held that the cache was told to be gone."""
        assert not self.told & {uid for uid, _ in self.in_cache().values()}

    def in_cache(self) -> dict[str, tuple[str, int]]:
        metadata = [obj["metadata"] for obj in self.cache.of(("apps", "qwen"))]
        return {found["name"]: (found["uid"], int(found["resourceVersion"])) for found in metadata}


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
