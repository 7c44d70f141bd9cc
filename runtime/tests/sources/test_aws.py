"""Who S3 is told we are: where others write the URIs, the pod and never the node."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.aws import agent_addresses
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.files import Source
from llmservice_runtime.sources.guard import AddressRefusedError, public_connections_only
from llmservice_runtime.sources.open import open_model
from llmservice_runtime.sources.secrets import Secrets
from llmservice_runtime.sources.settings import SourceSettings
from tests.sources.servers import Reply, Request, Server

DATA = b"weights"
LISTED = """<?xml version="1.0"?><ListBucketResult><Name>models</Name><Contents><Key>qwen/a.gguf</Key>
<Size>7</Size><ETag>"1"</ETag></Contents><IsTruncated>false</IsTruncated></ListBucketResult>"""
KEYS = {"AccessKeyId": "ASIAPOD", "SecretAccessKey": "podsecret", "Token": "podtoken"}
ROLE = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>rolesecret
</SecretAccessKey><SessionToken>roletoken</SessionToken><Expiration>{}</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
REFUSED = "<ErrorResponse><Error><Code>{}</Code><Message>Not authorized</Message></Error></ErrorResponse>"
Make = Callable[..., Server]


def later() -> str:
    return (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No keys, no profile; what asks for an address inside, such as the metadata service's, is refused."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with public_connections_only((), ("127.0.0.1",)):
        yield


def store(request: Request) -> Reply:
    """A public bucket."""
    if "list-type" in request.query:
        return Reply(200, LISTED.encode(), {"Content-Type": "application/xml"})
    return Reply(200, DATA, {"ETag": '"1"'})


def opened(server: Server, settings: SourceSettings, uri: str = "s3://models/qwen") -> Source:
    strict = replace(settings, allow_private=False, cache=None, s3_endpoint=server.url)
    return open_model(uri, None, base=Path(), secrets=Secrets(), settings=strict)


def test_a_public_bucket_is_read_without_keys_and_the_metadata_service_is_not_asked(
    make_server: Make, settings: SourceSettings
) -> None:
    server = make_server(store)
    assert opened(server, settings).read("a.gguf", 0, 7) == DATA
    assert all("authorization" not in request.headers for request in server.requests)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # urllib3 leaves it when a hook refuses
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_address_inside_is_called_one_and_not_tried_again(
    make_server: Make, settings: SourceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = replace(settings, allow_private=False, cache=None, s3_endpoint="http://127.0.0.2:9")
    with pytest.raises(AddressRefusedError, match=r"127\.0\.0\.2 is an address inside"):
        open_model("s3://models/qwen", None, base=Path(), secrets=Secrets(), settings=strict)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.2:9/v1/credentials")
    with pytest.raises(AddressRefusedError, match=r"127\.0\.0\.2 is an address inside"):
        opened(make_server(store), settings)
    gc.collect()  # here, not in another test


def test_one_object_of_a_bucket_that_may_not_be_listed_is_read(make_server: Make, settings: SourceSettings) -> None:
    def handle(request: Request) -> Reply:
        if "list-type" in request.query:
            return Reply(403, REFUSED.format("AccessDenied").encode())
        return store(request) if request.path.endswith("/a.gguf") else Reply(403)

    server = make_server(handle)
    files = opened(server, settings, "s3://models/qwen/a.gguf")
    assert [(entry.path, entry.size) for entry in files.entries()] == [("a.gguf", 7)]
    assert files.read("a.gguf", 0, 7) == DATA
    for uri in ("s3://models/qwen", "s3://models/qwen/"):
        with pytest.raises(SourceError, match="AWS_ACCESS_KEY_ID") as caught:
            opened(server, settings, uri)
        assert caught.value.failure is FailureClass.MODEL_GATED


def test_the_identity_of_the_pod_is_asked_for_where_the_platform_says(
    make_server: Make, settings: SourceSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agent = make_server(lambda request: Reply(200, json.dumps({**KEYS, "Expiration": later()}).encode()))
    token = tmp_path / "token"
    token.write_text("of-the-pod")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{agent.url}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    server = make_server(store)
    assert opened(server, settings).read("a.gguf", 0, 7) == DATA
    assert agent.requests[0].headers["authorization"] == "of-the-pod"
    assert all("ASIAPOD" in request.headers["authorization"] for request in server.requests)
    assert server.requests[0].headers["x-amz-security-token"] == "podtoken"


def test_a_role_is_assumed_by_the_token_of_the_service_account(
    make_server: Make, settings: SourceSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sts = make_server(lambda request: Reply(200, ROLE.format(later()).encode(), {"Content-Type": "text/xml"}))
    token = tmp_path / "token"
    token.write_text("of-the-account")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/models")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    server = make_server(store)
    assert opened(server, settings).read("a.gguf", 0, 7) == DATA
    signed = server.requests[0].headers["authorization"]
    assert "ASIAROLE" in signed and "/eu-central-1/s3/" in signed
    sts.handler = lambda request: Reply(403, REFUSED.format("AccessDenied").encode(), {"Content-Type": "text/xml"})
    with pytest.raises(SourceError, match=r"can't be had: .*AccessDenied") as caught:
        opened(server, settings)
    assert caught.value.failure is FailureClass.MODEL_GATED
    assert "role of the pod's ServiceAccount" in caught.value.remedy
    token.unlink()
    with pytest.raises(SourceError, match=r"can't be had: .*token"):
        opened(server, settings)


def test_only_where_a_platform_gives_keys_to_pods_the_guard_makes_way() -> None:
    def full(uri: str) -> tuple[str, ...]:
        return agent_addresses({"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri})

    assert agent_addresses({}) == ()
    assert agent_addresses({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x"}) == ("169.254.170.2",)
    assert full("http://169.254.170.23/v1/credentials") == ("169.254.170.23",)
    assert full("http://[fd00:ec2::23]/v1/credentials") == ("fd00:ec2::23",)
    for other in ("http://169.254.169.254/latest", "http://127.0.0.1/", "http://169.254.170.23.evil.example/", "[", ""):
        assert full(other) == ()
