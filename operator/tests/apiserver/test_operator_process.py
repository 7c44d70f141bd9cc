"""`llmservice-operator` as processes against the real API server: election, faults of the server, rights."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_controllers import Controllers  # type: ignore[import-not-found]
from live_world import edit, make  # type: ignore[import-not-found]
from process import Operator, operator  # type: ignore[import-not-found]

from llmservice_api.crd import custom_resource_definition
from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import DEPLOYMENT, LEASE, LLM_SERVICE, POD, SERVICE_ACCOUNT, Json, Kind
from llmservice_kube.login import Access, login
from llmservice_operator.demand.replicas import COST
from llmservice_operator.facts.live import condition, holds

ROOT = Path(__file__).resolve().parents[3]
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
ROLE = Kind("rbac.authorization.k8s.io", "v1", "Role", "roles")
LEASE_NAME = "llmservice-operator"
IMAGES = 'images: [{image: "runtime:1", engines: [LlamaCpp]}]\n'
PATIENCE = 90.0


async def until(found: Callable[[], Any]) -> Any:
    """Ask until there is an answer."""
    async with asyncio.timeout(PATIENCE):
        while not (answer := await found()):  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.1)
    return answer


async def ready(client: Client, key: tuple[str, str]) -> bool:
    live = await client.get(LLM_SERVICE, *key)
    return live is not None and holds(live, "Ready")


async def holder(client: Client, namespace: str) -> str:
    lease = await client.get(LEASE, namespace, LEASE_NAME)
    return str(lease["spec"].get("holderIdentity", "")) if lease else ""


def installation(*namespaces: str, nodes: bool = False) -> str:
    return f"{IMAGES}namespaces: {list(namespaces)}\nreadNodes: {str(nodes).lower()}\n"


@pytest.fixture
async def controllers(access: Access) -> AsyncIterator[Controllers]:
    async with Controllers(access).running() as found:
        yield found


async def test_two_replicas_one_leader_and_the_other_takes_over(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str, controllers: Controllers
) -> None:
    key = await make(client, namespace)
    there, here = f"--namespace={namespace}", installation(namespace)
    async with (
        operator(kubeconfig, tmp_path, there, name="a", installation=here, environment={"POD_NAME": "a"}) as a,
        operator(kubeconfig, tmp_path, there, name="b", installation=here, environment={"POD_NAME": "b"}) as b,
    ):
        await until(lambda: ready(client, key))
        first = (await holder(client, namespace)).partition("_")[0]
        leader, standby = (a, b) if first == "a" else (b, a)
        assert await leader.until("/readyz", "leading")
        assert await standby.until("/readyz", "standing by")
        assert [(await one.get("/readyz"))[0] for one in (a, b)] == [200, 200]
        assert [(await one.metrics())["llmservice_operator_leader"] for one in (leader, standby)] == [1, 0]
        os.kill(leader.process.pid, signal.SIGKILL)
        await edit(client, key, replicas=2)
        await standby.until("/readyz", "leading", PATIENCE)
        await until(lambda: replicas(client, key, 2))


async def replicas(client: Client, key: tuple[str, str], wanted: int) -> bool:
    live = await client.get(DEPLOYMENT, *key)
    return live is not None and live["spec"]["replicas"] == wanted


async def test_a_leader_that_is_told_to_stop_gives_the_lease_back_and_one_that_lost_it_ends(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str
) -> None:
    there, here = f"--namespace={namespace}", installation(namespace)
    async with operator(kubeconfig, tmp_path, there, name="a", installation=here) as first:
        await first.until("/readyz", "leading")
        first.process.send_signal(signal.SIGTERM)
        assert await first.ended() == 0
        assert await holder(client, namespace) == ""
    async with operator(kubeconfig, tmp_path, there, name="b", installation=here) as second:
        await second.until("/readyz", "leading", 10)  # at once: nothing to wait for
        lease = await client.get(LEASE, namespace, LEASE_NAME)
        assert lease is not None
        lease["spec"]["holderIdentity"] = "thief"
        while await client.replace(lease) is None:
            lease = await client.get(LEASE, namespace, LEASE_NAME)
            assert lease is not None
            lease["spec"]["holderIdentity"] = "thief"
        assert await second.ended(40) == 1
        assert await holder(client, namespace) == "thief"


async def test_another_release_in_the_same_namespace_says_that_it_only_stands_by(
    kubeconfig: Path, tmp_path: Path, namespace: str
) -> None:
    there, here = f"--namespace={namespace}", installation(namespace)
    async with operator(kubeconfig, tmp_path, there, name="a", installation=f"name: a\n{here}") as first:
        await first.until("/readyz", "leading")
        async with operator(kubeconfig, tmp_path, there, name="b", installation=f"name: b\n{here}") as second:
            await second.until("/readyz", "lease: the release a leads in this namespace")
            first.process.send_signal(signal.SIGTERM)
            await second.until("/readyz", "leading")


@contextmanager
def own_server(folder: Path) -> Iterator[Path]:
    """An API server of this test's own, to be mistreated."""
    from cluster.api import api_only

    with api_only(folder / "server") as kubeconfig:
        yield kubeconfig


async def test_a_missing_crd_and_a_server_that_goes_away_are_told_and_survived(tmp_path: Path) -> None:
    from cluster.layout import State
    from cluster.processes import pid_of, start, stop

    with own_server(tmp_path) as kubeconfig:
        access = await login(str(kubeconfig))
        async with Client(access) as client, operator(kubeconfig, tmp_path, "--namespace=default") as process:
            said = await process.until("/readyz", "Install the CRD")
            assert "api: list /apis/llmservice.dev" in said
            assert (await process.get("/readyz"))[0] == 503
            assert (await process.get("/livez"))[0] == 200
            await client.send("create", CRD, CRD.path(), body=custom_resource_definition())
            await process.until("/readyz", "leading")
            async with Controllers(access).running():
                key = await make(client, "default")
                await until(lambda: ready(client, key))
            state = State(tmp_path / "server")
            command = command_line(pid_of(state, "apiserver"))
            stop(state, "apiserver")
            await process.until("/readyz", "watch:", PATIENCE)
            assert (await process.get("/livez"))[0] == 200
            start(state, "apiserver", command)
            await until(lambda: answers(client))
            await edit(client, key, replicas=3)
            if not await until(lambda: replicas_or_end(client, key, 3, process)):
                async with operator(kubeconfig, tmp_path, "--namespace=default", name="begun again"):
                    await until(lambda: replicas(client, key, 3))


async def replicas_or_end(client: Client, key: tuple[str, str], wanted: int, process: Operator) -> bool | None:
    """Whether the replicas came; None = not yet.

    False = the server was away for longer than a Lease is kept: the process has ended, and says so.
    """
    if process.process.poll() is None:
        return await replicas(client, key, wanted) or None
    log = process.log.read_text()
    assert process.process.returncode == 1 and "is no longer ours; ending" in log, log
    return False


def command_line(pid: int | None) -> list[str]:
    return [part.decode() for part in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]]


async def answers(client: Client) -> bool:
    try:
        await client.list(NAMESPACE)
    except ApiError:
        return False
    return True


COMPONENT = "app.kubernetes.io/component"
"""A label of what the chart brings beside the operator."""


def chart(tmp_path: Path, namespace: str, *values: str) -> list[Json]:
    """What Helm would install of the operator besides the CRD, as objects: nothing of the gateway."""
    from cluster import programs

    helm = shutil.which("helm") or programs.build(programs.HELM)
    settings = [part for value in values for part in ("--set", value)]
    command = [
        helm,
        "template",
        "llm",
        ROOT / "charts/llmservice",
        f"--namespace={namespace}",
        "--kube-version=1.34.0",
        *settings,
    ]
    text = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    documents = [document for document in yaml.safe_load_all(text) if document]
    return [d for d in documents if COMPONENT not in d["metadata"].get("labels", {})]


async def install_rights(client: Client, documents: list[Json]) -> str:
    """The chart's account and roles, nothing else; the account's name."""
    plurals = {"Role": "roles", "RoleBinding": "rolebindings", "ClusterRole": "clusterroles"}
    account = ""
    for document in documents:
        metadata = document["metadata"]
        if document["kind"] == "ServiceAccount":
            account = metadata["name"]
            await client.create(document)
        elif plural := (plurals | {"ClusterRoleBinding": "clusterrolebindings"}).get(document["kind"]):
            kind = Kind(ROLE.group, "v1", document["kind"], plural, namespaced=not plural.startswith("cluster"))
            await client.send("create", kind, kind.path(metadata.get("namespace")), body=document)
    return account


async def kubeconfig_of(client: Client, kubeconfig: Path, folder: Path, namespace: str, account: str) -> Path:
    """A kubeconfig with a token of the account and nothing of the administrator."""
    path = SERVICE_ACCOUNT.path(namespace, account, "token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    answer = await client.send("create", SERVICE_ACCOUNT, path, body=request)
    content = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240 - a small local file
    content["users"] = [{"name": content["users"][0]["name"], "user": {"token": answer["status"]["token"]}}]
    file = folder / "operator.kubeconfig"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize("everywhere", [True, False], ids=["cluster", "namespaces"])
async def test_the_charts_rights_are_enough_for_a_whole_life(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str, controllers: Controllers, everywhere: bool
) -> None:
    home = f"{namespace}-home"
    body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}}
    await client.send("create", NAMESPACE, NAMESPACE.path(), body=body)
    values = [] if everywhere else [f"watchNamespaces={{{namespace}}}", "readNodes=false"]
    documents = chart(tmp_path, home, *values)
    account = await install_rights(client, documents)
    limited = await kubeconfig_of(client, kubeconfig, tmp_path, home, account)
    here = f"{installation(*([] if everywhere else [namespace]), nodes=everywhere)}gateway: {{service: gateway}}\n"
    if not everywhere:
        assert not [document for document in documents if document["kind"].startswith("Cluster")]
    key = await make(client, namespace)
    async with operator(limited, tmp_path, f"--namespace={home}", installation=here) as process:
        await until(lambda: ready(client, key))
        await edit(client, key, replicas=2, contextTokens=2048)
        await until(lambda: replicas(client, key, 2))
        await edit(client, key, scaling={"minReplicas": 3, "maxReplicas": 3})
        await until(lambda: replicas(client, key, 3))
        await edit(client, key, scaling={"minReplicas": 1, "maxReplicas": 2})
        await until(lambda: replicas(client, key, 2))
        pods = (await client.list(POD, namespace)).items
        assert [pod for pod in pods if COST in pod["metadata"].get("annotations", {})]
        await edit(client, key, model={"uri": "hf://c/d"})
        await until(lambda: model_of(client, key, "c/d"))
        live = await client.get(LLM_SERVICE, *key)
        assert live is not None
        await client.delete(LLM_SERVICE, key[0], key[1], live["metadata"]["uid"])
        assert (await process.get("/readyz"))[0] == 200
    log = process.log.read_text()
    assert "Forbidden" not in log
    assert not re.search(r"(?<!\d,)\b403\b", log)  # a status: a time stamp's milliseconds stand after a comma


async def model_of(client: Client, key: tuple[str, str], text: str) -> bool:
    live = await client.get(DEPLOYMENT, *key)
    return live is not None and text in str(live["spec"]["template"]) and await ready(client, key)


async def test_a_right_that_is_missing_is_told_and_mended_without_a_restart(
    kubeconfig: Path, tmp_path: Path, client: Client, namespace: str, controllers: Controllers
) -> None:
    documents = chart(tmp_path, namespace, f"watchNamespaces={{{namespace}}}", "readNodes=false")
    role = next(d for d in documents if d["kind"] == "Role" and not d["metadata"]["name"].endswith("-lease"))
    whole = [dict(rule) for rule in role["rules"]]
    role["rules"] = [rule for rule in whole if rule["resources"] != ["poddisruptionbudgets"]]
    account = await install_rights(client, documents)
    limited = await kubeconfig_of(client, kubeconfig, tmp_path, namespace, account)
    key = await make(client, namespace)
    async with operator(limited, tmp_path, f"--namespace={namespace}", installation=installation(namespace)) as process:
        said = await process.until("/readyz", "relist:")
        assert "poddisruptionbudgets" in said
        assert (await process.get("/livez"))[0] == 200
        path = ROLE.path(namespace, role["metadata"]["name"])
        await client.send("patch", ROLE, path, {"fieldManager": "admin"}, {"rules": whole})
        await until(lambda: ready(client, key))
        await process.until("/readyz", "leading", PATIENCE)
    assert "poddisruptionbudgets" in process.log.read_text()


WILD: list[Any] = [
    {},
    {"model": None},
    {"model": {"uri": 5}},
    {"model": {"uri": "hf://a/b"}, "replicas": 2**31 - 1},
    {"model": {"uri": "hf://a/b"}, "engine": {"type": "FromTheFuture", "args": {"a": [1]}}},
    {"model": {"uri": "hf://a/b"}, "contextTokens": -1, "removedLongAgo": {"x": "y" * 100_000}},
    {"model": {"uri": "\u0000\ud7ff\U0001f600"}, "podTemplate": [], "cache": "none"},
]
"""Specs that an older or a laxer CRD let in."""


async def test_what_an_older_crd_let_in_is_refused_once_and_stops_no_other(tmp_path: Path) -> None:
    crd = custom_resource_definition()
    version = crd["spec"]["versions"][0]
    loose = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version["schema"] = {"openAPIV3Schema": loose}
    with own_server(tmp_path) as kubeconfig:
        access = await login(str(kubeconfig))
        async with Client(access) as client, operator(kubeconfig, tmp_path, "--namespace=default") as process:
            await client.send("create", CRD, CRD.path(), body=crd)
            await process.until("/readyz", "leading")
            for number, spec in enumerate(WILD):
                metadata = {"name": f"wild-{number}", "namespace": "default"}
                await client.create(
                    {
                        "apiVersion": LLM_SERVICE.api_version,
                        "kind": LLM_SERVICE.kind,
                        "metadata": metadata,
                        "spec": spec,
                    }
                )
            async with Controllers(access).running():
                key = await make(client, "default", replicas=1)
                await until(lambda: ready(client, key))
            for number in range(len(WILD)):
                await until(partial(refused, client, ("default", f"wild-{number}")))
            await asyncio.sleep(2)
            before = await done(process)
            await asyncio.sleep(10)
            assert await done(process) == before
            await edit(client, ("default", "wild-2"), model={"uri": "hf://a/b"}, replicas=1)
            await until(lambda: client.get(DEPLOYMENT, "default", "qwen"))
            await until(lambda: valid(client, ("default", "wild-2")))
        assert "bug" not in process.log.read_text()


async def done(process: Operator) -> dict[str, float]:
    """What it did but for looking: nodes are listed every now and then, and everything once kopf has."""
    return {name: value for name, value in (await process.metrics()).items() if 'verb="list"' not in name}


async def refused(client: Client, key: tuple[str, str]) -> bool:
    live = await client.get(LLM_SERVICE, *key)
    found = condition(live or {}, "SpecValid")
    return found is not None and found["status"] == "False"


async def valid(client: Client, key: tuple[str, str]) -> bool:
    live = await client.get(LLM_SERVICE, *key)
    return live is not None and holds(live, "SpecValid")
