"""In a cluster with IPv6 alone the API server's address, as pods are given it, is an IPv6 literal."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmservice_kube.client import Client
from llmservice_kube.kinds import SERVICE
from llmservice_kube.login import login

LOOPBACK = "::1"
INCLUSTER = "kubernetes.aio.config.incluster_config"


def certificate(folder: Path) -> Path:
    """Of a server that answers for ::1, as a control plane's own certificates do for its Service's address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.datetime.now(datetime.UTC)
    found = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(LOOPBACK))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(found.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return folder / "ca.crt"


@asynccontextmanager
async def api_server(folder: Path, asked: list[str]) -> AsyncIterator[int]:
    async def handle(request: web.Request) -> web.Response:
        asked.append(request.headers["Host"])
        assert request.headers["Authorization"].lower() == "bearer secret"
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder), folder / "key.pem")
    app = web.Application()
    app.router.add_get("/api/v1/services", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")
async def test_a_pod_logs_in_to_an_address_in_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    async with api_server(tmp_path, asked) as port:
        (tmp_path / "token").write_text("secret")
        monkeypatch.delenv("KUBECONFIG", raising=False)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", LOOPBACK)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
        monkeypatch.setattr(f"{INCLUSTER}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr(f"{INCLUSTER}.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
        access = await login()
        assert access.server == f"https://[::1]:{port}"
        assert (await access.for_kopf()).server == access.server
        async with Client(access) as client:
            assert (await client.list(SERVICE)).items == []
        assert asked == [f"[::1]:{port}"]
