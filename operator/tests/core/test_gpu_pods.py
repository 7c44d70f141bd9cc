"""What pods get beyond GPUs: memory that processes share, room for what the engine compiles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_world import CONFIG, FACTS, PREPARED, World  # type: ignore[import-not-found]

from llmservice_operator.control.installation import Installation
from llmservice_operator.facts.config import RuntimeImage
from llmservice_operator.facts.nodes import NodeKind
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.estimate.budget import SHARED
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.machine.machine import Device

PLAIN = dataclasses.replace(
    FACTS,
    format=ModelFormat.SAFETENSORS,
    architecture="LlamaForCausalLM",
    quantization=None,
    dtype="BF16",
    weight_bytes=16_060_522_496,
    layer_weight_bytes=(),
    files=("model.safetensors",),
)
MODEL = dataclasses.replace(PREPARED, facts=PLAIN, path="/cache/models/hf/a--b/c0ffee")
CUDA = RuntimeImage("runtime:cuda", (EngineType.VLLM,), (Device.NVIDIA,))
CONFIG_CUDA = dataclasses.replace(CONFIG, images=(*CONFIG.images, CUDA))
NODE = NodeKind(32, 128 << 30, "amd64", (("nvidia.com/gpu", 2),), "NVIDIA-A100-SXM4-80GB", "nvidia.com/gpu.product")
CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "40Gi"}}


def served(**fields: Any) -> World:
    world = World(CONFIG_CUDA, (NODE,)).edit(**fields)
    world.pass_()
    for _ in range(2):
        world.prepared(MODEL).pass_()
    return world


def runtime(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.get("Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


def volumes(world: World) -> dict[str, Any]:
    return {volume["name"]: volume for volume in world.get("Deployment")["spec"]["template"]["spec"]["volumes"]}


def settings(world: World) -> dict[str, Any]:
    annotations = world.get("Deployment")["spec"]["template"]["metadata"]["annotations"]
    found: dict[str, Any] = json.loads(next(text for name, text in annotations.items() if name.endswith("settings")))
    return found


def mounts(world: World) -> dict[str, Any]:
    return {mount["mountPath"]: mount for mount in runtime(world)["volumeMounts"]}


def mib(text: str) -> int:
    return int(text.removesuffix("Mi"))


def test_two_gpus_share_memory_that_the_plan_counts() -> None:
    one, two = served(accelerator={"count": 1}), served(accelerator={"count": 2})
    assert "/dev/shm" not in mounts(one)
    assert mounts(two)["/dev/shm"]["name"] == "shared-memory"
    room = volumes(two)["shared-memory"]["emptyDir"]
    assert room["medium"] == "Memory" and mib(room["sizeLimit"]) > 1024
    plan = json.loads(json.dumps(two.of("ControllerRevision")[-1]["data"]["plan"]))
    line = next(line for line in plan["memory"] if line["name"] == SHARED)
    assert mib(room["sizeLimit"]) == -(-line["bytes"] >> 20) and line["where"] == "Host"
    asked = [mib(runtime(world)["resources"]["requests"]["memory"]) for world in (one, two)]
    assert asked[1] - asked[0] >= mib(room["sizeLimit"])


@pytest.mark.parametrize("args", [[], ["--distributed-executor-backend=mp"]])
def test_vllm_on_a_cpu_has_room_for_its_queues_where_it_computes_in_another_process(args: list[str]) -> None:
    """It does not start with a container's 64 MiB then."""
    image = RuntimeImage("runtime:all", (EngineType.VLLM,), (Device.CPU,))
    world = World(dataclasses.replace(CONFIG, images=(*CONFIG.images, image)), (NodeKind(32, 128 << 30, "amd64"),))
    world.edit(engine={"type": "VLLM", "args": args}).pass_()
    for _ in range(2):
        world.prepared(MODEL).pass_()
    if not args:
        assert "/dev/shm" not in mounts(world)
        return
    assert mounts(world)["/dev/shm"]["name"] == "shared-memory"
    plan = json.loads(json.dumps(world.of("ControllerRevision")[-1]["data"]["plan"]))
    line = next(line for line in plan["memory"] if line["name"] == SHARED)
    assert line["bytes"] > (160 + 240) << 20, "what it looks for in 0.32: a queue to its worker, and one back"
    assert mib(volumes(world)["shared-memory"]["emptyDir"]["sizeLimit"]) == -(-line["bytes"] >> 20)


def test_another_volume_at_dev_shm_is_the_users() -> None:
    own = {
        "volumes": [{"name": "mine", "emptyDir": {"medium": "Memory"}}],
        "containers": [{"name": "runtime", "volumeMounts": [{"name": "mine", "mountPath": "/dev/shm"}]}],
    }
    world = served(accelerator={"count": 2}, podTemplate={"spec": own})
    assert [mount["name"] for mount in runtime(world)["volumeMounts"] if mount["mountPath"] == "/dev/shm"] == ["mine"]
    assert "/dev/shm" in " ".join(world.service["status"]["plan"]["notes"])


@pytest.mark.parametrize("cache", [{"type": "EmptyDir"}, CLAIM])
def test_what_an_engine_compiles_stays_in_the_cache_and_the_weights_are_only_read(cache: dict[str, Any]) -> None:
    world = served(cache=cache, accelerator={"count": 1})
    kept = mounts(world)[settings(world)["compiled"]]
    assert kept == {"name": "cache", "mountPath": "/tmp/compiled", "subPath": "compiled"}
    assert mounts(world)["/cache"]["readOnly"] is True


def test_without_a_cache_it_goes_to_the_pods_own_room() -> None:
    world = World(CONFIG_CUDA, (NODE,)).edit(model={"uri": "file:///models/plain"}, accelerator={"count": 1})
    world.pass_()
    world.prepared(dataclasses.replace(MODEL, revision="", path="/models/plain")).pass_()
    assert settings(world)["compiled"] == "/tmp/compiled"
    assert set(mounts(world)) == {"/tmp", "/etc/llmservice"}


def test_an_engine_that_compiles_nothing_gets_nothing_of_it(world: World) -> None:
    world.served()
    assert "compiled" not in settings(world) and "/tmp/compiled" not in mounts(world)


def test_a_default_installation_uses_the_gpu_of_a_node_and_the_cpu_of_another() -> None:
    values = yaml.safe_load((Path(__file__).parents[3] / "charts/llmservice/values.yaml").read_text())
    config = Installation.model_validate({"images": values["runtime"]["images"]}).operator_config("llm")
    for nodes, variant, gpus in (((NODE,), "cuda", "1"), ((NodeKind(32, 128 << 30, "amd64"),), "engines-cpu", None)):
        world = World(config, nodes)
        world.pass_()
        world.prepared(MODEL).pass_()
        assert runtime(world)["image"].endswith(f"-{variant}")
        assert runtime(world)["resources"]["limits"].get("nvidia.com/gpu") == gpus


def test_a_driver_that_is_too_old_is_told_with_its_node_and_the_way_out() -> None:
    world = served(accelerator={"count": 1})
    record = FailureRecord(
        FailureClass.DRIVER_TOO_OLD, "The engine ended: too old.", "Update the driver.", "Loading", 1
    )
    pod = world.replica("demo-1")
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": record.to_json()}}
    pod["status"]["containerStatuses"][0] |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    world.pass_()
    told = world.condition("Ready")
    assert told["reason"] == "DriverTooOld"
    assert "Update the driver." in told["message"] and "node n1" in told["message"]
