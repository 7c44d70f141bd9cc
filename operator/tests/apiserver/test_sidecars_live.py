"""A Job that a mesh's sidecar keeps alive, on the real API server: what it read outlives it, also without a plan."""

from __future__ import annotations

from fake_controllers import PREPARED, pod_of, set_status  # type: ignore[import-not-found]
from live_world import edit, make, one_pass, settle, work_in, written  # type: ignore[import-not-found]

from llmservice_api.labels import COMPONENT, REVISION
from llmservice_kube.client import Client
from llmservice_kube.kinds import CONTROLLER_REVISION, DEPLOYMENT, JOB, LLM_SERVICE, POD, Json
from llmservice_kube.login import Access
from llmservice_operator.facts.live import condition

LONG_AGO = "2026-01-01T00:00:00Z"
REFUSED = {"count": 8, "resourceName": "nvidia.com/gpu"}
"""No image of the installation is for it."""


async def sidecar_goes_on(client: Client, job: Json) -> None:
    """Our container has reported and ended, a proxy beside it never does."""
    pod = pod_of(job, f"{job['metadata']['name']}-0", {"batch.kubernetes.io/job-name": job["metadata"]["name"]})
    own, image = pod["spec"]["containers"][0], {"image": "r", "imageID": "", "restartCount": 0}
    pod["spec"]["containers"] = [own, {"name": "istio-proxy", "image": "proxy"}]
    await client.create(pod)
    ended = {"exitCode": 0, "message": PREPARED.to_json(), "startedAt": LONG_AGO, "finishedAt": LONG_AGO}
    containers = [
        {"name": own["name"], "ready": False, "state": {"terminated": ended}, **image},
        {"name": "istio-proxy", "ready": True, "state": {"running": {"startedAt": LONG_AGO}}, **image},
    ]
    await set_status(client, POD, pod, {"phase": "Running", "containerStatuses": containers})


async def pods(client: Client, namespace: str) -> None:
    """What Kubernetes' garbage collector does with those of a Job that is gone."""
    for pod in (await client.list(POD, namespace)).items:
        await client.send("delete", POD, POD.path(namespace, pod["metadata"]["name"]), body={"gracePeriodSeconds": 0})


async def test_what_was_read_outlives_a_job_whose_plan_is_refused(
    access: Access, client: Client, namespace: str
) -> None:
    key = await make(client, namespace, accelerator=REFUSED)
    async with Client(access) as own:
        work = work_in(access, own, namespace)
        await one_pass(work)
        (job,) = (await client.list(JOB, namespace)).items
        await sidecar_goes_on(client, job)
        await one_pass(work)
        await one_pass(work)
        assert (await client.list(JOB, namespace)).items == []
        (kept,) = (await client.list(CONTROLLER_REVISION, namespace)).items
        assert kept["metadata"]["name"] == job["metadata"]["name"] and COMPONENT in kept["metadata"]["labels"]
        assert kept["data"]["prepared"] == PREPARED.to_json()
        await pods(client, namespace)
        sent = written(own)
        await one_pass(work)
        assert written(own) == sent
    async with Client(access) as other:  # nothing was remembered
        work = work_in(access, other, namespace)
        await one_pass(work)
        assert written(other) == 0
        live = await client.get(LLM_SERVICE, *key)
        found = {name: condition(live or {}, name) for name in ("ModelResolved", "Planned")}
        assert [said and said["status"] for said in found.values()] == ["True", "False"]
        await edit(client, key, accelerator={"count": 0, "resourceName": None})
        await settle(work, client, namespace)
        (plan,) = (await client.list(CONTROLLER_REVISION, namespace)).items
        deployment = await client.get(DEPLOYMENT, *key)
        assert deployment is not None
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels[REVISION] == plan["metadata"]["name"] and plan["data"]["prepared"] == PREPARED.to_json()
        assert (await client.list(JOB, namespace)).items == [], "nothing was read again"
