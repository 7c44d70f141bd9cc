"""The operator's installation: our chart with the images that the cluster can pull."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from typing import Any

from harness.api import Api
from harness.programs import CLUSTER, PROVIDER, ROOT, helm, kubectl, run

NAME = "llmservice"
NAMESPACE = "llmservice-system"
CHART = ROOT / "charts" / "llmservice"
NODE_MODELS = "/opt/local-path-provisioner/e2e-models"
"""A directory that a test makes on every node; nodes of the bare provider each have their own below that place."""
NODE_MISSING = "/opt/local-path-provisioner/e2e-missing"
"""One that is lent as well, and on no node."""
NODE_SMALL = "/opt/local-path-provisioner/e2e-small"
"""One that is lent as well, where a test mounts a small disk."""
LAUNCHED = "e2e-launched"
"""The one namespace in which clients may launch models. It is there before the release, which has rights in it."""
LAUNCHED_CACHE = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "64Mi"}}
"""What is pulled there is brought into a claim of its own."""
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Images:
    """References that pods use, by digest where there is a registry."""

    operator: str
    runtime: str
    client: str
    engines: str = ""
    """The runtime with every engine; empty where no test asks for it: building it takes minutes and some 20 GB."""


def load_images(engines: bool) -> Images:
    """Build what changed and hand it to the cluster. On a cluster of this machine llama.cpp is built for its CPU.

    `engines`: the image with all of them too. $E2E_IMAGES = `operator=REF runtime=REF client=REF engines=REF` names
    images that are there; with $E2E_INSTALLED they are those of the operator that is installed: nothing is built.
    """
    if given := os.environ.get("E2E_IMAGES"):
        return Images(**dict(word.split("=", 1) for word in given.split()))
    if os.environ.get("E2E_INSTALLED"):
        return _images(installed())
    native = [] if PROVIDER == "existing" else ["--native"]
    keys = ("operator", "runtime", "client", *(["engines"] if engines else []))
    printed = run(str(CLUSTER), "load-images", *native, *keys, seconds=3600)
    return Images(**dict(zip(keys, printed.split()[-len(keys) :], strict=True)))


def values(images: Images) -> Values:
    """The chart's values for these images."""
    name, _, digest = images.operator.partition("@")
    repository, _, tag = name.rpartition(":")
    runtime = [{"image": images.runtime, "engines": ["LlamaCpp"], "devices": ["CPU", "NVIDIA"]}]
    if images.engines:
        every = ["LlamaCpp", "VLLM", "Transformers"]
        runtime.append({"image": images.engines, "engines": every, "devices": ["CPU"]})
    return {
        "image": {"repository": repository, "tag": tag, "digest": digest},
        "runtime": {"images": runtime, "privateSources": True, "hostPaths": [NODE_MODELS, NODE_MISSING, NODE_SMALL]},
        "gateway": {"launch": {"namespaces": [LAUNCHED], "sources": ["http"], "cache": LAUNCHED_CACHE}},
    }


def installed() -> Values:
    """The values that the operator was installed with."""
    found: Values = json.loads(helm("get", "values", NAME, "--namespace", NAMESPACE, "--output", "json"))
    return found


def _images(found: Values) -> Images:
    image = found["image"]
    operator = f"{image['repository']}:{image['tag']}@{image['digest']}"
    client = f"{image['repository'].rpartition('/')[0]}/llmservice-e2e-client:dev"
    runtime, *more = (one["image"] for one in found["runtime"]["images"])
    return Images(operator, runtime, client, *more[:1])


def first_key(api: Api) -> str:
    """The key of the gateway that the operator made; `none` where there is none."""
    found = api.find("secrets", NAMESPACE, f"{NAME}-gateway-first-key")
    return base64.b64decode(found["data"]["key"]).decode() if found else "none"


def install(found: Values) -> None:
    """`helm upgrade --install` with these values alone, until both replicas of the operator are ready."""
    words = ("--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s", "--values", "-")
    helm("upgrade", "--install", NAME, CHART, *words, stdin=json.dumps(found))


def uninstall() -> None:
    """`helm uninstall`, until the operator's pods are gone."""
    helm("uninstall", NAME, "--namespace", NAMESPACE, "--wait")


def restart() -> None:
    """Replace the operator's pods one by one, and wait until that is done."""
    kubectl("--namespace", NAMESPACE, "rollout", "restart", f"deployment/{NAME}")
    kubectl("--namespace", NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=120s")
