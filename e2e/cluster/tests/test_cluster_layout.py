"""Where clusters stand: their folders and addresses."""

from __future__ import annotations

import ipaddress
import runpy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from cluster import layout
from llmservice_cli.places import Places
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.install.wheel import default_wheel_cache


def instance(number: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The module as it is for $E2E_INSTANCE."""
    monkeypatch.setenv("E2E_INSTANCE", number)
    return runpy.run_path(str(layout.__file__))


def test_ten_clusters_share_no_address_and_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [instance(str(number), monkeypatch) for number in range(10)]
    names = ("NODE_NETWORK", "POD_NETWORK", "SERVICE_NETWORK")
    networks = [ipaddress.ip_network(one[name]) for one in found for name in names]
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))
    for name in ("BRIDGE", "CGROUP", "NAME", "REGISTRY"):
        assert len({one[name] for one in found}) == 10
    assert len({one["STATE"].root for one in found}) == 10


def test_a_cluster_is_inside_its_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("", "3"):
        one = instance(number, monkeypatch)
        assert ipaddress.ip_address(one["HOST_IP"]) in ipaddress.ip_network(one["NODE_NETWORK"])
        for address in (one["FIRST_SERVICE_IP"], one["DNS_IP"]):
            assert ipaddress.ip_address(address) in ipaddress.ip_network(one["SERVICE_NETWORK"])


@pytest.mark.parametrize("text", ["10", "-1", "x", "0123"])
def test_a_wrong_instance_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="E2E_INSTANCE"):
        layout.instance_number(text)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLMSERVICE_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert layout.cache() == tmp_path / "llmservice" / "cluster"
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "own"))
    assert layout.cache() == tmp_path / "own" / "cluster"


@pytest.mark.parametrize(
    "variables", [{"LLMSERVICE_CACHE_DIR": "~/own", "XDG_CACHE_HOME": "/x"}, {"XDG_CACHE_HOME": "/x"}, {}]
)
def test_every_part_of_the_project_keeps_its_things_in_the_one_cache(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LLMSERVICE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/somebody", **variables}.items():
        monkeypatch.setenv(name, value)
    demo = runpy.run_path(str(layout.REPOSITORY / "runtime" / "demo" / "make_gguf.py"))["default_folder"]()
    places = {cache_dir(), Places.from_environment().cache, layout.cache().parent, default_wheel_cache().parent}
    assert places == {demo.parents[1]}


def test_a_cached_thing_is_named_by_all_that_it_is_made_from(tmp_path: Path) -> None:
    file = tmp_path / "go.sum"
    file.write_text("one")
    assert layout.digest_of(file) == layout.digest_of("one")
    assert layout.digest_of("ab", "c") != layout.digest_of("a", "bc")
    before = layout.digest_of("kube", file)
    file.write_text("two")
    assert layout.digest_of("kube", file) != before
