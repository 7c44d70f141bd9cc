"""Certificates, by the openssl that makes them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cluster import pki


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("certificates") / "pki"
    pki.authority(found)
    for who in (pki.ADMIN, pki.api_server("10.99.0.1", "10.96.0.1"), pki.node("node1", "10.99.0.11")):
        pki.issue(found, who)
    return found


def openssl(*words: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=True).stdout


def shown(folder: Path, name: str) -> str:
    return openssl("x509", "-in", folder / f"{name}.crt", "-noout", "-subject", "-ext", "subjectAltName")


@pytest.mark.parametrize("name", ["admin", "apiserver", "node1"])
def test_each_is_signed_by_the_authority_and_matches_its_key(folder: Path, name: str) -> None:
    assert "OK" in openssl("verify", "-CAfile", folder / "ca.crt", folder / f"{name}.crt")
    of_certificate = openssl("x509", "-in", folder / f"{name}.crt", "-noout", "-pubkey")
    assert openssl("pkey", "-in", folder / f"{name}.key", "-pubout") == of_certificate


def test_the_api_server_answers_for_what_it_is_called(folder: Path) -> None:
    text = shown(folder, "apiserver")
    for name in ("DNS:kubernetes.default.svc", "DNS:localhost", "127.0.0.1", "10.99.0.1", "10.96.0.1"):
        assert name in text


def test_a_kubelet_is_its_node_to_the_api_server(folder: Path) -> None:
    text = shown(folder, "node1")
    assert "O = system:nodes, CN = system:node:node1" in text
    assert "10.99.0.11" in text


def test_what_is_there_is_kept(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    pki.authority(folder)
    pki.issue(folder, pki.ADMIN)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_kubeconfig_names_its_own_files_and_only_its_owner_reads_it(folder: Path) -> None:
    path = pki.kubeconfig(folder, pki.ADMIN, "https://10.99.0.1:6443")
    config = json.loads(path.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://10.99.0.1:6443"
    user = config["users"][0]["user"]
    assert Path(user["client-certificate"]).exists()
    assert Path(user["client-key"]).exists()
    assert path.stat().st_mode & 0o077 == 0
