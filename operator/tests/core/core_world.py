"""A cluster in a dictionary: applies what a reconcile says, and plays the controllers and kubelets as a test asks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from llmservice_api.adapters_told import AdapterTold
from llmservice_api.labels import COMPONENT, PREPARE, REVISION
from llmservice_operator.facts.config import OperatorConfig, RuntimeImage
from llmservice_operator.facts.nodes import NodeKind
from llmservice_operator.facts.values import Note, Observed, Outcome, Refused
from llmservice_operator.reconcile import reconcile
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.formats.facts import LayerGroup, LayerKind, ModelFacts, ModelFormat, Quantization, Task
from llmservice_runtime.machine.machine import Device
from llmservice_runtime.prepare.report import Prepared
from llmservice_scaling.told import ScalingTold

Json = dict[str, Any]

CPU_IMAGE = RuntimeImage("runtime:cpu", (EngineType.LLAMA_CPP,))
GPU_IMAGE = RuntimeImage("runtime:cuda", (EngineType.LLAMA_CPP, EngineType.VLLM), (Device.NVIDIA,))
CONFIG = OperatorConfig(images=(CPU_IMAGE,), operator_namespace="llm")
GPU_CONFIG = OperatorConfig(images=(CPU_IMAGE, GPU_IMAGE), operator_namespace="llm")
NODES = (NodeKind(8, 32 << 30, "amd64"),)
L4_NODES = (*NODES, NodeKind(16, 64 << 30, "amd64", (("nvidia.com/gpu", 1),), "NVIDIA-L4", "nvidia.com/gpu.product"))
FACTS = ModelFacts(
    format=ModelFormat.GGUF,
    architecture="llama",
    model_type="llama",
    task=Task.CHAT,
    quantization=Quantization("gguf", "Q4_K_M", 4.9),
    dtype="F16",
    parameters=8_030_261_248,
    context_tokens=8192,
    layers=(LayerGroup(LayerKind.FULL, 32, 8, 128, 128),),
    hidden_size=4096,
    attention_heads=32,
    vocab_size=128256,
    weight_bytes=4_912_898_304,
    layer_weight_bytes=(130_000_000,) * 32,
    files=("model-Q4_K_M.gguf",),
    file_bytes=4_920_739_232,
    has_chat_template=True,
    has_tokenizer=True,
)
PREPARED = Prepared(FACTS, "c0ffee", "/cache/models/hf/a--b/c0ffee/model-Q4_K_M.gguf")


class World:
    """`spec` may be edited by `edit`; `now` moves by `wait`."""

    def __init__(self, config: OperatorConfig = CONFIG, nodes: tuple[NodeKind, ...] | None = NODES) -> None:
        self.config = config
        self.nodes = nodes
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.objects: dict[tuple[str, str], Json] = {}
        self.notes: list[Note] = []
        self.refused: tuple[Refused, ...] = ()
        self.events: tuple[Json, ...] = ()
        self.services: tuple[str, ...] = ()
        self.loads: dict[str, Json] = {}
        self.scaling: ScalingTold | None = None
        self.adapters: dict[str, tuple[AdapterTold, ...]] = {}
        self.service: Json = {
            "apiVersion": "llmservice.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": {"name": "demo", "namespace": "apps", "uid": "u-1", "generation": 1},
            "spec": {"model": {"uri": "hf://a/b"}, "replicas": 1},
        }

    def edit(self, **fields: Any) -> World:
        self.service["spec"].update(fields)
        self.service["metadata"]["generation"] += 1
        return self

    def wait(self, seconds: float) -> World:
        self.now += timedelta(seconds=seconds)
        return self

    def look(self) -> Outcome:
        """A reconcile without any write."""
        children = tuple(copy.deepcopy(list(self.objects.values())))
        seen = (self.refused, self.events, self.services, self.loads, self.scaling, self.adapters)
        observed = Observed(copy.deepcopy(self.service), children, self.nodes, *seen)
        return reconcile(observed, self.config, self.now)

    def pass_(self) -> list[str]:
        """Reconcile until nothing is written any more (at most three rounds); what was written, by kind and name."""
        written: list[str] = []
        for _ in range(3):
            outcome = self.look()
            changed = self._write(outcome)
            written += changed
            if not changed:
                break
        if outcome.status is not None and outcome.status != self.service.get("status"):
            self.service["status"] = json.loads(json.dumps(outcome.status))
            written.append("status")
            self.notes += outcome.notes
        return written

    def condition(self, kind: str) -> Json:
        conditions: list[Json] = self.service["status"]["conditions"]
        return next(entry for entry in conditions if entry["type"] == kind)

    def get(self, kind: str, name: str = "demo") -> Json:
        return self.objects[kind, name]

    def of(self, kind: str) -> list[Json]:
        return [obj for (found, _), obj in self.objects.items() if found == kind]

    # What controllers and kubelets do.

    def prepared(self, prepared: Prepared = PREPARED) -> World:
        """The newest Job is done; it reported the model's headers, or that the cache is filled."""
        ended = {"terminated": {"exitCode": 0, "reason": "Completed", "message": prepared.to_json()}}
        self._job_pod({"name": self._job_container(), "state": ended})
        self._job()["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
        return self

    def prepare_failed(self, failure: FailureClass, message: str, remedy: str) -> World:
        record = FailureRecord(failure, message, remedy, "Preparing").to_json()
        ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": record}}
        self._job_pod({"name": self._job_container(), "state": ended})
        failed = {"type": "Failed", "status": "True", "message": "x", "lastTransitionTime": self._stamp()}
        self._job()["status"] = {"conditions": [failed]}
        return self

    def replica(self, name: str, ready: bool = False, **status: Any) -> Json:
        """A pod of the Deployment's template."""
        template = self.get("Deployment")["spec"]["template"]
        container = {"name": "runtime", "image": "runtime:cpu", "ready": ready, "restartCount": 0, "state": {}}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": dict(template["metadata"]["labels"]),
                "creationTimestamp": self._stamp(),
            },
            "spec": {"nodeName": "n1"},
            "status": {"containerStatuses": [container], **status},
        }
        self.objects["Pod", name] = pod
        return pod

    def no_node(self, pod: Json, message: str = "0/2 nodes are available") -> None:
        said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        pod["status"] = {"conditions": [{**said, "lastTransitionTime": self._stamp()}]}
        pod["spec"] = {}

    def rolled_out(self) -> World:
        """Every replica runs the Deployment's template and is ready."""
        self.objects = {key: obj for key, obj in self.objects.items() if key[0] != "Pod" or not _serves(obj)}
        wanted = self.get("Deployment")["spec"]["replicas"]
        for number in range(wanted):
            name = f"demo-{self.get('Deployment')['metadata']['generation']}-{number}"
            self.replica(name, ready=True, conditions=[{"type": "Ready", "status": "True"}])
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), wanted)
        self.get("Deployment")["status"] = {**counts, "observedGeneration": self._generation()}
        return self

    def served(self) -> World:
        """From nothing to a service that serves."""
        self.pass_()
        self.prepared().pass_()
        if "-fetch-" in self._job()["metadata"]["name"]:
            self.prepared().pass_()
        self.rolled_out().pass_()
        return self

    def _generation(self) -> int:
        found: int = self.get("Deployment")["metadata"]["generation"]
        return found

    def _job(self) -> Json:
        return self.of("Job")[-1]

    def _job_container(self) -> str:
        name: str = self._job()["spec"]["template"]["spec"]["containers"][0]["name"]
        return name

    def _job_pod(self, container: Json) -> None:
        name = self._job()["metadata"]["name"]
        labels = {COMPONENT: PREPARE, "batch.kubernetes.io/job-name": name}
        self.objects["Pod", name] = {
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "creationTimestamp": self._stamp()},
            "spec": {},
            "status": {"containerStatuses": [container]},
        }

    def _write(self, outcome: Outcome) -> list[str]:
        written = []
        refused = {(write.kind, write.name) for write in self.refused}
        for wanted in outcome.apply:
            key = wanted["kind"], wanted["metadata"]["name"]
            if key in refused:
                continue
            live = self.objects.get(key)
            if live is not None and _ours(live) == wanted:
                continue
            metadata = {"uid": f"u-{key}", "creationTimestamp": self._stamp(), **wanted["metadata"]}
            metadata["generation"] = live["metadata"]["generation"] + 1 if live else 1
            kept = {"status": live["status"]} if live and "status" in live else {}
            self.objects[key] = json.loads(json.dumps({**wanted, "metadata": metadata, **kept}))
            written.append(" ".join(key))
        for delete in outcome.delete:
            assert self.objects[delete.kind, delete.name]["metadata"]["uid"] == delete.uid
            del self.objects[delete.kind, delete.name]
            written.append(f"-{delete.kind} {delete.name}")
        return written

    def _stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _ours(live: Json) -> Json:
    hidden = ("uid", "creationTimestamp", "generation")
    metadata = {key: value for key, value in live["metadata"].items() if key not in hidden}
    return {**{key: value for key, value in live.items() if key != "status"}, "metadata": metadata}


def _serves(pod: Json) -> bool:
    return REVISION in pod["metadata"]["labels"]


Change = Callable[[World], object]
