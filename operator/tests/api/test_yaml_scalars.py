"""What an unquoted word of a manifest means, here and to kubectl."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.manifest import STDIN, ManifestError, load_manifests
from llmservice_api.yamlscalars import Scalar, plain_value
from llmservice_api.yamltext import read_documents

HEAD = "apiVersion: llmservice.dev/v1alpha1\nkind: LLMService\nmetadata: {name: demo}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("1:30:00", "1:30:00"),
        ("-1:30", "-1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("2001-12-14", "2001-12-14"),
        ("2001-12-14T21:59:43Z", "2001-12-14T21:59:43Z"),
        ("tRue", "tRue"),
        ("True", True),
        ("FALSE", False),
        ("~", None),
        ("Null", None),
        ("", None),
        ("+12", 12),
        ("-0", 0),
        ("0x1F", 31),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("5.", 5.0),
        ("09.5", 9.5),
        ("0x", "0x"),
        ("0b2", "0b2"),
        ("_1", "_1"),
        ("4_bit", "4_bit"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("v1", "v1"),
        ("é", "é"),
    ],
)
def test_a_word_that_all_readers_agree_on_is_read_as_kubectl_does(text: str, value: Scalar) -> None:
    """Values from sigs.k8s.io/yaml 1.6 (YAMLToJSON), which kubectl reads manifests with."""
    read = plain_value(text)
    assert (read, type(read)) == (value, type(value))


AMBIGUOUS = """yes No on OFF y N 0o17 017 08 -017 0b1 -0b1 0X1F -0x1f 1_000 1_0.5 1__0 1_ 0_7
.inf -.Inf .nan 1e400 123456789012345678901234567890"""


@pytest.mark.parametrize("text", AMBIGUOUS.split())
def test_a_word_that_readers_take_for_different_things_is_refused_with_its_line_and_field(text: str) -> None:
    manifest = HEAD + f"spec:\n  model: {{uri: 'hf://a/b'}}\n  # here:\n  contextTokens: {text}\n"
    with pytest.raises(ManifestError) as caught:
        load_manifests([STDIN], stdin=io.BytesIO(manifest.encode()))
    (problem,) = caught.value.problems
    assert (problem.line, problem.field) == (7, "spec.contextTokens")
    assert problem.reason.startswith(f"{text} can't be read: ")
    assert "quotes" in problem.remedy


@pytest.mark.parametrize("value", ["1:30", "1:30:00", "2001-12-14", "0x"])
def test_a_text_is_no_number_of_tokens(value: str) -> None:
    manifest = HEAD + f"spec:\n  model: {{uri: 'hf://a/b'}}\n  contextTokens: {value}\n"
    with pytest.raises(ManifestError, match=rf':6: spec.contextTokens: "{value}" is not an integer'):
        load_manifests([STDIN], stdin=io.BytesIO(manifest.encode()))


@given(st.from_regex(r"[-+0-9:_.eExobn~yY]{1,12}", fullmatch=True))
def test_quotes_make_any_word_a_text(text: str) -> None:
    (document,) = read_documents(f"a: '{text}'\n")
    assert document.value == {"a": text}
    try:
        plain_value(text)
    except ValueError as error:
        assert str(error)


def test_a_key_that_is_no_text_is_refused() -> None:
    for key in ("yes", "1", "017", "null", "[a]"):
        with pytest.raises(ManifestError, match="not a text"):
            load_manifests([STDIN], stdin=io.BytesIO(f"{key}: x\n".encode()))
