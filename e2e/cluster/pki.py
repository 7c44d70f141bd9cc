"""Certificates of a cluster by openssl, and the kubeconfig files that use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.console import run

DAYS = "365"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate to make: file name, subject, and the names and addresses it answers for."""

    name: str
    subject: str
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


ADMIN = Identity("admin", "/O=system:masters/CN=admin")
KUBELET_CLIENT = Identity("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
CONTROLLERS = Identity("controllers", "/CN=system:kube-controller-manager")
SCHEDULER = Identity("scheduler", "/CN=system:kube-scheduler")
PROXY = Identity("proxy", "/CN=system:kube-proxy")
FRONT = "front-proxy"
FRONT_PROXY = Identity("front-proxy-client", "/CN=front-proxy-client")
"""As whom, and by whose authority, the API server passes requests on to APIs that others serve."""


def api_server(*addresses: str) -> Identity:
    """The API server's certificate, by every name a pod or a person calls it."""
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    return Identity("apiserver", "/CN=kube-apiserver", names, ("127.0.0.1", *addresses))


def node(name: str, address: str) -> Identity:
    """What a kubelet is to the API server, and serves logs and exec with."""
    return Identity(name, f"/O=system:nodes/CN=system:node:{name}", (name,), (address,))


def authority(folder: Path, name: str = "ca") -> None:
    """A certificate authority, and with it the key that signs service account tokens. Kept when it is there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    if not certificate.exists():
        subject = f"/CN=llmservice-{name}"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
            "-days", DAYS, "-subj", subject)  # fmt: skip
    if not (folder / "sa.pub").exists():
        run("openssl", "genrsa", "-out", folder / "sa.key", "2048")
        run("openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub")


def issue(folder: Path, who: Identity, authority_name: str = "ca") -> None:
    """A key and a certificate signed by the authority. Kept when it is there."""
    certificate = folder / f"{who.name}.crt"
    if certificate.exists():
        return
    key, request, extensions = (folder / f"{who.name}.{suffix}" for suffix in ("key", "csr", "ext"))
    names = [*(f"DNS:{n}" for n in who.names or (who.name,)), *(f"IP:{a}" for a in who.addresses)]
    extensions.write_text(f"subjectAltName={','.join(names)}\nextendedKeyUsage=clientAuth,serverAuth\n")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", who.subject)
    run("openssl", "x509", "-req", "-in", request, "-CA", folder / f"{authority_name}.crt", "-CAkey",
        folder / f"{authority_name}.key", "-CAcreateserial", "-out", certificate, "-days", DAYS,
        "-extfile", extensions)  # fmt: skip
    request.unlink()
    extensions.unlink()


def kubeconfig(folder: Path, who: Identity, server: str) -> Path:
    """A kubeconfig (JSON is YAML) for one identity; it names its files, so it works where they lie."""
    path = folder / f"{who.name}.kubeconfig"
    cluster = {"server": server, "certificate-authority": str(folder / "ca.crt")}
    user = {"client-certificate": str(folder / f"{who.name}.crt"), "client-key": str(folder / f"{who.name}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "llms", "cluster": cluster}],
        "users": [{"name": who.name, "user": user}],
        "contexts": [{"name": "llms", "context": {"cluster": "llms", "user": who.name}}],
        "current-context": "llms",
    }
    path.write_text(json.dumps(config, indent=2) + "\n")
    path.chmod(0o600)
    return path
