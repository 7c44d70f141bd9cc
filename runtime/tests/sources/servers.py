"""Local servers that speak the hubs' protocols, with faults to order."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Close the connection after this many bytes of the body."""


Handler = Callable[[Request], Reply]


@dataclass
class Server:
    """`faults[path]` replies are used up before the routes answer."""

    url: str
    port: int
    handler: Handler = lambda request: Reply(404)
    faults: dict[str, list[Reply | Callable[[Reply], Reply]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    before: Callable[[Request], None] = lambda request: None

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        self.before(request)
        queue = self.faults.get(request.path)
        if not queue:
            return self.handler(request)
        fault = queue.pop(0)
        return fault if isinstance(fault, Reply) else fault(self.handler(request))

    def ranges(self, path: str) -> list[str | None]:
        return [r.headers.get("range") for r in self.requests if r.path == path and r.method == "GET"]


def start(tls: ssl.SSLContext | None = None) -> tuple[Server, ThreadingHTTPServer]:
    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = urlsplit(self.path)
            headers = {k.lower(): v for k, v in self.headers.items()}
            request = Request(self.command, unquote(parts.path), parse_qs(parts.query), headers)
            reply = server.answer(request)
            self.send_response(reply.status)
            sent = {"Content-Length": str(len(reply.body)), **reply.headers}
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if reply.cut_after is None:
                self.wfile.write(reply.body)
            else:
                self.wfile.write(reply.body[: reply.cut_after])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_HEAD = do_POST = serve

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None: ...

    listener = Quiet(("127.0.0.1", 0), Connection)
    if tls is not None:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    port = listener.server_address[1]
    server = Server(f"{'https' if tls else 'http'}://127.0.0.1:{port}", port)
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server, listener


def file_reply(request: Request, data: bytes, headers: dict[str, str] | None = None, ranges: bool = True) -> Reply:
    """A static file as web servers give it."""
    headers = dict(headers or {})
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")) if ranges else None
    if match is None:
        return Reply(200, data, headers)
    first = int(match[1])
    if first >= len(data):
        return Reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    last = min(int(match[2]) if match[2] else len(data) - 1, len(data) - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Reply(206, data[first : last + 1], headers)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes without a pattern, the same every time."""
    return b"".join(hashlib.sha256(f"{seed}:{i}".encode()).digest() for i in range(size // 32 + 1))[:size]


def hf_hub(
    files: dict[str, bytes],
    repository: str = "acme/tiny",
    commit: str = COMMIT,
    token: str | None = None,
    cdn: str = "",
) -> Handler:
    """The Hugging Face hub's API for one repository; files over 1000 bytes are LFS and redirect to a CDN path."""

    def handle(request: Request) -> Reply:
        if request.path.startswith("/cdn/"):
            if "authorization" in request.headers and cdn:
                return Reply(400, b"two kinds of authorization")
            return file_reply(request, files[request.path.removeprefix("/cdn/")])
        if token and request.headers.get("authorization") != f"Bearer {token}":
            return Reply(401, b"{}", {"X-Error-Code": "GatedRepo"})
        if request.path.startswith(f"/api/models/{repository}/revision/"):
            if request.path.rpartition("/")[2] not in ("main", commit):
                return Reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            siblings = [
                {"rfilename": n, "size": len(d), "blobId": "x"}
                | ({"lfs": {"size": len(d), "sha256": sha(d)}} if len(d) > 1000 else {})
                for n, d in files.items()
            ]
            return Reply(200, json.dumps({"sha": commit, "siblings": siblings}).encode())
        prefix = f"/{repository}/resolve/{commit}/"
        name = request.path.removeprefix(prefix)
        if not request.path.startswith(prefix) or name not in files:
            return Reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        data = files[name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{sha(data)}"', "X-Linked-Size": str(len(data))}
        if len(data) <= 1000:
            return file_reply(request, data, headers)
        return Reply(302, b"", headers | {"X-Linked-Etag": f'"{sha(data)}"', "Location": f"{cdn}/cdn/{name}"})

    return handle


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server context of an authority nobody knows, and its bundle."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "company CA")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    bundle, private = folder / "ca.pem", folder / "key.pem"
    bundle.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, private)
    return context, bundle
