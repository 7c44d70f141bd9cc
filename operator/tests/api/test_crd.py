"""The CRD: Kubernetes' rules for structural schemas, agreement with the models, and nothing generated is stale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from llmservice_api.crd import custom_resource_definition, editor_schema, structural_schema
from llmservice_api.generate import ROOT, crd_yaml, generated_files, main, stale_files
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.main import main as llmservice

ALLOWED = {
    "type", "description", "default", "enum", "format", "minimum", "maximum", "minLength", "maxLength", "pattern",
    "properties", "required", "items", "minItems", "maxItems", "additionalProperties", "maxProperties",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
}  # fmt: skip


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


NODES = [node for node in nodes(structural_schema()) if node[0] not in ("", ".apiVersion", ".kind", ".metadata")]


@pytest.mark.parametrize(("path", "schema"), NODES, ids=[path for path, _ in NODES])
def test_every_node_is_structural_bounded_and_described(path: str, schema: dict[str, Any]) -> None:
    assert set(schema) <= ALLOWED
    assert schema["type"] in ("object", "array", "string", "integer", "boolean")
    if schema["type"] == "object":
        assert schema.get("properties") or schema.get("maxProperties") or path == ".spec.podTemplate.spec"
        assert "x-kubernetes-preserve-unknown-fields" not in schema or path == ".spec.podTemplate.spec"
    if "additionalProperties" in schema:
        assert schema["additionalProperties"]["maxLength"] <= 32768
    if schema["type"] == "array":
        assert 0 < schema["maxItems"] <= 64
    if schema["type"] == "string" and "enum" not in schema:
        assert schema["maxLength"] <= 32768
    if schema["type"] == "integer":
        assert "minimum" in schema
    if not path.endswith("[]"):
        assert schema["description"].endswith(".")


def test_defaults_are_valid_and_required_fields_have_none() -> None:
    for path, schema in NODES:
        if "default" in schema:
            jsonschema.validate(schema["default"], schema)
        for name in schema.get("required", []):
            assert "default" not in schema["properties"][name], f"{path}.{name}"


def test_rules_name_fields_that_exist_and_stay_cheap() -> None:
    for path, schema in nodes(structural_schema()):
        for rule in schema.get("x-kubernetes-validations", []):
            assert len(rule["message"]) <= 2048
            assert "\n" not in rule["message"]
            assert not any(word in rule["rule"] for word in (".all(", ".exists(", ".map(", ".filter(")) or (
                rule["rule"].count("(") == 2 and "self.spec.adapters.all(" in rule["rule"]
            ), f"{path}: over a list of at most 64 names it is cheap"
            if "fieldPath" in rule:
                assert rule["fieldPath"].split(".")[1] in schema["properties"]


def test_list_map_keys_are_required_fields_of_their_items() -> None:
    for path, schema in NODES:
        for key in schema.get("x-kubernetes-list-map-keys", []):
            assert key in schema["items"]["required"], path


def test_subresources_and_columns_read_fields_of_the_schema() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    known = {path for path, _ in NODES} | {".metadata.creationTimestamp"}
    scale = version["subresources"]["scale"]
    assert set(scale) == {"specReplicasPath", "statusReplicasPath", "labelSelectorPath"}
    assert set(scale.values()) <= known
    columns = version["additionalPrinterColumns"]
    for column in columns:
        assert column["jsonPath"].replace('[?(@.type=="Ready")]', "[]") in known
    shown = [column["name"] for column in columns if not column.get("priority")]
    assert shown == ["Model", "Engine", "Ready", "URL", "Age", "Reason", "Message"]


@pytest.mark.parametrize(
    ("spec", "valid"),
    [
        ({"model": {"uri": "hf://a/b"}}, True),
        ({"model": {"uri": "hf://a/b"}, "replicas": 1000, "accelerator": {"count": 0}}, True),
        ({"model": {"uri": "hf://a/b"}, "podTemplate": {"spec": {"anything": [1]}}}, True),
        ({"model": {"uri": "hf://a/b"}, "podTemplate": {"metadata": {"name": "x"}}}, False),
        ({"model": {"uri": "hf://a/b"}, "replicas": 1001}, False),
        ({"model": {"uri": ""}}, False),
        ({"model": {"uri": "hf://a/b", "include": ["x"] * 33}}, False),
        ({"model": {"uri": "hf://a/b"}, "engine": {"type": "Ray"}}, False),
        ({"model": {"uri": "hf://a/b"}, "engine": {"env": [{"value": "x"}]}}, False),
        ({"model": {"uri": "hf://a/b"}, "modle": 1}, False),
        ({}, False),
    ],
)
def test_models_and_schema_agree(spec: dict[str, Any], valid: bool) -> None:
    manifest = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": "x"}, "spec": spec}
    assert jsonschema.Draft202012Validator(editor_schema()).is_valid(manifest) is valid
    if valid:
        LLMService.model_validate(manifest)
    else:
        with pytest.raises(ValueError, match="spec"):
            LLMService.model_validate(manifest)


def test_generated_files_are_current_and_staleness_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stale_files(ROOT) == []
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert "stale: crds/llmservice.dev_llmservices.yaml" in capsys.readouterr().out
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0


def test_the_chart_keeps_the_crd_and_is_no_template() -> None:
    text = generated_files()["charts/llmservice-crds/templates/llmservices.yaml"]
    assert "{{" not in text
    assert yaml.safe_load(text)["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_command_prints_the_crd(capsys: pytest.CaptureFixture[str]) -> None:
    assert llmservice(["crds"]) == 0
    assert capsys.readouterr().out == crd_yaml()
    assert yaml.safe_load(crd_yaml()) == custom_resource_definition()
