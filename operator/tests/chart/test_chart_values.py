"""The chart's schema, its values and the installation's file agree; the schema says what the operator would refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from llmservice_api.workload import CacheSpec
from llmservice_operator.control.installation import Installation
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.machine.machine import Device

CHART = Path(__file__).resolve().parents[3] / "charts" / "llmservice"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def test_the_file_that_the_chart_writes_has_every_field_of_an_installation() -> None:
    text = (CHART / "templates" / "config.yaml").read_text()
    written = set(re.findall(r"^    ([a-zA-Z]+):", text, re.MULTILINE))
    assert written == {field.alias for field in Installation.model_fields.values()}


def test_the_schema_knows_the_engines_and_devices_that_the_operator_knows() -> None:
    image = SCHEMA["properties"]["runtime"]["properties"]["images"]["items"]["properties"]
    assert set(image["engines"]["items"]["enum"]) == {engine.value for engine in EngineType}
    assert set(image["devices"]["items"]["enum"]) == {device.value for device in Device}


def test_the_schema_knows_the_caches_that_a_service_may_have() -> None:
    def fields(schema: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
        """Names of fields and of values, without descriptions and patterns."""
        if "anyOf" in found:
            found = next(one for one in found["anyOf"] if one.get("type") != "null")
        if "$ref" in found:
            found = schema["$defs"][found["$ref"].rpartition("/")[2]]
        if "items" in found:
            return fields(schema, found["items"])
        if "enum" in found:
            return dict.fromkeys(found["enum"])
        return {name: fields(schema, one) for name, one in found.get("properties", {}).items()}

    mine = SCHEMA["properties"]["gateway"]["properties"]["launch"]["properties"]["cache"]
    whole = CacheSpec.model_json_schema(by_alias=True)
    assert fields({}, mine) == fields(whole, whole)


def test_every_value_is_in_the_schema() -> None:
    assert set(VALUES) == set(SCHEMA["properties"]) - {"global"}  # which Helm adds
    jsonschema.validate(VALUES, SCHEMA)


def test_the_images_by_default_carry_the_engines_that_they_are_built_with() -> None:
    text = (CHART.parents[1] / "runtime" / "Dockerfile").read_text()
    built = dict(re.findall(r'llmservice\.variant="([^"]+)".*?llmservice\.engines="([^"]+)"', text, re.DOTALL))
    for image in VALUES["runtime"]["images"]:
        variant = image["image"].partition(":")[2].partition("-")[2]
        assert set(image["engines"]) == set(built[variant].split(",")), variant
    assert {device for image in VALUES["runtime"]["images"] for device in image["devices"]} == {"CPU", "NVIDIA"}


def test_values_that_an_earlier_release_did_not_have_are_at_their_default() -> None:
    """`helm upgrade --reuse-values` knows the values of then: the templates write null for what came since."""
    images = [{"image": "runtime:1", "engines": ["LlamaCpp"]}]
    optional = {field.alias: None for field in Installation.model_fields.values() if not field.is_required()}
    assert Installation.model_validate({"images": images, **optional}) == Installation.model_validate(
        {"images": images}
    )
    partly = {"prepareResources": {"requests": None}, "allow": {"sidecars": None}, "monitoring": {"labels": None}}
    assert Installation.model_validate({"images": images, **partly}) == Installation.model_validate({"images": images})
    with pytest.raises(ValidationError, match="images"):
        Installation.model_validate({"images": None})


PATHS = ("models", "/", "/models/", "/var//models", "/a b", "/var/../etc", "/./a")
MONITORING = {"enabled": True, "intervalSeconds": 0}
WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"runtime": {"images": []}}, {"images": []}, "images"),
    ({"watchNamespaces": ["Apps"]}, {"namespaces": ["Apps"]}, "Apps"),
    ({"gatewayNamespace": "a b"}, {"gatewayNamespace": "a b"}, "a b"),
    ({"readNodes": "maybe"}, {"readNodes": "maybe"}, "readNodes"),
    ({"gpuMemory": {"NVIDIA-Foo": "24"}}, {"gpuMemory": {"NVIDIA-Foo": "24"}}, "NVIDIA-Foo"),
    ({"gpuBandwidth": {"NVIDIA-Foo": "900"}}, {"gpuBandwidth": {"NVIDIA-Foo": "900"}}, "NVIDIA-Foo"),
    ({"monitoring": MONITORING}, {"monitoring": MONITORING}, "intervalSeconds"),
    ({"runtime": {**VALUES["runtime"], "caBundle": {"key": "ca"}}}, {"caBundle": {"key": "ca"}}, "caBundle"),
    *(({"runtime": {**VALUES["runtime"], "hostPaths": [path]}}, {"hostPaths": [path]}, path) for path in PATHS),
    ({"runtime": {**VALUES["runtime"], "podFields": ["volumes[a]"]}}, {"podFields": ["volumes[a]"]}, "volumes[a]"),
    ({"runtime": {**VALUES["runtime"], "allow": {"images": "*"}}}, {"allow": {"images": "*"}}, "images"),
    ({"runtime": {**VALUES["runtime"], "allow": {"sidecar": 1}}}, {"allow": {"sidecar": 1}}, "sidecar"),
    ({"runtime": {**VALUES["runtime"], "allow": {"secrets": ["a b"]}}}, {"allow": {"secrets": ["a b"]}}, "a b"),
    ({"runtime": {**VALUES["runtime"], "fileGroup": "mine"}}, {"fileGroup": "mine"}, "fileGroup"),
    ({"runtime": {**VALUES["runtime"], "fileGroup": -1}}, {"fileGroup": -1}, "-1"),
    ({"gateway": {"access": "Both"}}, {"gateway": {"access": "Both"}}, "Both"),
    ({"gateway": {"acces": ""}}, {"gateway": {"acces": ""}}, "acces"),
    ({"gateway": {"keys": "on!"}}, {"gateway": {"keys": "on!"}}, "keys"),
    ({"monitorign": {}}, {"monitorign": {}}, "monitorign"),
]


@pytest.mark.parametrize(("values", "installation", "named"), WRONG, ids=[named for _, _, named in WRONG])
def test_what_the_operator_refuses_helm_refuses_first(
    values: dict[str, Any], installation: dict[str, Any], named: str
) -> None:
    known = {"images": [{"image": "r:1", "engines": ["LlamaCpp"]}]}
    Installation.model_validate(known)
    with pytest.raises(ValidationError):
        Installation.model_validate(known | installation)
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate({**VALUES, **values}, SCHEMA)
    place = ".".join(map(str, refused.value.absolute_path))
    assert named in f"{place} {refused.value.message}"
