"""Conditions are made in one place: their order, their times, and what a cluster and one machine both say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.conditions import ConditionType, Reason
from llmservice_api.findings import FALSE, TRUE, UNKNOWN, Finding, conditions, not_served, serving, serving_earlier
from llmservice_api.status import Condition

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FINDINGS = st.lists(
    st.builds(
        Finding,
        st.sampled_from(ConditionType),
        st.sampled_from((TRUE, FALSE, UNKNOWN)),
        st.sampled_from(Reason),
        st.text(max_size=10),
    ),
    unique_by=lambda finding: finding.type,
)


@given(FINDINGS, st.randoms())
def test_the_order_does_not_depend_on_who_found_what_first(found: list[Finding], random: object) -> None:
    other = list(found)
    random.shuffle(other)  # type: ignore[attr-defined]
    made = conditions(found, (), 3, NOW)
    assert made == conditions(other, (), 3, NOW)
    assert [entry["type"] for entry in made][-1:] == ["Ready"] or "Ready" not in {entry["type"] for entry in made}
    assert all(Condition.model_validate(entry).observed_generation == 3 for entry in made)


@given(FINDINGS, FINDINGS)
def test_a_time_stays_while_its_status_does(first: list[Finding], second: list[Finding]) -> None:
    before = {entry["type"]: entry for entry in conditions(first, (), 1, NOW)}
    for entry in conditions(second, before.values(), 2, NOW + timedelta(minutes=1)):
        known = before.get(entry["type"])
        same = known is not None and known["status"] == entry["status"]
        assert (entry["lastTransitionTime"] == "2026-01-01T00:00:00Z") == same


def test_a_long_message_is_cut_to_what_the_schema_takes() -> None:
    (entry,) = conditions([Finding(ConditionType.READY, FALSE, Reason.WAITING, "x" * 40_000)], (), 1, NOW)
    Condition.model_validate(entry)


def test_what_is_wrong_beside_what_is_served_is_in_one_line() -> None:
    assert serving(1, 2).message == "1 of 2 replicas serve requests."
    assert serving(1, 2, ("WriteRefused", "A quota.")).message == "1 of 2 replicas serve requests. A quota."
    earlier = serving_earlier(1, 1, "DoesNotFit", "It needs 9 GiB.")
    assert (earlier.status, earlier.reason) == (TRUE, Reason.SERVING_EARLIER)
    assert "(DoesNotFit): It needs 9 GiB." in earlier.message
    assert {(found.type, found.status) for found in not_served("Loading", "It loads.")} == {
        (ConditionType.READY, FALSE),
        (ConditionType.AVAILABLE, FALSE),
    }
