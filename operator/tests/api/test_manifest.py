"""Manifests: what is read, and what is said about every mistake."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.manifest import STDIN, ManifestError, Problem, load_manifests
from llmservice_api.v1alpha1 import EngineTypeChoice
from llmservice_runtime.contract.errors import UserError

HEAD = "apiVersion: llmservice.dev/v1alpha1\nkind: LLMService\n"
GOOD = HEAD + "metadata: {name: demo}\nspec:\n  model: {uri: 'file://m.gguf'}\n"


def write(folder: Path, text: str | bytes, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problems_of(text: str | bytes) -> tuple[Problem, ...]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ManifestError) as caught:
        load_manifests([STDIN], stdin=io.BytesIO(data))
    assert "pydantic" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return caught.value.problems


def spec(text: str) -> str:
    return HEAD + "metadata: {name: demo}\nspec:\n" + text


def test_documents_of_a_file_become_services_with_their_folder(tmp_path: Path) -> None:
    second = GOOD.replace("demo", "other").replace("spec:", "spec:\n  engine: {type: LlamaCpp}")
    path = write(tmp_path, f"# first\n{GOOD}---\n---\n{second}")
    first, other = load_manifests([path])
    assert (first.service.full_name, first.base, first.line) == ("default/demo", tmp_path, 2)
    assert other.service.spec.engine.type is EngineTypeChoice("LlamaCpp")
    assert other.path == path


def test_a_folder_gives_its_yaml_files_sorted(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("demo", "b"), "2.yml")
    write(tmp_path, GOOD.replace("demo", "a"), "1.yaml")
    write(tmp_path, "not read", "notes.txt")
    assert [manifest.service.metadata.name for manifest in load_manifests([tmp_path])] == ["a", "b"]


def test_standard_input_is_based_on_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (manifest,) = load_manifests([STDIN], stdin=io.BytesIO(GOOD.encode()))
    assert manifest.base == tmp_path


def test_anchors_and_merge_keys_work_as_in_kubectl() -> None:
    text = spec("  model: &m {uri: 'hf://a/b'}\n  endpoint:\n    <<: {drainSeconds: 5, maxQueuedRequests: 2}\n")
    (manifest,) = load_manifests([STDIN], stdin=io.BytesIO((text + "    drainSeconds: 7\n").encode()))
    endpoint = manifest.service.spec.endpoint
    assert (endpoint.drain_seconds, endpoint.max_queued_requests) == (7, 2)


@pytest.mark.parametrize(
    ("text", "line", "field", "reason", "remedy"),
    [
        (
            spec("  model: {uri: 'hf://a/b', revison: x}\n"),
            5,
            "spec.model.revison",
            "no such field",
            "Did you mean revis",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  drain_seconds: 3\n"),
            6,
            "spec.drain_seconds",
            "no such",
            "endpoint.drainS",
        ),
        (spec("  model: {uri: 'hf://a/b'}\n  zzz: 3\n"), 6, "spec.zzz", "no such field", "spec has: accelerator"),
        (
            spec("  model: {uri: 'hf://a/b'}\n  engine:\n    type: vllm\n"),
            7,
            "spec.engine.type",
            '"vllm"',
            "mean VLLM?",
        ),
        (spec("  model: {uri: 'hf://a/b'}\n  engine:\n    type: Ray\n"), 7, "spec.engine.type", "LlamaCpp", "one of"),
        (spec("  model: {revision: x}\n"), 5, "spec.model.uri", "required", "Add it"),
        (spec("  model:\n    uri:\n"), 6, "spec.model.uri", "required", "Add it"),
        (spec("  model:\n    uri: Qwen/Qwen2\n"), 6, "spec.model.uri", "no known scheme", "hf://owner/name"),
        (spec("  model:\n    uri: https://me:pw@host/m\n"), 6, "spec.model.uri", "credentials", "secretRef"),
        (spec("  model:\n    uri: pvc:///m\n"), 6, "spec.model.uri", "pvc://CLAIM", "claim's name"),
        (spec("  model:\n    uri: file://m\n    revision: v1\n"), 7, "spec.model.revision", "no revision", "Leave"),
        (
            spec("  model:\n    uri: hf://a/b\n    revision: 12\n"),
            7,
            "spec.model.revision",
            "12 is not a text",
            "quotes",
        ),
        (spec("  model: {uri: 'hf://a/b'}\n  replicas: -1\n"), 6, "spec.replicas", "-1 is out of range", "at least 0"),
        (spec("  model: {uri: 'hf://a/b'}\n  replicas: 1.5\n"), 6, "spec.replicas", "not an integer", "whole number"),
        (spec("  model: {uri: 'hf://a/b'}\n  replicas: '2'\n"), 6, "spec.replicas", "not an integer", "without quotes"),
        (spec("  model: {uri: 'hf://a/b', include: x}\n"), 5, "spec.model.include", "not a list", "each after `- `"),
        (spec("  model: hf://a/b\n"), 5, "spec.model", "not a mapping", "fields with their values"),
        (
            spec("  model: {uri: 'hf://a/b'}\n  engine:\n    args: [null]\n"),
            7,
            "spec.engine.args[0]",
            "null is not a text",
            "leave the field out",
        ),
        (
            spec(
                "  model: {uri: 'hf://a/b'}\n"
                "  scaling: {maxReplicas: 1, schedules: [{start: x, end: 0 1 * * *, replicas: 1}]}\n"
            ),
            6,
            "spec.scaling.schedules[0].start",
            "1 character; at least 9 are needed",
            "at least 9",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  engine:\n    env:\n    - name: A\n    - name: A\n"),
            9,
            "spec.engine.env[1].name",
            "stands twice",
            "Keep one",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  adapters:\n  - {name: a, uri: 'pvc://c/a'}\n"),
            7,
            "spec.adapters[0].uri",
            "no scheme that an adapter can have",
            "hf://owner/name for an adapter",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  adapters:\n  - {name: demo, uri: 'hf://a/c'}\n"),
            6,
            "spec.adapters",
            "the service's own name",
            "another name",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  adapters:\n  - {name: latest, uri: 'hf://a/c'}\n"),
            7,
            "spec.adapters[0].name",
            "the service itself, to Ollama's clients",
            "another name",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  adapters:\n  - {name: a_b, uri: 'hf://a/c'}\n"),
            7,
            "spec.adapters[0].name",
            "a_b",
            "lower-case",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  task: Rerank\n  adapters:\n  - {name: a, uri: 'hf://a/c'}\n"),
            7,
            "spec.adapters",
            "models that write text",
            "Leave adapters out",
        ),
        (
            spec("  model: {uri: 'hf://a/b'}\n  engine:\n    env: [{name: 1A}]\n"),
            7,
            "spec.engine.env[0].name",
            "not allowed",
            "not starting with a digit",
        ),
        (
            HEAD + "metadata: {name: Demo_1}\nspec: {model: {uri: 'hf://a/b'}}\n",
            3,
            "metadata.name",
            "Demo_1",
            "lower-case",
        ),
        (
            HEAD + "metadata: {name: 7b-chat}\nspec: {model: {uri: 'hf://a/b'}}\n",
            3,
            "metadata.name",
            "7b-chat",
            "qwen-7b for 7b-qwen",
        ),
        (
            HEAD + f"metadata: {{name: {'a' * 41}}}\nspec: {{model: {{uri: 'hf://a/b'}}}}\n",
            3,
            "metadata.name",
            "41",
            "40",
        ),
        (HEAD + "spec: {model: {uri: 'hf://a/b'}}\n", 1, "metadata", "required", "Add it"),
        ("kind: LLMService\n", 1, "apiVersion", "required", "llmservice.dev/v1alpha1"),
        ("apiVersion: v1\nkind: LLMService\n", 1, "apiVersion", "'v1' is not", "Write apiVersion"),
        ("apiVersion: llmservice.dev/v1alpha1\nkind: Service\n", 2, "kind", "'Service'", "Write kind: LLMService"),
        ("- a\n- b\n", 1, "", "not a mapping", "apiVersion"),
        ("a: 1\nb: 2\na: 3\n", 3, "", "'a' stands twice, first in line 1", "Keep one"),
        ("x: &x {a: 1}\nb:\n  <<: *x\n  <<: *x\n", 4, "", "'<<' stands twice, first in line 3", "Keep one"),
        ("a: [1,\nb: 2\n", 3, "", "not valid YAML", "Check"),
        ("a:\n\tb: 2\n", 2, "", "not valid YAML", "spaces"),
        ("a: !!python/object:os.system x\n", 1, "a", "tag", "Remove"),
        ("a: !!binary aGk=\n", 1, "a", "tag", "Remove"),
        ("1: x\n", 1, "", "key", "quotes"),
        ("a: \x01\n", 1, "", "not allowed", "Remove"),
        (b"a: \xff\xfe\n", 1, "", "not UTF-8", "UTF-8"),
        ("", 1, "", "no LLMService", "-f"),
    ],
)
def test_a_mistake_is_told_with_line_field_reason_and_remedy(
    text: str | bytes, line: int, field: str, reason: str, remedy: str
) -> None:
    (problem,) = problems_of(text)
    assert (problem.line, problem.field) == (line, field)
    assert reason in problem.reason
    assert remedy in problem.remedy


def test_all_mistakes_of_all_files_are_told_together(tmp_path: Path) -> None:
    one = write(tmp_path, spec("  model: {uri: x}\n  task: chat\n"), "1.yaml")
    two = write(tmp_path, "kind: [\n", "2.yaml")
    missing = tmp_path / "3.yaml"
    with pytest.raises(ManifestError) as caught:
        load_manifests([one, two, missing])
    assert [(p.path.name, p.field) for p in caught.value.problems] == [
        ("1.yaml", "spec.model.uri"),
        ("1.yaml", "spec.task"),
        ("2.yaml", ""),
        ("3.yaml", ""),
    ]
    assert f"{one}:6: spec.task" in caught.value.reason
    assert "no such file" in caught.value.reason


def test_a_service_stands_once_in_all_files(tmp_path: Path) -> None:
    one, two = write(tmp_path, GOOD, "1.yaml"), write(tmp_path, "\n" + GOOD, "2.yaml")
    with pytest.raises(ManifestError, match=r"2\.yaml:2: metadata.name: the service default/demo stands twice"):
        load_manifests([one, two])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x" * 1_000_001, "larger than"),
        ("é" * 600_000, "larger than"),
        ("[" * 100_000, "too deeply"),
        ("a: " + "{b: " * 40 + "1" + "}" * 40, "too deeply"),
        ("a: &a [*a]\n", "too deeply"),
        ("a0: &a0 [x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)), "20000"),
        ("a: " + "9" * 5000, "can't be read"),
        ("{" + "a, " * 300_000 + "}", "20000"),
        (spec(f"  ? {'k' * 900_000}\n  : 1\n  model: {{uri: 'hf://a/b'}}\n"), "no such field"),
        ("? " + "k" * 400_000 + "\n: 1\n? " + "k" * 400_000 + "\n: 2\n", "stands twice"),
        ("apiVersion: llmservice.dev/v1alpha1\nkind: " + "K" * 900_000, "is not LLMService"),
    ],
)
def test_hostile_text_is_refused_quickly(text: str, reason: str) -> None:
    (problem,) = problems_of(text)
    assert reason in problem.reason
    assert len(str(problem) + problem.remedy) < 1000


@pytest.mark.parametrize(
    "text",
    [
        spec("  model: {uri: 'hf://a/b'}\n" + "".join(f"  zz{number}: 1\n" for number in range(9000))),
        "a: 1\n---\n" * 9000,
    ],
)
def test_of_mistakes_without_end_the_first_are_told(text: str) -> None:
    with pytest.raises(ManifestError, match="100 or more mistakes") as caught:
        load_manifests([STDIN], stdin=io.BytesIO(text.encode()))
    assert len(caught.value.problems) == 100


@given(st.text(max_size=300) | st.text(alphabet="&*<>{}[]:,-?|!\n 'a\"#", max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        load_manifests([STDIN], stdin=io.BytesIO((HEAD + text).encode()))
    except UserError as error:
        assert error.reason
        assert error.remedy


def test_every_sample_is_a_valid_manifest() -> None:
    samples = sorted((Path(__file__).parents[3] / "config" / "samples").glob("*.yaml"))
    manifests = {path.stem: load_manifests([path]) for path in samples}  # each is applied by itself
    assert {"demo", "kubernetes-demo", "kubernetes-gpu", "qwen-gguf"} <= set(manifests)
    (demo,) = manifests["demo"]
    assert (demo.base / demo.service.spec.model.uri.removeprefix("file://")).is_file()
