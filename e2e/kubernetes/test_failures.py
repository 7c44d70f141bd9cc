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
    """A service that fails. `uri`: {hub} and {registry} are filled in. `said` must be in the sentence."""

    name: str
    reason: str
    said: str
    uri: str = DEMO
    spec: Json = field(default_factory=dict)


CLAIM: Json = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "nothing"}}
CASES = (
    Case("hub-refuses", "HubUnreachable", "refused", "http://{node}:9/m.gguf"),
    Case("hub-unknown", "HubUnreachable", "name resolution", "http://no-such-host.invalid/m.gguf"),
    Case("hub-broken", "HubUnreachable", "status 500", "{hub}/broken.gguf"),
    Case("gated", "ModelGated", "status 403", "{hub}/gated.gguf"),
    Case("private", "ModelGated", "credentials", "{hub}/private.gguf"),
    Case("missing", "ModelNotFound", "spelling", "{hub}/missing.gguf"),
    Case("no-file", "ModelNotFound", "/models/none.gguf", "file:///models/none.gguf"),
    Case("format", "UnsupportedFormat", "", spec={"model": {"uri": DEMO, "expectedFormat": "Safetensors"}}),
    Case("cut-off", "ModelDamaged", "Download the file again", "{hub}/half.gguf"),
    Case("garbage", "ModelDamaged", "Download the file again", "{hub}/garbage.gguf"),
    Case("does-not-fit", "DoesNotFit", "short", spec={"resources": {**LITTLE, "limits": {"memory": "100Mi"}}}),
    Case("context", "BadArgument", "Set contextTokens", spec={"contextTokens": 50_000_000}),
    Case("argument", "BadArgument", "--no-such-thing", spec={"engine": {"args": ["--no-such-thing=1"]}}),
    Case("no-gpu", "NoSuchGPU", "accelerator.count to 0", spec={"accelerator": {"resourceName": "nvidia.com/gpu"}}),
    Case("no-build", "EngineNotInstalled", "amd.com/gpu", spec={"accelerator": {"resourceName": "amd.com/gpu"}}),
    Case("too-large", "Unschedulable", "Insufficient cpu", spec={"resources": {"requests": {"cpu": "1000"}}}),
    Case(
        "no-image",
        "ImagePullFailed",
        "nothing:here",
        spec={"engine": {"type": "LlamaCpp", "image": "{registry}/nothing:here"}},
    ),
    Case("crash", "Crashed", "", spec={"engine": {"env": [{"name": "PYTHONHOME", "value": "/nowhere"}]}}),
    Case("no-secret", "VolumeFailed", 'secret "nothing" not found', "{hub}/demo.gguf"),
    Case("no-claim", "VolumeFailed", "Create the claim", "{hub}/demo.gguf", {"cache": CLAIM}),
    Case("no-account", "WriteRefused", "serviceAccountName", spec={"serviceAccountName": "nobody"}),
)


@pytest.fixture(scope="module")
def failing(api: Api, images: release.Images, installed: release.Values) -> Iterator[str]:
    """A namespace with every service of the table."""
    namespace = f"failures-{uuid.uuid4().hex[:6]}"
    api.create("namespaces", "", {"metadata": {"name": namespace}})
    try:
        node = api.list("nodes")[0]["status"]["addresses"][0]["address"]
        known = {
            "hub": start_hub(api, namespace, images.runtime),
            "node": node,
            "registry": images.runtime.rpartition("/")[0],
        }
        for case in CASES:
            spec = {"endpoint": {"drainSeconds": 0}, **_filled(case.spec, known)}
            uri = _filled(case.uri, known)
            model = spec.pop("model", {"uri": uri}) | (
                {"secretRef": {"name": "nothing"}} if "secret" in case.name else {}
            )
            Service(api, namespace, case.name).create(model=model, **spec)
        yield namespace
    finally:
        api.delete("namespaces", "", namespace)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_failure_is_named_with_its_remedy(api: Api, failing: str, case: Case) -> None:
    service = Service(api, failing, case.name)
    found = service.wait_condition("Ready", "False", case.reason, seconds=240)
    assert case.said in found["message"]
    assert service.condition("Progressing")["status"] == "False"

    def shown() -> bool:
        """A message changes when a kubelet says the same in other words."""
        line = kubectl("--namespace", failing, "get", "llmsvc", case.name, "--no-headers")
        return f" {case.reason} " in line and service.condition("Ready")["message"][:60] in line

    service.wait(shown, "kubectl get tells reason and message")
    events = [one for one in api.list("events", failing) if one["involvedObject"].get("name") == case.name]
    assert any(one["type"] == "Warning" and one["reason"] == case.reason for one in events)


def _filled(value: Json | str | list[Json], known: dict[str, str]) -> Json:
    """The value with {hub}, {node} and {registry} in its texts."""
    if isinstance(value, dict):
        return {name: _filled(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, known) for item in value]  # type: ignore[return-value]
    return value.format(**known) if isinstance(value, str) else value  # type: ignore[return-value]
