from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.sources.errors import SourceError
from llmservice_runtime.sources.uri import Scheme, parse_uri

BASE = Path("/manifests")


@pytest.mark.parametrize(
    ("uri", "scheme", "container", "path", "reference"),
    [
        ("hf://Qwen/Qwen2.5-7B-Instruct-GGUF", Scheme.HF, "Qwen/Qwen2.5-7B-Instruct-GGUF", "", ""),
        ("hf://gpt2", Scheme.HF, "gpt2", "", ""),
        ("modelscope://qwen/Qwen2-0.5B", Scheme.MODELSCOPE, "qwen/Qwen2-0.5B", "", ""),
        ("s3://bucket/a/b", Scheme.S3, "bucket", "a/b", ""),
        ("https://host:8443/m/x.gguf?sig=1", Scheme.HTTPS, "host:8443", "/m/x.gguf", ""),
        ("oci://ghcr.io/acme/m", Scheme.OCI, "ghcr.io", "acme/m", "latest"),
        ("oci://localhost:5000/acme/m:v1", Scheme.OCI, "localhost:5000", "acme/m", "v1"),
        ("oci://r.io/m@sha256:" + "a" * 64, Scheme.OCI, "r.io", "m", "sha256:" + "a" * 64),
        ("file://models/x.gguf", Scheme.FILE, "/manifests/models/x.gguf", "", ""),
        ("file:///abs/with space", Scheme.FILE, "/abs/with space", "", ""),
    ],
)
def test_every_scheme_is_parsed(uri: str, scheme: Scheme, container: str, path: str, reference: str) -> None:
    parsed = parse_uri(uri, BASE)
    assert (parsed.scheme, parsed.container, parsed.path, parsed.reference) == (scheme, container, path, reference)


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("Qwen/Qwen2-7B", "hf://Qwen/Qwen2-7B"),
        ("ftp://x/y", "unknown"),
        ("pvc://models/qwen", "cluster"),
        ("hf://", "owner/name"),
        ("hf://a/b/c.gguf", "include"),
        ("hf://a/b@main", "revision: main"),
        ("hf://a/../b", "parts"),
        ("hf://a/..", "allows"),
        ("modelscope://x", "owner/name"),
        ("s3:///x", "bucket"),
        ("https:///x", "host"),
        ("https://h:99999999/x", "URL"),
        ("oci://x", "registry"),
        ("file://", "path"),
        ("hf://a/b\nc", "control"),
    ],
)
def test_a_wrong_uri_names_the_field_the_value_and_a_remedy(uri: str, word: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_uri(uri, BASE)
    assert "spec.model.uri" in caught.value.reason
    assert word in str(caught.value)
    assert caught.value.remedy


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(SourceError) as caught:
        parse_uri("https://user:hunter2@host/x.gguf", BASE)
    assert "hunter2" not in str(caught.value)
    assert "HTTP_PASSWORD" in caught.value.remedy


def test_a_signature_is_never_shown() -> None:
    parsed = parse_uri("https://h/x.gguf?X-Amz-Signature=abcdef", BASE)
    assert "abcdef" not in repr(parsed) + parsed.shown + parsed.slug


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for uri in (text, f"hf://{text}", f"https://{text}", f"oci://{text}", f"s3://{text}"):
        try:
            slug = parse_uri(uri, BASE).slug
        except UserError:
            continue
        assert "/" not in slug
        assert slug not in ("", ".", "..")
        assert not slug.startswith(".")
