"""The table of pod fields against the API server's own: every field is decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmservice_kube.client import Client
from llmservice_kube.kinds import POD
from llmservice_operator.facts.pod_fields import POD_FIELDS
from llmservice_operator.facts.pod_rules import POD as KNOWN
from llmservice_operator.facts.pod_rules import Fields

REFERENCE = "#/components/schemas/"


async def test_every_field_of_a_pod_is_decided(client: Client) -> None:
    schemas = (await client.send("get", POD, "/openapi/v3/api/v1"))["components"]["schemas"]
    served = dict(_differences("spec", "io.k8s.api.core.v1.PodSpec", KNOWN, schemas))
    assert served == {"spec": (set(POD_FIELDS), set())}, "new fields need leave until the table says what they reach"


def _differences(
    path: str, kind: str, known: Fields, schemas: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[set[str], set[str]]]]:
    """Of every kind that the table looks into: (fields that only the server knows, those that only the table knows)."""
    properties = schemas[kind]["properties"]
    if set(properties) != set(known):
        yield path, (set(properties) - set(known), set(known) - set(properties))
    for name, rule in known.items():
        if isinstance(rule, Mapping) and name in properties:
            yield from _differences(f"{path}.{name}", _kind(properties[name]), rule, schemas)


def _kind(schema: Mapping[str, Any]) -> str:
    """The kind that a field, or each item of a list, has."""
    schema = schema.get("items", schema)
    (reference,) = [part["$ref"] for part in schema.get("allOf", [schema])]
    return str(reference.removeprefix(REFERENCE))
