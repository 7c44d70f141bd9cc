"""Every way to fail, for real: one line of `kubectl get llmsvc` names it, with what to do, and an Event says it too.

All services of the table are created at once, in one namespace: they fail while the tests look at them one by one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from harness import release
from harness.api import Api, Json
from harness.hub import start_hub
from harness.programs import kubectl
from harness.service import DEMO, LITTLE, Service


@dataclass(frozen=True)
class Case:
    """A service that fails. `uri`: {hub} and {registry} are filled in. `said` must be in the sentence.

    `mend` is what the sentence says to do, as a change of the spec; `make` as an object (plural, body) to create.
    """

    name: str
    reason: str
    said: str
    uri: str = DEMO
    spec: Json = field(default_factory=dict)
    mend: Json = field(default_factory=dict)
    make: tuple[str, Json] | None = None


CLAIM: Json = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "nothing"}}
GOOD: Json = {"model": {"uri": "{hub}/demo.gguf"}}
NAMED: Json = {"metadata": {"name": "nothing"}}
STORAGE: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
STUCK: Json = {"name": "stuck", "image": "{runtime}", "command": ["python3", "-c", "import time; time.sleep(3600)"]}
"""As a mesh would inject it: it never ends."""
CASES = (
    Case("hub-refuses", "HubUnreachable", "refused", "http://{node}:9/m.gguf", mend=GOOD),
    Case("hub-unknown", "HubUnreachable", "name resolution", "http://no-such-host.invalid/m.gguf"),
    Case("hub-broken", "HubUnreachable", "status 500", "{hub}/broken.gguf"),
    Case("gated", "ModelGated", "status 403", "{hub}/gated.gguf"),
    Case("private", "ModelGated", "credentials", "{hub}/private.gguf"),
    Case("missing", "ModelNotFound", "spelling", "{hub}/missing.gguf", mend=GOOD),
    Case("no-file", "ModelNotFound", "/models/none.gguf", "file:///models/none.gguf"),
    Case(
        "format",
        "UnsupportedFormat",
        "",
        spec={"model": {"uri": DEMO, "expectedFormat": "Safetensors"}},
        mend={"model": {"expectedFormat": None}},
    ),
    Case("cut-off", "ModelDamaged", "Download the file again", "{hub}/half.gguf", mend=GOOD),
    Case("garbage", "ModelDamaged", "Download the file again", "{hub}/garbage.gguf"),
    Case(
        "does-not-fit",
        "DoesNotFit",
        "short",
        spec={"resources": {**LITTLE, "limits": {"memory": "100Mi"}}},
        mend={"resources": {"limits": {"memory": "1Gi"}}},
    ),
    Case(
        "context",
        "BadArgument",
        "Set contextTokens",
        spec={"contextTokens": 50_000_000},
        mend={"contextTokens": 1024},
    ),
    Case(
        "argument",
        "BadArgument",
        "--no-such-thing",
        spec={"engine": {"args": ["--no-such-thing=1"]}},
        mend={"engine": {"args": None}},
    ),
    Case(
        "no-gpu",
        "NoSuchGPU",
        "accelerator.count to 0",
        spec={"accelerator": {"resourceName": "nvidia.com/gpu"}},
        mend={"accelerator": {"resourceName": None, "count": 0}},
    ),
    Case("no-build", "EngineNotInstalled", "amd.com/gpu", spec={"accelerator": {"resourceName": "amd.com/gpu"}}),
    Case(
        "too-large",
        "Unschedulable",
        "Insufficient cpu",
        spec={"resources": {"requests": {"cpu": "1000"}}},
        mend={"resources": LITTLE},
    ),
    Case(
        "no-image",
        "ImagePullFailed",
        "nothing:here",
        spec={"engine": {"type": "LlamaCpp", "image": "{registry}/nothing:here"}},
        mend={"engine": {"image": None}},
    ),
    Case(
        "root",
        "ContainerRefused",
        "runAsNonRoot: false",
        spec={"podTemplate": {"spec": {"securityContext": {"runAsUser": 0}}}},
        mend={"podTemplate": {"spec": {"securityContext": {"runAsNonRoot": False}}}},
    ),
    Case("crash", "Crashed", "", spec={"engine": {"env": [{"name": "PYTHONHOME", "value": "/nowhere"}]}}),
    Case(
        "held-up",
        "HeldUp",
        "-c stuck",
        spec={"podTemplate": {"spec": {"initContainers": [STUCK]}}},
        mend={"podTemplate": None},
    ),
    Case(
        "no-secret",
        "VolumeFailed",
        'secret "nothing" not found',
        "{hub}/demo.gguf",
        make=("secrets", {**NAMED, "stringData": {"HTTP_BEARER_TOKEN": "t"}}),
    ),
    Case(
        "no-claim",
        "VolumeFailed",
        "Create the claim",
        "{hub}/demo.gguf",
        {"cache": CLAIM},
        make=("persistentvolumeclaims", {**NAMED, "spec": STORAGE}),
    ),
    Case(
        "no-account",
        "WriteRefused",
        "serviceAccountName",
        spec={"serviceAccountName": "nobody"},
        mend={"serviceAccountName": None},
    ),
)


@dataclass(frozen=True)
class Failing:
    """A namespace with every service of the table, and what their texts are filled in with."""

    namespace: str
    known: dict[str, str]


@pytest.fixture(scope="module")
def failing(api: Api, images: release.Images, installed: release.Values) -> Iterator[Failing]:
    """Every service of the table, failing."""
    namespace = f"failures-{uuid.uuid4().hex[:6]}"
    api.create("namespaces", "", {"metadata": {"name": namespace}})
    try:
        node = api.list("nodes")[0]["status"]["addresses"][0]["address"]
        known = {
            "hub": start_hub(api, namespace, images.runtime),
            "node": node,
            "registry": images.runtime.rpartition("/")[0],
            "runtime": images.runtime,
        }
        for case in CASES:
            spec = {"endpoint": {"drainSeconds": 0}, **_filled(case.spec, known)}
            uri = _filled(case.uri, known)
            model = spec.pop("model", {"uri": uri}) | (
                {"secretRef": {"name": "nothing"}} if "secret" in case.name else {}
            )
            Service(api, namespace, case.name).create(model=model, **spec)
        yield Failing(namespace, known)
    finally:
        api.delete("namespaces", "", namespace)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_failure_is_named_with_its_remedy(api: Api, failing: Failing, case: Case) -> None:
    service = Service(api, failing.namespace, case.name)
    found = service.wait_condition("Ready", "False", case.reason, seconds=240)
    assert case.said in found["message"]
    assert service.condition("Progressing")["status"] == "False"

    def shown() -> bool:
        """A message changes when a kubelet says the same in other words."""
        line = kubectl("--namespace", failing.namespace, "get", "llmsvc", case.name, "--no-headers")
        return f" {case.reason} " in line and service.condition("Ready")["message"][:60] in line

    service.wait(shown, "kubectl get tells reason and message")
    events = [one for one in api.list("events", failing.namespace) if one["involvedObject"].get("name") == case.name]
    assert any(one["type"] == "Warning" and one["reason"] == case.reason for one in events)


MENDED = [case for case in CASES if case.mend or case.make]


@pytest.mark.parametrize("case", MENDED, ids=[case.name for case in MENDED])
def test_what_the_sentence_says_makes_the_service_ready(api: Api, failing: Failing, case: Case) -> None:
    service = Service(api, failing.namespace, case.name)
    service.wait_condition("Ready", "False", case.reason, seconds=240)
    if case.make:
        api.create(case.make[0], failing.namespace, case.make[1])
    if case.mend:
        service.edit(**_filled(case.mend, failing.known))
    service.wait_ready(seconds=300)
    service.delete()  # it makes room for the others


def _filled(value: Json | str | list[Json], known: dict[str, str]) -> Json:
    """The value with {hub}, {node} and {registry} in its texts."""
    if isinstance(value, dict):
        return {name: _filled(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, known) for item in value]  # type: ignore[return-value]
    return value.format(**known) if isinstance(value, str) else value  # type: ignore[return-value]
