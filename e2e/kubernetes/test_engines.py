"""Each engine in pods, by one word of the manifest; as a user that the cluster chose, on a read-only root.

The image with all of them is some GB: one node pulls it, and where the pods run that need it.
"""

from __future__ import annotations

import pytest

from harness import release
from harness.api import Api, Json
from harness.chat import Client, trained_answer
from harness.demand import URL, ask
from harness.hub import NAME as HUB
from harness.hub import start_hub
from harness.programs import kubectl
from harness.service import LITTLE, QUESTION, Service

USER = "1000800000"
"""As OpenShift gives a namespace: no entry in /etc/passwd, and group 0."""
POLITE = {"name": "polite", "uri": "file:///models/adapters/polite"}
"""What the runtime's image carries beside the demo model."""
ENGINES = ("LlamaCpp", "Transformers", "VLLM")
START_SECONDS = 600
"""vLLM takes a minute alone; here it shares two cores with other tests."""

pytestmark = pytest.mark.every_engine


@pytest.fixture
def pod_template(api: Api) -> Json:
    """Where pods run, and as whom."""
    node = min(api.list("nodes"), key=lambda node: str(node["metadata"]["name"]))
    name = node["metadata"]["labels"]["kubernetes.io/hostname"]
    user = {"runAsUser": int(USER), "runAsGroup": 0}
    return {"spec": {"nodeSelector": {"kubernetes.io/hostname": name}, "securityContext": user}}


def inside(service: Service, command: str) -> str:
    """What a shell in the replica's container prints."""
    pod = service.pods()[0]["metadata"]["name"]
    return kubectl("--namespace", service.namespace, "exec", pod, "--container", "runtime", "--", "sh", "-c", command)


def kernels(service: Service) -> list[str]:
    """The libraries that the engine compiled, with the times they were made at."""
    found = "find /tmp -name '*.so' -printf '%p %T@\\n'"
    return sorted(inside(service, found).splitlines())


def replace(service: Service, api: Api) -> None:
    """Another pod in place of the one there is."""
    (before,) = service.pods()
    api.delete("pods", service.namespace, before["metadata"]["name"])
    uid = before["metadata"]["uid"]
    service.wait(lambda: uid not in {pod["metadata"]["uid"] for pod in service.pods()}, "another replica")
    service.wait_ready(seconds=START_SECONDS)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_word_of_the_manifest_changes_the_engine_and_not_the_answer(
    engine: str, service: Service, client: Client, pod_template: Json
) -> None:
    service.create("file:///models/demo", engine={"type": engine}, adapters=[POLITE], podTemplate=pod_template)
    service.wait_ready(seconds=START_SECONDS)
    assert service.status()["plan"]["engine"] == engine
    assert client.chat(service.status()["url"], QUESTION) == trained_answer(QUESTION)
    polite = ask(client, URL, f"{service.full_name}:polite")
    assert polite["status"] == 200 and polite["answer"].startswith("Hello!"), polite
    stranger = "id -u; id -g; touch /opt/written 2>/dev/null || echo read-only"
    assert inside(service, stranger).split() == [USER, "0", "read-only"]


def test_what_was_fetched_and_compiled_once_is_there_for_the_next_pod(
    service: Service, api: Api, client: Client, images: release.Images, pod_template: Json
) -> None:
    """On a claim, where no source answers any more."""
    hub = start_hub(api, service.namespace, images.runtime)
    pod_template["spec"]["containers"] = [{"name": "runtime", "env": [{"name": "HF_ENDPOINT", "value": hub}]}]
    cache = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "1Gi"}}
    engine = {"type": "VLLM", "args": ["--optimization-level=1"]}  # by default it compiles for GPUs alone
    service.create("hf://demo/demo", engine=engine, cache=cache, podTemplate=pod_template)
    service.wait_ready(seconds=START_SECONDS)
    compiled = kernels(service)
    assert compiled
    api.delete("pods", service.namespace, HUB)
    replace(service, api)
    assert kernels(service) == compiled, "nothing is compiled again"
    assert client.chat(service.status()["url"], QUESTION) == trained_answer(QUESTION)


def test_the_image_with_every_engine_serves_the_smallest_one_too(
    service: Service, client: Client, images: release.Images, pod_template: Json
) -> None:
    """Where a lighter image is listed before it, no service would take it from here by itself."""
    engine = {"type": "LlamaCpp", "image": images.engines}
    service.create(engine=engine, resources=LITTLE, podTemplate=pod_template).wait_ready(seconds=START_SECONDS)
    assert client.chat(service.status()["url"], QUESTION) == trained_answer(QUESTION)
