"""s3:// against moto, modelscope:// and oci:// against servers that speak their protocols."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.download import fetch
from llmservice_runtime.sources.errors import Origin, SourceError
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.http import HttpClient
from llmservice_runtime.sources.oci_login import Login, is_this_machine
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.progress import Silent
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import Handler, Reply, Request, Server, file_reply, noise, sha

WEIGHTS = noise(700_000, 11)
FILES = {"config.json": b'{"a": 1}', "model.safetensors": WEIGHTS}
HEAD = "e" * 40
AWS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secretsecret"}
Make = Callable[..., Server]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str, request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Endpoint and a client; the bucket `models` holds a model under qwen/ and a decoy beside it."""
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="x", aws_secret_access_key="y", region_name="us-east-1"
    )
    client.create_bucket(Bucket="models")
    for name, data in FILES.items():
        client.put_object(Bucket="models", Key=f"qwen/{name}", Body=data)
    client.put_object(Bucket="models", Key="qwen2/decoy.json", Body=b"{}")
    request.addfinalizer(client.close)
    return moto, client


def s3(uri: str, settings: SourceSettings, endpoint: str, revision: str | None = None) -> Source:
    chosen = replace(settings, s3_endpoint=endpoint)
    return open_model(uri, revision, base=Path(), secrets=Secrets(environ=AWS), settings=chosen)


def test_s3_prefix_and_single_object(bucket: tuple[str, Any], settings: SourceSettings, tmp_path: Path) -> None:
    files = s3("s3://models/qwen", settings, bucket[0])
    assert [e.path for e in files.entries()] == sorted(FILES)
    assert files.read("model.safetensors", 100, 20) == WEIGHTS[100:120]
    folder = fetch(files, sorted(FILES), tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    single = s3("s3://models/qwen/config.json", settings, bucket[0])
    assert [(e.path, e.size) for e in single.entries()] == [("config.json", 8)]


def test_s3_resumes_a_partial_file(bucket: tuple[str, Any], settings: SourceSettings, tmp_path: Path) -> None:
    files = s3("s3://models/qwen", settings, bucket[0])
    scheme, name, revision = files.slot
    part = tmp_path / "cache/models" / scheme / name / f".{revision}.partial/model.safetensors.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 5 + WEIGHTS[5:1000])  # marked, to see that these bytes are not read again
    folder = fetch(files, ["model.safetensors"], tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == b"?" * 5 + WEIGHTS[5:]


def test_s3_replaced_object_and_pinned_digest(bucket: tuple[str, Any], settings: SourceSettings) -> None:
    endpoint, client = bucket
    plain = replace(settings, cache=None)
    files = s3("s3://models/qwen", plain, endpoint)
    assert s3("s3://models/qwen", plain, endpoint, files.revision).revision == files.revision
    client.put_object(Bucket="models", Key="qwen/model.safetensors", Body=WEIGHTS[::-1])
    with pytest.raises(SourceError, match="replaced"):
        files.read("model.safetensors", 0, 10)
    with pytest.raises(SourceError, match=r"spec\.model\.revision") as caught:
        s3("s3://models/qwen", plain, endpoint, files.revision)
    assert caught.value.failure is FailureClass.MODEL_CHANGED
    now = s3("s3://models/qwen", plain, endpoint).revision
    assert f"write {now} there" in caught.value.remedy
    assert s3("s3://models/qwen", plain, endpoint, now).revision == now


@pytest.mark.parametrize("uri", ["s3://models/nothing", "s3://no-such-bucket/x"])
def test_s3_missing(bucket: tuple[str, Any], settings: SourceSettings, uri: str) -> None:
    with pytest.raises(SourceError) as caught:
        s3(uri, settings, bucket[0])
    assert caught.value.failure is FailureClass.MODEL_NOT_FOUND
    assert "secretsecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("replies", "failure"),
    [
        ([Reply(403)] * 9, FailureClass.MODEL_GATED),
        ([Reply(503)] * 9, FailureClass.HUB_UNREACHABLE),
        ([Reply(200, b"<x", {}, cut_after=1)] * 9, FailureClass.HUB_UNREACHABLE),
    ],
)
def test_s3_troubles(make_server: Make, settings: SourceSettings, replies: list[Reply], failure: FailureClass) -> None:
    server = make_server()
    server.faults["/models"] = list(replies)
    with pytest.raises(SourceError) as caught:
        s3("s3://models/qwen", settings, server.url)
    assert caught.value.failure is failure


def test_s3_settings_that_boto_refuses(settings: SourceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="AWS_ENDPOINT_URL"):
        s3("s3://models/qwen", settings, "not a url")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SourceError, match="nobody"):
        s3("s3://models/qwen", settings, "http://127.0.0.1:9")


def modelscope_hub(token: str | None = None, commits: bool = True) -> Handler:
    def handle(request: Request) -> Reply:
        if token and request.headers.get("authorization") != f"Bearer {token}":
            return Reply(403, b'{"Code": 403, "Message": "denied"}')
        if request.path == "/api/v1/models/acme/tiny/repo/files":
            if request.query["Revision"][0] not in ("master", HEAD):
                return Reply(404, b'{"Code": 404}')
            files = [
                {
                    "Path": n,
                    "Name": n,
                    "Type": "blob",
                    "Size": len(d),
                    "Sha256": sha(d),
                    "Revision": c,
                    "CommittedDate": t,
                }
                for (n, d), (c, t) in zip(FILES.items(), [("a" * 40, 5), (HEAD, 9)], strict=True)
            ]
            if not commits:
                files = [{k: v for k, v in f.items() if k not in ("Revision", "CommittedDate")} for f in files]
            files.append({"Path": "sub", "Name": "sub", "Type": "tree", "Size": 0})
            return Reply(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": files}}).encode())
        if request.path == "/api/v1/models/acme/tiny/repo":
            assert request.query["Revision"] == [HEAD if commits else "master"]
            return file_reply(request, FILES[request.query["FilePath"][0]])
        return Reply(404, b'{"Code": 404}')

    return handle


def modelscope(server: Server, settings: SourceSettings, revision: str | None = None, token: str = "") -> Source:
    chosen = replace(settings, modelscope_endpoint=server.url)
    secrets = Secrets(environ={"MODELSCOPE_API_TOKEN": token})
    return open_model("modelscope://acme/tiny", revision, base=Path(), secrets=secrets, settings=chosen)


def test_modelscope_lists_reads_and_downloads(make_server: Make, settings: SourceSettings, tmp_path: Path) -> None:
    server = make_server(modelscope_hub(token="ms-1"))
    files = modelscope(server, settings, token="ms-1")
    assert files.revision == HEAD
    assert [e.path for e in files.entries()] == sorted(FILES)
    assert files.read("model.safetensors", 7, 9) == WEIGHTS[7:16]
    path = "/api/v1/models/acme/tiny/repo"
    server.faults[path] = [lambda reply: replace(reply, cut_after=400_000), Reply(503)]
    folder = fetch(files, ["model.safetensors"], tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    resumed = server.ranges(path)[-1]
    assert resumed is not None
    assert int(resumed.removeprefix("bytes=").rstrip("-")) >= 390_000


def test_modelscope_says_gated_and_missing(make_server: Make, settings: SourceSettings) -> None:
    with pytest.raises(SourceError, match="MODELSCOPE_API_TOKEN") as gated:
        modelscope(make_server(modelscope_hub(token="right")), settings, token="wrong-token")
    assert gated.value.failure is FailureClass.MODEL_GATED
    assert "wrong-token" not in str(gated.value)
    with pytest.raises(SourceError, match="no-such-branch") as missing:
        modelscope(make_server(modelscope_hub()), settings, "no-such-branch")
    assert missing.value.failure is FailureClass.MODEL_NOT_FOUND


def test_a_mirror_of_modelscope_without_commits_serves_what_was_planned_with_and_says_when_it_is_gone(
    make_server: Make, settings: SourceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revision is a digest of the listing then, which the hub itself does not know."""
    server, plain = make_server(modelscope_hub(commits=False)), replace(settings, cache=None)
    planned = modelscope(server, plain).revision
    assert modelscope(server, plain, planned).revision == planned
    assert modelscope(server, plain, planned).read("model.safetensors", 7, 9) == WEIGHTS[7:16]
    monkeypatch.setitem(FILES, "config.json", b'{"another": 1}')
    with pytest.raises(SourceError) as caught:
        modelscope(server, plain, planned)
    assert caught.value.failure is FailureClass.MODEL_NOT_FOUND
    assert modelscope(server, plain).revision != planned


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifest() -> bytes:
    layers = [
        {
            "mediaType": "application/octet-stream",
            "digest": digest_of(data),
            "size": len(data),
            "annotations": {"org.opencontainers.image.title": name},
        }
        for name, data in FILES.items()
    ]
    kind = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "layers": layers}).encode()


def registry(server: Server, scheme: str = "Bearer", content: bytes | None = None) -> Handler:
    """A registry that wants a token from its token server, or a password each time."""
    pair = "Basic " + base64.b64encode(b"me:pw").decode()
    body = manifest() if content is None else content

    def handle(request: Request) -> Reply:
        given = request.headers.get("authorization")
        if request.path == "/token":
            if given != pair:
                return Reply(401)
            return Reply(200, b'{"token": "t0k"}', {"Content-Type": "application/json"})
        if given != ("Bearer t0k" if scheme == "Bearer" else pair):
            realm = f'{scheme} realm="{server.url}/token",service="r",scope="repository:acme/m:pull"'
            return Reply(401, b"{}", {"WWW-Authenticate": realm})
        if request.path in ("/v2/acme/m/manifests/v1", f"/v2/acme/m/manifests/{digest_of(body)}"):
            return Reply(200, body, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        for data in FILES.values():
            if request.path == f"/v2/acme/m/blobs/{digest_of(data)}":
                return file_reply(request, data)
        return Reply(404, b"{}")

    return handle


def oci(server: Server, settings: SourceSettings, tag: str = "v1", password: str = "pw", **over: Any) -> Source:
    secrets = Secrets(environ={"OCI_USERNAME": "me", "OCI_PASSWORD": password})
    uri = f"oci://127.0.0.1:{server.port}/acme/m:{tag}"
    return open_model(uri, None, base=Path(), secrets=secrets, settings=replace(settings, **over))


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_oci_lists_reads_and_resumes(make_server: Make, settings: SourceSettings, tmp_path: Path, scheme: str) -> None:
    server = make_server()
    server.handler = registry(server, scheme)
    files = oci(server, settings)
    assert files.revision == digest_of(manifest())
    assert {e.path: e.sha256 for e in files.entries()} == {n: sha(d) for n, d in FILES.items()}
    assert files.read("model.safetensors", 3, 4) == WEIGHTS[3:7]
    blob = f"/v2/acme/m/blobs/{digest_of(WEIGHTS)}"
    server.faults[blob] = [lambda reply: replace(reply, cut_after=300_000), Reply(503)]
    folder = fetch(files, ["model.safetensors"], tmp_path / "cache", Silent())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert server.ranges(blob)[-1] not in (None, "bytes=0-")


def test_oci_says_gated_missing_and_wrong_kind(make_server: Make, settings: SourceSettings) -> None:
    server = make_server()
    server.handler = registry(server)
    with pytest.raises(SourceError, match="OCI_PASSWORD") as gated:
        oci(server, settings, password="wrong-one")
    assert gated.value.failure is FailureClass.MODEL_GATED
    assert "wrong-one" not in str(gated.value)
    with pytest.raises(SourceError) as missing:
        oci(server, settings, tag="nope")
    assert missing.value.failure is FailureClass.MODEL_NOT_FOUND
    image = {"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:0", "size": 5}]}
    server.handler = registry(server, content=json.dumps(image).encode())
    with pytest.raises(SourceError, match="oras push"):
        oci(server, settings)


def test_oci_asks_for_another_token_when_one_has_expired(make_server: Make, settings: SourceSettings) -> None:
    server = make_server()
    server.handler = registry(server)
    files = oci(server, settings)
    realm = f'Bearer realm="{server.url}/token",service="r",scope="repository:acme/m:pull"'
    expired = Reply(401, b"{}", {"WWW-Authenticate": realm})
    server.faults[f"/v2/acme/m/blobs/{digest_of(WEIGHTS)}"] = [expired]
    assert files.read("model.safetensors", 3, 4) == WEIGHTS[3:7]
    assert [request.path for request in server.requests].count("/token") == 2


def test_oci_without_an_account_reads_what_is_public(make_server: Make, settings: SourceSettings) -> None:
    server = make_server()
    inner = registry(server)

    def anonymous(request: Request) -> Reply:
        if request.path == "/token" and "authorization" not in request.headers:
            return Reply(200, b'{"access_token": "t0k"}')
        return inner(request)

    server.handler = anonymous
    uri = f"oci://127.0.0.1:{server.port}/acme/m:v1"
    files = open_model(uri, None, base=Path(), secrets=Secrets(environ={"HOME": "/nowhere"}), settings=settings)
    assert files.read("model.safetensors", 3, 4) == WEIGHTS[3:7]


@pytest.mark.parametrize("helper", [False, True])
def test_oci_takes_what_docker_login_stored(
    make_server: Make, settings: SourceSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helper: bool
) -> None:
    server = make_server()
    server.handler = registry(server, "Basic")
    host = f"127.0.0.1:{server.port}"
    config: dict[str, Any] = {"auths": {host: {"auth": base64.b64encode(b"me:pw").decode()}}}
    if helper:
        config = {"auths": {host: {}}, "credHelpers": {host: "test"}}
        program = tmp_path / "docker-credential-test"
        program.write_text(
            f'#!/bin/sh\nread host; test "$host" = {host} && echo \'{{"Username":"me","Secret":"pw"}}\'\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "config.json").write_text(json.dumps(config))
    secrets = Secrets(environ={"DOCKER_CONFIG": str(tmp_path)})
    files = open_model(f"oci://{host}/acme/m:v1", None, base=Path(), secrets=secrets, settings=settings)
    assert files.read("model.safetensors", 3, 4) == WEIGHTS[3:7]
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SourceError, match=r"config\.json can't be read"):
        open_model(f"oci://{host}/acme/m:v1", None, base=Path(), secrets=secrets, settings=settings)


@pytest.mark.parametrize("registry_at", ["https://r.io", "http://localhost:5000"])
def test_oci_sends_no_password_over_http_to_another_machine(settings: SourceSettings, registry_at: str) -> None:
    origin = Origin("oci://r.io/m", "the registry r.io", "OCI_PASSWORD")
    login = Login(HttpClient(origin, settings), origin, ("me", "pw"))
    with pytest.raises(SourceError, match=r"http://r\.io/token .*not https"):
        login.answer('Bearer realm="http://r.io/token",service="r"', f"{registry_at}/v2/m/manifests/v1")


@pytest.mark.parametrize(
    "offered",
    [
        'Basic realm="a", Bearer realm="{url}/token", service="r", scope="repository:acme/m:pull,push"',
        'Negotiate, bearer Realm="{url}/token",SERVICE=r',
        'Negotiate bG9uZw==, Bearer  realm = "{url}/token"',
    ],
)
def test_oci_finds_the_challenge_it_can_take_up(make_server: Make, settings: SourceSettings, offered: str) -> None:
    server = make_server()
    inner = registry(server)

    def handle(request: Request) -> Reply:
        if request.path == "/token":
            return Reply(200, b'{"token": "t0k"}')
        reply = inner(request)
        return (
            replace(reply, headers={"WWW-Authenticate": offered.format(url=server.url)})
            if reply.status == 401
            else reply
        )

    server.handler = handle
    uri = f"oci://127.0.0.1:{server.port}/acme/m:v1"
    files = open_model(uri, None, base=Path(), secrets=Secrets(environ={"HOME": "/nowhere"}), settings=settings)
    assert files.read("model.safetensors", 3, 4) == WEIGHTS[3:7]


@pytest.mark.parametrize("realm", ["http://[::1", "http://127.0.0.1:99999/token", "/token", f"http://{'a' * 64}.com/"])
def test_oci_refuses_a_token_server_whose_address_is_none(
    make_server: Make, settings: SourceSettings, realm: str
) -> None:
    server = make_server()
    server.handler = lambda request: Reply(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}"'})
    with pytest.raises(SourceError):
        oci(server, settings)


def layer(name: str, data: bytes, **over: Any) -> dict[str, Any]:
    title = {"org.opencontainers.image.title": name}
    return {"mediaType": "a/b", "digest": digest_of(data), "size": len(data), "annotations": title, **over}


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([layer("a.gguf", b"a"), layer("a.gguf", b"b")], r"two layers are named a\.gguf"),
        ([layer("a.gguf", b"a", digest="sha512:" + 128 * "0")], "only sha256 can be checked"),
        ([layer("a.gguf", b"a", digest="../../_catalog")], "only sha256 can be checked"),
    ],
)
def test_oci_refuses_layers_that_it_could_mix_up_or_not_check(
    make_server: Make, settings: SourceSettings, layers: list[dict[str, Any]], said: str
) -> None:
    server = make_server()
    server.handler = registry(server, content=json.dumps({"layers": layers}).encode())
    with pytest.raises(SourceError, match=said):
        oci(server, settings)
    server.handler = registry(server)  # pushed as the message says
    assert {entry.path for entry in oci(server, settings).entries()} == set(FILES)


def test_oci_refuses_a_manifest_that_it_could_not_check(make_server: Make, settings: SourceSettings) -> None:
    server = make_server()
    uri, revision = f"oci://127.0.0.1:{server.port}/acme/m", "sha512:" + 128 * "0"
    with pytest.raises(SourceError, match="only sha256 can be checked"):
        open_model(uri, revision, base=Path(), secrets=Secrets(environ={}), settings=settings)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.1.2.3", True),
        ("[::1]:5000", True),
        ("localhost.example.com", False),
        ("localhosts", False),
        ("127.example.com:5000", False),
        ("127.0.0.1.example.com", False),
        ("[::1", False),
        ("10.0.0.1:5000", False),
    ],
)
def test_oci_speaks_plain_http_with_this_machine_alone(host: str, plain: bool) -> None:
    assert is_this_machine(host) is plain


def test_oci_refuses_private_addresses_where_they_are_forbidden(make_server: Make, settings: SourceSettings) -> None:
    server = make_server()
    with pytest.raises(SourceError, match="may not be read"):
        oci(server, settings, allow_private=False)
    assert server.requests == []


def test_oci_registry_that_is_away(settings: SourceSettings, sleeps: list[float]) -> None:
    with pytest.raises(SourceError) as caught:
        oci(Server("", 9), settings)
    assert caught.value.failure is FailureClass.HUB_UNREACHABLE
    assert len(sleeps) == settings.attempts - 1
