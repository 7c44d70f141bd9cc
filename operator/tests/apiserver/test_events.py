"""Events as kubectl shows them: in the order of what happened, also within one second."""

from __future__ import annotations

from live_world import make, settle, work_in  # type: ignore[import-not-found]

from llmservice_kube.client import Client
from llmservice_kube.kinds import EVENT, Json
from llmservice_kube.login import Access


async def test_the_events_of_a_service_tell_its_steps_in_their_order(
    access: Access, client: Client, namespace: str
) -> None:
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        for number in range(5):
            await make(client, namespace, f"s{number}")
        await settle(work, client, namespace)
    found = (await client.list(EVENT, namespace)).items
    for number in range(5):
        mine = [event for event in found if event["involvedObject"]["name"] == f"s{number}"]
        reasons = [event["reason"] for event in sorted(mine, key=_as_shown)]
        steps = ["Resolving", "Resolved", "Fits", "Starting", "Ready"]
        assert [reason for reason in reasons if reason in steps] == steps


def _as_shown(event: Json) -> str:
    """`kubectl describe` sorts by this time, and what has the same stays as it was listed: by name."""
    return str(event["firstTimestamp"])
