"""The CustomResourceDefinition, derived from the pydantic models: a structural OpenAPI v3 schema and what is around."""

from __future__ import annotations

from typing import Any

from llmservice_api.live import MARK, SENTENCE
from llmservice_api.v1alpha1 import API_VERSION, GROUP, KIND, PLURAL, SHORT_NAME, VERSION, LLMService

CRD_NAME = f"{PLURAL}.{GROUP}"
CATEGORY = "llm"

Schema = dict[str, Any]

_READY = '.status.conditions[?(@.type=="Ready")]'
_COLUMNS = (
    ("Model", "string", ".spec.model.uri", 0, "Where the model comes from."),
    ("Engine", "string", ".status.plan.engine", 0, "The engine that runs it."),
    ("Ready", "string", ".status.ready", 0, "Replicas that are ready, and how many are wanted."),
    ("URL", "string", ".status.url", 0, "OpenAI base URL."),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Time since it was created."),
    ("Reason", "string", f"{_READY}.reason", 0, "Why it is ready, or not."),
    ("Message", "string", f"{_READY}.message", 0, "The same as a sentence, with the remedy."),
    ("Plan", "string", ".status.plan.summary", 1, "How it is run."),
)
_MAP = "additionalProperties"
_DROPPED = ("title", _MAP, "$defs", "const", MARK)


def custom_resource_definition() -> dict[str, Any]:
    """The whole CRD as plain data, ready for YAML."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT_NAME],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": structural_schema()},
                }
            ],
        },
    }


def structural_schema() -> Schema:
    """The object's schema by Kubernetes' rules: typed everywhere, no references, no unions, nested defaults visible."""
    source = LLMService.model_json_schema(by_alias=True)
    root = _structural(source, source["$defs"])
    properties = root["properties"]
    properties["apiVersion"] = {"type": "string", "description": f"Always {API_VERSION}."}
    properties["kind"] = {"type": "string", "description": f"Always {KIND}."}
    properties["metadata"] = {"type": "object"}  # the API server's own; nothing else may be said about it
    root["required"] = ["metadata", "spec"]
    return root


def editor_schema() -> Schema:
    """JSON Schema of a manifest, for editors: the same fields, and unknown ones are marked."""
    schema = _closed(structural_schema())
    schema["properties"]["apiVersion"]["enum"] = [API_VERSION]
    schema["properties"]["kind"]["enum"] = [KIND]
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": KIND, **schema}


def _column(name: str, kind: str, path: str, priority: int, description: str) -> dict[str, Any]:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | {"priority": priority} if priority else column


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """One node: references followed, `| None` taken off (Kubernetes has absence instead), objects get defaults."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rpartition("/")[2]]
        schema = target | {key: value for key, value in schema.items() if key != "$ref"}
    if "anyOf" in schema:
        (option,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return _structural(option | rest, definitions)
    result = {key: value for key, value in schema.items() if key not in _DROPPED}
    if MARK in schema:
        result["description"] = f"{schema['description']} {SENTENCE}"
    if isinstance(schema.get(_MAP), dict):
        result[_MAP] = _structural(schema[_MAP], definitions)
    if "properties" in schema:
        required = schema.get("required", [])
        result["properties"] = {
            name: _with_default(_structural(child, definitions), name in required)
            for name, child in schema["properties"].items()
        }
    if "items" in schema:
        result["items"] = _structural(schema["items"], definitions)
    return result


def _with_default(schema: Schema, required: bool) -> Schema:
    """An optional object whose fields have defaults gets them all: the API server checks rules on the default as is."""
    defaults = {name: field["default"] for name, field in schema.get("properties", {}).items() if "default" in field}
    if required or schema.get("required") or not defaults:
        return schema
    return schema | {"default": defaults}


def _closed(schema: Schema) -> Schema:
    result: Schema = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    if "properties" in schema:
        result["properties"] = {name: _closed(child) for name, child in schema["properties"].items()}
        result["additionalProperties"] = False
    if "items" in schema:
        result["items"] = _closed(schema["items"])
    return result
