"""How many replicas load at once, and who is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from machine_world import Here, manifest, until  # type: ignore[import-not-found]

from llmservice_cli.local.loading import LoadQueue, LoadTurn, at_once, next_one
from llmservice_runtime.machine.probe import cpus

SERVICES = st.sampled_from(["apps/a", "apps/b", "apps/c"])


@given(st.integers(1, 512))
def test_one_for_each_core_and_never_one_alone(cpus: int) -> None:
    assert at_once(cpus) == max(2, cpus)


@given(st.lists(SERVICES, min_size=1), st.dictionaries(SERVICES, st.integers(0, 3)))
def test_who_has_fewest_is_next_and_of_equals_who_came_first(waiting: list[str], there: dict[str, int]) -> None:
    chosen = next_one(waiting, there)
    for place, service in enumerate(waiting):
        assert (there.get(waiting[chosen], 0), chosen) <= (there.get(service, 0), place)


@given(st.lists(st.tuples(st.sampled_from(["join", "loaded", "end"]), SERVICES, st.integers(0, 20))))
async def test_never_more_than_that_and_nobody_is_forgotten(steps: list[tuple[str, str, int]]) -> None:
    queue, turns, done = LoadQueue(2), list[LoadTurn](), set[LoadTurn]()
    for what, service, number in steps:
        if what == "join":
            turns.append(queue.join(service))
        elif turns:
            turn = turns[number % len(turns)]
            if what == "end" or turn.came.is_set():
                getattr(turn, what)()
                done.add(turn)
        loading = [turn for turn in turns if turn.came.is_set() and turn not in done]
        waiting = [turn for turn in turns if not turn.came.is_set() and turn not in done]
        assert len(loading) <= 2 and (len(loading) == 2 or not waiting)


async def test_one_of_hundreds_keeps_no_other_service_from_its_first() -> None:
    queue = LoadQueue(2)
    many = [queue.join("apps/many") for _ in range(100)]
    other = queue.join("apps/other")
    assert [turn.came.is_set() for turn in (*many[:3], other)] == [True, True, False, False]
    many[0].loaded()
    assert other.came.is_set() and not many[2].came.is_set()


def test_more_than_there_are_cores_for_wait_for_their_turn_and_ps_says_so(here: Here) -> None:
    go, most = here.folder / "go", at_once(cpus())
    here.run(
        "up",
        "-f",
        here.write(manifest("many", replicas=most + 3, HOLD=go)),
        "--port",
        "0",
        "--detach",
        "--timeout",
        "1",
        code=None,
    )

    def seen() -> tuple[int, int]:
        replicas = here.service("many")["replicas"]
        return sum(facts["phase"] == "Loading" for facts in replicas), sum(bool(facts["queued"]) for facts in replicas)

    until(lambda: seen() == (most, 3))
    said = f"It waits for its turn to load: {most} load at once on this machine's cores."
    here.run("up", "-f", here.write(manifest("other", HOLD=go)), "--timeout", "1", code=None)
    assert said in here.run("ps", "-o", "wide")
    go.touch()
    here.ready("other")
    here.ready("many", most + 3)
    assert "waits for its turn" not in here.run("ps", "-o", "wide")
