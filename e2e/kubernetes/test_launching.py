"""Models that clients of Xinference and Ollama launch and remove by requests, each asked of one gateway of two."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import httpx
import ollama
import pytest
from xinference_client import RESTfulClient

from harness import release
from harness.api import Api
from harness.chat import trained_answer
from harness.demand import PODS
from harness.hub import NAME as HUB
from harness.hub import start_hub
from harness.keys import key
from harness.programs import forwarded, kubectl
from harness.release import LAUNCHED
from harness.service import QUESTION, Service
from harness.wait import wait_for

ACCOUNT = f"system:serviceaccount:{release.NAMESPACE}:{release.NAME}-gateway"
NOBODY = f"system:serviceaccount:{release.NAMESPACE}:nobody"
LABEL = "llmservice.dev/launched"
USER: list[Any] = [{"role": "user", "content": QUESTION}]
SECONDS = 180
"""Of one request: a launch is answered when the model serves."""
CHILDREN = (
    "deployments", "services", "serviceaccounts", "networkpolicies", "poddisruptionbudgets", "persistentvolumeclaims",
)  # fmt: skip


@pytest.fixture(autouse=True)
def launching(installed: release.Values, api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where it is allowed; nothing is left of it."""
    if LAUNCHED not in installed.get("gateway", {}).get("launch", {}).get("namespaces", ()):
        assert os.environ.get("E2E_INSTALLED"), "ours lets them"
        pytest.skip(f"the installation lets nobody launch models in {LAUNCHED}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    for one in api.list("llmservices", LAUNCHED):
        api.delete("llmservices", LAUNCHED, one["metadata"]["name"])


@pytest.fixture
def hub(api: Api, namespace: str, images: release.Images) -> str:
    """Where the models come from."""
    return start_hub(api, namespace, images.runtime)


@pytest.fixture
def gateways(api: Api) -> Iterator[list[str]]:
    """The URL of each."""
    with ExitStack() as stack:
        pods = [pod["metadata"]["name"] for pod in api.list("pods", release.NAMESPACE, PODS)]
        assert len(pods) == 2
        yield [stack.enter_context(forwarded(release.NAMESPACE, f"pod/{pod}", 8080)) for pod in pods]


@pytest.fixture
def ops(namespace: str, gateways: list[str]) -> Iterator[str]:
    """A key that may launch, as far as its gateways let any."""
    with key(f"ops-{namespace}"[:60], "--services", "*/*", "--launch") as made:
        known(made, gateways)
        yield made


def known(made: str, gateways: list[str]) -> None:
    """Until every gateway knows a key."""
    headers = {"Authorization": f"Bearer {made}"}

    def answers() -> set[int]:
        return {httpx.get(f"{url}/v1/models", headers=headers, trust_env=False).status_code for url in gateways}

    wait_for(lambda: answers() == {200}, "every gateway knows the key", 60)


def xinference(stack: ExitStack, url: str, made: str) -> RESTfulClient:
    """Xinference's client, whose requests end some time."""
    client = stack.enter_context(closing(RESTfulClient(url, api_key=made)))
    client.session.request = partial(client.session.request, timeout=SECONDS)
    return client


def parts(service: Service) -> set[str]:
    """What the operator made for it, by uid."""
    selector = f"llmservice.dev/name={service.name}"
    found = [one for kind in CHILDREN for one in service.api.list(kind, service.namespace, selector)]
    return {one["metadata"]["uid"] for one in found + service.pods()}


def gone(service: Service) -> None:
    """Until nothing is left of it."""

    def holds() -> bool:
        return service.api.find("llmservices", service.namespace, service.name) is None and not parts(service)

    service.wait(holds, "it is gone")


def removed(client: RESTfulClient, uid: str) -> bool:
    """Whether the gateway lets this client."""
    try:
        client.terminate_model(uid)
    except RuntimeError:
        return False
    return True


def test_xinferences_client_launches_at_one_gateway_asks_another_and_ends_what_it_launched(
    api: Api, hub: str, gateways: list[str], ops: str
) -> None:
    own, made = Service(api, LAUNCHED, "own").create(), Service(api, LAUNCHED, "mine")
    uid = f"{LAUNCHED}.mine"
    with ExitStack() as stack:
        one, other = (xinference(stack, url, ops) for url in gateways)
        assert one.launch_model(f"{hub}/demo.gguf", model_uid=uid, model_format="ggufv2", n_gpu=None) == uid
        assert made.object()["metadata"]["labels"] == {LABEL: "xinference"}
        made.wait(lambda: other.get_launch_model_progress(uid) == {"progress": 1.0}, "the other one has it too")
        with closing(other.get_model(uid)) as model:
            said = model.chat(USER, generate_config={"temperature": 0, "max_tokens": 100})
        assert said["choices"][0]["message"]["content"] == trained_answer(QUESTION), said
        with pytest.raises(RuntimeError, match=r"There is a service .*/mine already.*model_uid"):
            other.launch_model(f"{hub}/demo.gguf", model_uid=uid)
        own.wait_ready()
        before = parts(own)
        with pytest.raises(RuntimeError, match=rf"own was launched by no client.*{LABEL}"):
            other.terminate_model(f"{LAUNCHED}.own")
        other.terminate_model(uid)
        gone(made)
        made.wait(lambda: made.full_name not in one.list_models(), "the one that launched it has it no more")
        assert before and parts(own) == before, "nothing else went with it"
        kubectl("--namespace", LAUNCHED, "label", "llmservice", "own", f"{LABEL}=yes")
        own.wait(lambda: removed(other, f"{LAUNCHED}.own"), "who puts the label on a service lets clients remove it")
        gone(own)


def test_ollamas_client_pulls_a_model_that_a_request_wakes_and_deletes_it(
    api: Api, namespace: str, hub: str, gateways: list[str], ops: str
) -> None:
    made, word = Service(api, LAUNCHED, "demo"), f"{hub}/demo.gguf"
    headers = {"Authorization": f"Bearer {ops}"}
    with ExitStack() as stack:
        one, other = (stack.enter_context(ollama.Client(url, headers=headers, timeout=SECONDS)) for url in gateways)
        told = list(one.pull(word, stream=True))
        assert (told[0].status, told[-1].status) == ("pulling manifest", "success"), told
        assert {line.total for line in told if line.digest} == {made.status()["model"]["fileBytes"]}
        assert made.condition("Ready")["reason"] == "Idle" and not made.pods(), "it is only brought"
        assert other.pull(word).status == "success", "it is there"
        with pytest.raises(ollama.ResponseError, match="ModelNotFound"):
            one.pull(f"{hub}/nowhere.gguf")
        api.delete("pods", namespace, HUB, grace=0)
        assert f"{made.full_name}:latest" in [model.model for model in other.list().models]
        said = other.chat(made.full_name, USER, options={"temperature": 0})
        assert said.message.content == trained_answer(QUESTION) and said.load_duration, said
        assert one.delete(made.full_name).status == "success"
        gone(made)
        assert not api.list("llmservices", LAUNCHED)


def test_nothing_is_launched_elsewhere_nor_from_elsewhere_nor_by_other_keys(
    api: Api, namespace: str, gateways: list[str], ops: str
) -> None:
    model, free = f"http://hub.{namespace}/demo.gguf", f"{LAUNCHED}.free"
    with ExitStack() as stack:
        mine = stack.enter_context(key(f"mine-{namespace}"[:60], "--services", f"{namespace}/*", "--launch"))
        known(mine, gateways)
        first = release.first_key(api)
        for made, word, uid, said in (
            (ops, model, f"{namespace}.demo", rf"namespace {namespace}, and models are launched in {LAUNCHED} alone"),
            (ops, "acme/tiny", free, r"only from http\. .*gateway\.launch\.sources"),
            (ops, "file:///models/demo/demo-Q4_K_M.gguf", free, "only from http"),
            (ops, model, f"{LAUNCHED}.Not_A_Name", "model_uid"),
            (first, model, free, "default may not launch or remove .*--launch"),
            (mine, model, free, "may not launch or remove"),
            (mine, model, "free", "may not launch or remove"),
        ):
            for url in gateways:
                with pytest.raises(RuntimeError, match=said):
                    xinference(stack, url, made).launch_model(word, model_uid=uid)
    assert not api.list("llmservices", LAUNCHED) and not api.list("llmservices", namespace)


def test_the_gateways_account_writes_services_there_and_nothing_elsewhere(namespace: str) -> None:
    reads = {(what, verb) for what in ("llmservices", "endpointslices") for verb in ("list", "watch")}
    reads |= {("events", "list")}
    assert rights(namespace) == reads == rights("default")
    assert rights(LAUNCHED) == reads | {("llmservices", verb) for verb in ("create", "patch", "delete")}
    its_own = {("leases", verb) for verb in ("list", "watch", "create", "patch", "delete")} | {("pods", "get")}
    its_own |= {(f"secrets/{release.NAME}-gateway-keys", verb) for verb in ("list", "watch")}
    its_own |= {(f"configmaps/{release.NAME}-gateway-usage", verb) for verb in ("get", "patch")}
    assert rights(release.NAMESPACE) == reads | its_own


def rights(namespace: str) -> set[tuple[str, str]]:
    """What the gateway's account may do in a namespace, as the API server says, beside what every account may."""
    return may(ACCOUNT, namespace) - may(NOBODY, namespace)


def may(account: str, namespace: str) -> set[tuple[str, str]]:
    """(resource, or resource/name; verb)."""
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    told = kubectl("create", "--raw", path, "--filename", "-", f"--as={account}", stdin=json.dumps(asked))
    return {
        (f"{resource}/{name}" if name else resource, verb)
        for rule in json.loads(told)["status"]["resourceRules"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or ("",)
        for verb in rule["verbs"]
    }
