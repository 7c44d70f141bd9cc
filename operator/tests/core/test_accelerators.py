"""GPUs of every kind: what a pod asks for, which nodes it may run on, and for how long it may start."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from core_world import CONFIG, CPU_IMAGE, FACTS, World  # type: ignore[import-not-found]

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_operator.children.replica_pod import STARTUP_PERIOD
from llmservice_operator.facts.config import OperatorConfig, RuntimeImage
from llmservice_operator.facts.nodes import NodeKind, node_kinds
from llmservice_operator.facts.placing import places
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.formats.facts import ModelFormat
from llmservice_runtime.machine.machine import Device
from llmservice_runtime.prepare.report import Prepared

LABELS = {"nvidia": "nvidia.com/gpu.product", "amd": "amd.com/gpu.product-name", "intel": "gpu.intel.com/product"}
IMAGE = RuntimeImage("runtime:gpu", (EngineType.LLAMA_CPP,), (Device.NVIDIA, Device.AMD, Device.INTEL))
CONFIGURATION = OperatorConfig(images=(CPU_IMAGE, IMAGE), operator_namespace="llm")
CPU_NODE = NodeKind(8, 32 << 30, "amd64")


def gpu_node(resource: str, product: str = "", vendor: str = "nvidia", count: int = 1, memory: int = 0) -> NodeKind:
    label = LABELS[vendor] if product else ""
    return NodeKind(16, 64 << 30, "amd64", ((resource, count),), product, label, memory)


def pod_on(*nodes: NodeKind, **spec: Any) -> dict[str, Any]:
    world = World(CONFIGURATION, (CPU_NODE, *nodes)).edit(**spec)
    world.served()
    found: dict[str, Any] = world.get("Deployment")["spec"]["template"]["spec"]
    return found


def required(pod: dict[str, Any]) -> list[str]:
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    values: list[str] = terms[0]["matchExpressions"][0]["values"]
    return values


@pytest.mark.parametrize(
    ("resource", "product", "vendor", "tolerated"),
    [
        ("nvidia.com/gpu", "NVIDIA-L4", "nvidia", ["nvidia.com/gpu"]),
        ("nvidia.com/mig-2g.20gb", "NVIDIA-A100-SXM4-80GB", "nvidia", ["nvidia.com/mig-2g.20gb", "nvidia.com/gpu"]),
        ("amd.com/gpu", "MI300X", "amd", ["amd.com/gpu"]),
        ("gpu.intel.com/xe", "Max-1550", "intel", ["gpu.intel.com/xe"]),
        ("gpu.intel.com/i915", "Max-1550", "intel", ["gpu.intel.com/i915", "gpu.intel.com/xe"]),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_each_vendors_resource_is_asked_for_and_its_taint_tolerated(
    resource: str, product: str, vendor: str, tolerated: list[str], named: bool
) -> None:
    asked = {"accelerator": {"resourceName": resource}} if named else {}
    pod = pod_on(gpu_node(resource, product, vendor), **asked)
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {resource: "1"}
    assert container["resources"]["requests"][resource] == "1"
    assert container["image"] == "runtime:gpu"
    assert [entry["key"] for entry in pod["tolerations"]] == tolerated
    assert required(pod) == [product]


def test_a_resource_that_nobody_knows_is_passed_through_when_it_is_named() -> None:
    strange = gpu_node("vendor.example/npu", count=2)
    pod = pod_on(strange, accelerator={"resourceName": "vendor.example/npu", "count": 1})
    assert pod["containers"][0]["resources"]["limits"] == {"vendor.example/npu": "1"}
    assert [entry["key"] for entry in pod["tolerations"]] == ["vendor.example/npu"]
    assert "affinity" not in pod
    assert "tolerations" not in pod_on(strange), "nothing is taken that was not asked for"


def test_every_product_that_surely_takes_the_plan_may_run_it_and_the_smallest_is_preferred() -> None:
    nodes = [
        gpu_node("nvidia.com/gpu", "NVIDIA-H100-80GB-HBM3"),
        gpu_node("nvidia.com/gpu", "NVIDIA-L4"),
        gpu_node("nvidia.com/gpu", "NVIDIA-A100-SXM4-80GB"),  # older than an L4
        gpu_node("nvidia.com/gpu", "Tesla-T4"),
        gpu_node("nvidia.com/gpu", "Unheard-Of"),
        gpu_node("nvidia.com/gpu"),
    ]
    pod = pod_on(*nodes, contextTokens=8192)
    planned, *others = required(pod)
    (preference,) = pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preference["preference"]["matchExpressions"][0]["values"] == [planned]
    assert planned == "Tesla-T4", "8 B at 4 bits fits 15 GiB"
    assert others == ["NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"]


def test_nodes_with_too_few_gpus_do_not_take_a_plan_for_more() -> None:
    nodes = (gpu_node("nvidia.com/gpu", "NVIDIA-L4", count=2), gpu_node("nvidia.com/gpu", "NVIDIA-L40S", count=1))
    pod = pod_on(*nodes, accelerator={"count": 2})
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert required(pod) == ["NVIDIA-L4"]


def test_the_memory_label_wins_over_the_catalogue() -> None:
    spec = LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}})
    node = gpu_node("nvidia.com/gpu", "NVIDIA-L4", memory=5 << 30)
    (place, *_) = places(spec, (CPU_NODE, node), CONFIGURATION)
    assert place.machine.gpu is not None
    assert place.machine.gpu.memory_bytes == 5 << 30


def test_replicas_spread_over_nodes_and_may_start_as_long_as_planned() -> None:
    pod = pod_on(gpu_node("nvidia.com/gpu", "NVIDIA-L4"))
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    world = World(CONFIG)
    world.served()
    deployment = world.get("Deployment")["spec"]
    probe = deployment["template"]["spec"]["containers"][0]["startupProbe"]
    assert deployment["progressDeadlineSeconds"] > probe["failureThreshold"] * STARTUP_PERIOD


UNSEEN_NODES: list[Any] = [None, (), (CPU_NODE,), (gpu_node("nvidia.com/gpu", "Unheard-Of"),)]


@pytest.mark.parametrize("nodes", UNSEEN_NODES)
def test_a_memory_limit_counts_beside_an_accelerator_that_nobody_knows(nodes: Any) -> None:
    """However large the GPU is, some of it stays on the host; a GPU that is too small may always be a larger one."""
    world = World(CONFIGURATION, nodes).edit(accelerator={"count": 1}, resources={"limits": {"memory": "300Mi"}})
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Planned")["reason"] == "DoesNotFit"
    assert "Raise resources.limits.memory" in world.condition("Planned")["message"]
    assert world.of("ControllerRevision") == []
    world.edit(resources={"limits": {"memory": "2Gi"}}).pass_()
    assert world.condition("Planned")["status"] == "True"


def test_a_memory_limit_counts_where_a_known_accelerator_takes_only_a_part() -> None:
    node = gpu_node("nvidia.com/gpu", "NVIDIA-L4", memory=3 << 30)
    asked = {"accelerator": {"count": 1}}
    assert pod_on(node, **asked)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    world = World(CONFIGURATION, (node,)).edit(**asked, resources={"limits": {"memory": "1Gi"}})
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Planned")["reason"] == "DoesNotFit"


@pytest.mark.parametrize("amount", ["9Ei", "1e12", "-3", "250n", "1e-3", "7"])
def test_an_odd_number_of_accelerators_costs_nothing(amount: str) -> None:
    node = {
        "metadata": {"name": "n", "labels": {"nvidia.com/gpu.product": "NVIDIA-L4"}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": amount}},
    }
    (kind,) = node_kinds([node])
    assert pod_on(kind)["containers"][0]["name"] == "runtime"


VLLM_ONLY = RuntimeImage("runtime:vllm", (EngineType.VLLM,), (Device.NVIDIA,))


@pytest.mark.parametrize("images", [(CPU_IMAGE,), (CPU_IMAGE, VLLM_ONLY)], ids=["no image", "none with this engine"])
@pytest.mark.parametrize(
    "accelerator",
    [
        {"count": 1},
        {"resourceName": "nvidia.com/gpu"},
        {"resourceName": "nvidia.com/gpu", "count": 1},
        {"resourceName": "amd.com/gpu", "count": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("there", [False, True])
def test_a_gpu_that_no_image_can_use_is_a_missing_image_and_no_fault_of_the_model(
    images: tuple[RuntimeImage, ...], accelerator: dict[str, Any], there: bool
) -> None:
    """The format is fine, and a node may even have the GPU."""
    nodes = (CPU_NODE, gpu_node("nvidia.com/gpu", "NVIDIA-L4")) if there else (CPU_NODE,)
    world = World(OperatorConfig(images, "llm"), nodes).edit(accelerator=accelerator)
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Planned")["reason"] == "EngineNotInstalled"
    assert accelerator.get("resourceName", "nvidia.com/gpu") in world.condition("Planned")["message"]
    assert not world.of("Deployment")
    world.edit(accelerator={"count": 0}).pass_()  # a way out that is offered
    assert world.of("Deployment")


def test_a_gpu_that_only_another_engine_can_use_is_left_out_where_none_was_asked_for() -> None:
    nodes = (CPU_NODE, gpu_node("nvidia.com/gpu", "NVIDIA-L4"))
    world = World(OperatorConfig((CPU_IMAGE, VLLM_ONLY), "llm"), nodes)
    world.pass_()
    world.prepared().pass_()
    assert world.get("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] == "runtime:cpu"


LLAMA = dataclasses.replace(
    FACTS,
    format=ModelFormat.SAFETENSORS,
    architecture="LlamaForCausalLM",
    quantization=None,
    dtype="BF16",
    weight_bytes=16 << 30,
    files=("model.safetensors",),
)


@pytest.mark.parametrize("nodes", [None, (CPU_NODE,)], ids=["unknown nodes", "pool at zero"])
@pytest.mark.parametrize("engine", ["VLLM", "Auto"])
@pytest.mark.parametrize(
    ("args", "count"),
    [
        (["--tensor-parallel-size=4"], "4"),
        (["-tp", "4"], "4"),
        (["-tp=2", "-pp=2"], "4"),
        (["--pipeline-parallel-size", "2"], "2"),
        (["--data-parallel-size=2"], "2"),
    ],
    ids=str,
)
def test_parallel_sizes_among_the_arguments_ask_for_gpus_that_no_node_has_yet(
    nodes: Any, engine: str, args: list[str], count: str
) -> None:
    world = World(OperatorConfig((CPU_IMAGE, VLLM_ONLY), "llm"), nodes).edit(engine={"type": engine, "args": args})
    world.pass_()
    world.prepared(Prepared(LLAMA, "c0ffee", "/cache/models/hf/a--b/c0ffee")).pass_()
    assert world.condition("Planned")["reason"] == "FitUnknown", "the scheduler decides"
    (container,) = world.get("Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == count
    world.edit(accelerator={"count": 3}).pass_()
    assert f"for {count} GPUs, and accelerator.count is 3" in world.condition("Planned")["message"]


@pytest.mark.parametrize("args", [["--tensor-parallel-size=1"], ["--max-num-seqs=4"], ["--tensor-parallel-size=many"]])
def test_other_arguments_ask_for_none(args: list[str]) -> None:
    spec = LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}, "engine": {"args": args}})
    assert [place.resource for place in places(spec, (CPU_NODE,), CONFIGURATION)] == [""]


GIB = 1 << 30


def gpu_on(labels: dict[str, str], resource: str = "nvidia.com/gpu", **spec: Any) -> tuple[float, bool, bool]:
    """(GiB of one, whether that is all it has, whether a plan for it is sure) of the accelerators of a node."""
    node = {
        "metadata": {"name": "n", "labels": labels},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", resource: "1"}},
    }
    config = OperatorConfig(
        images=(CPU_IMAGE, IMAGE), operator_namespace="llm", gpu_memory=(("NVIDIA Foo", 24 * GIB), ("L4", 20 * GIB))
    )
    asked = LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}, **spec})
    place = next(place for place in places(asked, node_kinds([node]), config) if place.resource)
    gpu = place.machine.gpu
    assert gpu is not None
    return round(gpu.memory_bytes / GIB, 1), place.machine.exact, place.sure


@pytest.mark.parametrize(
    ("labels", "gib"),
    [
        ({"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4070-Laptop-GPU"}, 8.0),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"}, 4.8),
        ({"nvidia.com/gpu.product": "NVIDIA-Foo"}, 24.0),  # the installation's map
        ({"nvidia.com/gpu.product": "L4", "nvidia.com/gpu.memory": "23034"}, 20.0),  # wins over label and catalogue
        ({"nvidia.com/gpu.product": "Unheard-Of", "nvidia.com/gpu.memory": "10240"}, 10.0),
        ({"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}, 40.0),
        ({"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}, 79.6),
        (
            {
                "cloud.google.com/gke-accelerator": "nvidia-tesla-a100",
                "cloud.google.com/gke-gpu-partition-size": "1g.5gb",
            },
            4.8,
        ),
        ({"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "81920"}, 80.0),
        ({"karpenter.k8s.aws/instance-gpu-name": "a10g", "karpenter.k8s.aws/instance-gpu-memory": "24576"}, 22.5),
        ({"karpenter.k8s.aws/instance-gpu-name": "t4", "karpenter.k8s.aws/instance-gpu-memory": "16384"}, 14.8),
        ({"karpenter.azure.com/sku-gpu-name": "T4"}, 14.8),
    ],
)
def test_memory_is_what_the_installation_labels_and_names_say(labels: dict[str, str], gib: float) -> None:
    assert gpu_on(labels) == (gib, True, True)


def test_of_a_name_of_several_sizes_the_smallest_is_counted_on() -> None:
    """What fits it fits them all; what does not is tried."""
    assert gpu_on({"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-3060"}) == (8.0, False, True)


@pytest.mark.parametrize(
    ("product", "resource", "gigabytes"),
    [
        ("NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu", 3350),
        ("NVIDIA-H100-PCIe", "nvidia.com/gpu", 2039),
        ("NVIDIA-A100-SXM4-80GB", "nvidia.com/mig-1g.10gb", 254),
        ("nvidia foo", "nvidia.com/gpu", 900),  # the installation's map
        ("L4", "nvidia.com/gpu", 250),  # wins over the catalogue
        ("NVIDIA-GeForce-RTX-3060", "nvidia.com/gpu", 0),  # of several sizes, which are not alike
        ("NVIDIA-RTX-PRO-6000D", "nvidia.com/gpu", 0),  # its maker does not say
    ],
)
def test_how_fast_it_reads_its_memory(product: str, resource: str, gigabytes: int) -> None:
    config = OperatorConfig(
        images=(CPU_IMAGE, IMAGE),
        operator_namespace="llm",
        gpu_memory=(("NVIDIA-Foo", 24 * GIB),),
        gpu_bandwidth=(("NVIDIA-Foo", 900 * 10**9), ("L4", 250 * 10**9)),
    )
    node = {
        "metadata": {"labels": {"nvidia.com/gpu.product": product}},
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", resource: "1"}},
    }
    asked = LLMServiceSpec.model_validate({"model": {"uri": "hf://a/b"}, "accelerator": {"resourceName": resource}})
    place = next(place for place in places(asked, node_kinds([node]), config) if place.resource)
    assert place.machine.gpu and place.machine.gpu.bandwidth // 10**9 == gigabytes


def test_the_capability_of_a_gpu_that_nobody_knows_is_its_label() -> None:
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-Foo",
        "nvidia.com/gpu.compute.major": "7",
        "nvidia.com/gpu.compute.minor": "0",
    }
    (kind,) = node_kinds([{"metadata": {"labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}}])
    assert kind.gpu_capability == 70


def test_what_a_service_says_of_its_accelerators_wins() -> None:
    unheard = gpu_node("nvidia.com/gpu", "Unheard-Of")
    pod = pod_on(unheard, accelerator={"memory": "16Gi"})
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}, "no count had to be asked for"
    world = World(CONFIGURATION, (gpu_node("nvidia.com/gpu", "NVIDIA-H100-80GB-HBM3"),)).edit(
        accelerator={"count": 1, "memory": "2Gi"}, resources={"limits": {"memory": "300Mi"}}
    )
    world.pass_()
    world.prepared().pass_()
    assert world.condition("Planned")["reason"] == "DoesNotFit"
