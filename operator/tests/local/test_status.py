"""Status and what clients are told, from facts alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.local.giving_way import Turn
from llmservice_cli.local.order import Order
from llmservice_cli.local.status import View, observe, why_unready
from llmservice_cli.local.substrate import ReplicaFacts
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.settings import RuntimeSettings

SERVICE = LLMService.model_validate({"metadata": {"name": "demo"}, "spec": {"model": {"uri": "file://x.gguf"}}})
SETTINGS = RuntimeSettings(EngineType.LLAMA_CPP, "/x.gguf", "default/demo")
OUT = FailureRecord(FailureClass.OUT_OF_MEMORY, "It needs 9 GiB.", "Take a smaller one.", "Loading")
FACTS = st.builds(
    ReplicaFacts,
    name=st.sampled_from(["a", "b"]),
    slot=st.integers(0, 1),
    ready=st.booleans(),
    draining=st.booleans(),
    failure=st.none() | st.just(OUT),
    gave_up=st.booleans(),
)
VIEWS = st.builds(
    View,
    order=st.sampled_from([Order(SERVICE), Order(SERVICE, settings=SETTINGS), Order(SERVICE, failure=OUT)]),
    serving=st.lists(FACTS, max_size=2).map(tuple),
    coming=st.lists(FACTS, max_size=2).map(tuple),
    stopping=st.booleans(),
)


@given(VIEWS)
def test_ready_means_that_a_replica_is_ready_and_every_condition_says_why(view: View) -> None:
    status = observe(view, "http://x/v1", (), 0.0)
    conditions = {condition.type: condition for condition in status.conditions}
    assert (conditions["Ready"].status == "True") == any(facts.ready for facts in view.serving)
    assert all(condition.reason and condition.message for condition in conditions.values())


@given(VIEWS, VIEWS)
def test_a_condition_keeps_its_time_while_its_status_stays(before: View, after: View) -> None:
    first = observe(before, "", (), 0.0).conditions
    for old, new in zip(first, observe(after, "", first, 60.0).conditions, strict=True):
        assert (old.last_transition_time == new.last_transition_time) == (old.status == new.status)


@pytest.mark.parametrize(
    "view",
    [
        View(Order(SERVICE, failure=OUT), (ReplicaFacts("a", 0, ready=True),)),
        View(
            Order(SERVICE, settings=SETTINGS), (ReplicaFacts("a", 0, ready=True),), (ReplicaFacts("b", 0, failure=OUT),)
        ),
    ],
)
def test_a_failed_edit_beside_what_serves_is_said_as_in_a_cluster(view: View) -> None:
    found = {condition.type: condition for condition in observe(view, "", (), 0.0).conditions}
    assert (found["Ready"].status, found["Ready"].reason) == ("True", "ServingEarlierSpec")
    assert "(OutOfMemory): It needs 9 GiB. Take a smaller one." in found["Ready"].message
    assert (found["Progressing"].status, found["Progressing"].reason) == ("False", "OutOfMemory")


@pytest.mark.parametrize(("gave_up", "final"), [(True, True), (False, False)])
def test_a_failure_is_final_only_when_nobody_tries_again(gave_up: bool, final: bool) -> None:
    facts = ReplicaFacts("a", 0, failure=OUT, gave_up=gave_up)
    why = why_unready(View(Order(SERVICE, settings=SETTINGS), (facts,)))
    assert (why.reason, why.remedy, why.final) == ("OutOfMemory", "Take a smaller one.", final)


def test_beside_a_ready_replica_the_one_that_loads_is_told() -> None:
    ready, loading = ReplicaFacts("a", 0, ready=True, phase="Ready"), ReplicaFacts("b", 1, phase="Loading", percent=40)
    why = why_unready(View(Order(SERVICE, settings=SETTINGS), (ready, loading)))
    assert why.message == "The model is being loaded (Loading 40 %)."


@pytest.mark.parametrize(("etas", "seconds"), [((None,), 5), ((40, None, 12), 12), ((900,), 120), ((1,), 1)])
def test_who_asks_for_what_loads_is_told_to_come_when_it_will_be_ready(
    etas: tuple[int | None, ...], seconds: int
) -> None:
    loading = tuple(ReplicaFacts(str(slot), slot, phase="Loading", eta=eta) for slot, eta in enumerate(etas))
    assert why_unready(View(Order(SERVICE, settings=SETTINGS), loading)).retry_after == seconds


def test_an_order_survives_the_control_socket() -> None:
    for order in (
        Order(SERVICE, "/here"),
        Order(SERVICE, settings=SETTINGS, revision="abc"),
        Order(SERVICE, failure=OUT),
    ):
        again = Order.from_body(order.to_body())
        assert again == order and again.digest == order.digest


@pytest.mark.parametrize(
    ("view", "held"),
    [
        (View(Order(SERVICE)), True),
        (View(Order(SERVICE, settings=SETTINGS), (ReplicaFacts("a", 0),)), True),
        (View(Order(SERVICE, settings=SETTINGS), (ReplicaFacts("a", 0, failure=OUT, restarts=1),)), True),
        (View(Order(SERVICE, settings=SETTINGS), (ReplicaFacts("a", 0, failure=OUT, restarts=2),)), False),
        (View(Order(SERVICE, settings=SETTINGS), (ReplicaFacts("a", 0, failure=OUT, held=True),)), True),
        (
            View(
                Order(SERVICE, settings=SETTINGS),
                (ReplicaFacts("a", 0, failure=OUT, held=True),),
                turn=Turn(hopeless=True),
            ),
            False,
        ),
        (View(Order(SERVICE, settings=SETTINGS), (ReplicaFacts("a", 0, failure=OUT, gave_up=True),)), False),
        (View(Order(SERVICE, failure=OUT)), False),
        (View(Order(SERVICE, settings=SETTINGS), (ReplicaFacts("a", 0),), stopping=True), False),
    ],
)
def test_requests_wait_for_what_comes_and_for_nothing_else(view: View, held: bool) -> None:
    unready = why_unready(view)
    assert (unready.held and not unready.final) == held
