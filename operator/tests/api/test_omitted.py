"""What is left out of a manifest is what its type says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmservice_api import v1alpha1
from llmservice_api.rules import ApiModel
from llmservice_api.workload import PodTemplate


def _fields(kind: type[ApiModel]) -> Iterator[type[ApiModel]]:
    """The types of objects that stand in `kind` or below it and can be left out."""
    for field in kind.model_fields.values():
        of = getattr(field.default_factory, "__self__", None)
        if isinstance(of, type) and issubclass(of, ApiModel):
            yield of
            yield from _fields(of)


OMITTED = sorted({*_fields(v1alpha1.LLMServiceSpec), *_fields(PodTemplate)}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", OMITTED)
def test_an_object_that_is_left_out_is_one_that_says_nothing_and_keeps_its_rules(kind: type[ApiModel]) -> None:
    said = kind.model_validate({})
    assert kind.omitted() == said
    assert kind.omitted().model_fields_set == said.model_fields_set == set()


def test_two_services_share_no_default() -> None:
    one, other = (v1alpha1.LLMServiceSpec(model=v1alpha1.ModelSpec(uri="file://x")) for _ in range(2))
    assert one.engine.args is not other.engine.args
    assert one == other
    assert len(OMITTED) > 8


def test_no_default_is_made_by_a_type_of_pythons_own() -> None:
    """What it takes, pydantic reads off its documentation with a parser, at every start of a command."""
    for kind in ApiModel.__subclasses__():
        made_by = {name: field.default_factory for name, field in kind.model_fields.items()}
        assert not {name for name, factory in made_by.items() if factory in (list, dict)}, kind
