"""Fixtures of the tests on a whole cluster: `pytest e2e/kubernetes`. `make cluster` first; E2E_PROVIDER as there.

They run against one installation of the operator that watches all namespaces; each test has a namespace of its own.
So they run beside one another (`-n 4 --dist loadscope`), but for those that are marked `alone`: `make e2e-tests`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # the package `cluster`

from harness import release
from harness.api import Api, Json
from harness.chat import Client
from harness.programs import PROVIDER, kubectl
from harness.service import Service

Once = Callable[[str, Callable[[], Json]], Json]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is marked e2e_kubernetes; what is marked node_level needs nodes that are ours."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e_kubernetes)
            if PROVIDER == "existing" and item.get_closest_marker("node_level"):
                item.add_marker(pytest.mark.skip(reason="touches nodes, which are not ours here"))


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The administrator's, of a cluster that answers."""
    from cluster.main import kubeconfig

    kubectl("get", "--raw", "/readyz")
    return kubeconfig(PROVIDER)


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[Api]:
    """The API server, as the administrator."""
    found = Api(kubeconfig)
    yield found
    found.http.close()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Does what is done to the cluster once, whichever of pytest's workers asks first; all get what that gave (JSON).

    They share the parent of their temporary folders. Without workers nobody else asks.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return lambda _, do: do()
    shared = tmp_path_factory.getbasetemp().parent

    def locked(name: str, do: Callable[[], Json]) -> Json:
        done = shared / f"{name}.json"
        with (shared / f"{name}.lock").open("w") as lock:
            flock(lock, LOCK_EX)
            if not done.exists():
                done.write_text(json.dumps(do()))
            found: Json = json.loads(done.read_text())
            return found

    return locked


@pytest.fixture(scope="session")
def images(kubeconfig: Path, once: Once, request: pytest.FixtureRequest) -> release.Images:
    """Our images as the cluster pulls them, built when they changed: the large one where a test is marked for it."""
    engines = any(item.get_closest_marker("every_engine") for item in request.session.items)
    return release.Images(**once("images", lambda: asdict(release.load_images(engines))))


@pytest.fixture(scope="session")
def values(images: release.Images) -> release.Values:
    """The chart's values for these images."""
    return release.values(images)


@pytest.fixture(scope="session")
def installed(api: Api, values: release.Values, once: Once) -> release.Values:
    """The operator, installed by helm; its values. It stays when the tests are done.

    With $E2E_INSTALLED the one that is there is taken as it is.
    """
    if os.environ.get("E2E_INSTALLED"):
        return release.installed()

    def install() -> release.Values:
        if api.find("namespaces", "", release.LAUNCHED) is None:
            api.create("namespaces", "", {"metadata": {"name": release.LAUNCHED}})
        release.install(values)
        return values

    return once("installed", install)


@pytest.fixture
def make_namespace(api: Api, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes namespaces that go when the test is done."""
    made: list[str] = []

    def make() -> str:
        words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
        name = f"{words[:40].strip('-')}-{uuid.uuid4().hex[:6]}"
        api.create("namespaces", "", {"metadata": {"name": name}})
        made.append(name)
        return name

    yield make
    for name in made:
        api.delete("namespaces", "", name)


@pytest.fixture
def namespace(make_namespace: Callable[[], str]) -> str:
    """A namespace of the test's own."""
    return make_namespace()


@pytest.fixture
def service(installed: release.Values, api: Api, namespace: str) -> Service:
    """The LLMService `demo` of the test's namespace, not created yet, with the operator there."""
    return Service(api, namespace)


@pytest.fixture
def client(api: Api, namespace: str, images: release.Images) -> Client:
    """A pod with openai-python in the test's namespace."""
    return Client(api, namespace, images.client)
