"""What several engines share: locked in one version, stored once, taken from the index that can be reached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.recipe import Recipe
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.engines.transformers.install.recipe import QUANTIZERS
from llmservice_runtime.engines.transformers.install.recipe import RECIPE as TRANSFORMERS
from llmservice_runtime.install.layers import without
from llmservice_runtime.install.lockfile import entries, names


def recipes() -> Iterator[Recipe]:
    for engine in EngineType:
        recipe = definition(engine).recipe
        while isinstance(recipe, Recipe):
            yield recipe
            recipe = recipe.cuda


def versions(lock: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in entries(lock.read_text()):
        found.setdefault(names(entry)[0], set()).add(entry.split()[0].partition("==")[2])
    return found


@pytest.mark.parametrize("recipe", list(recipes()), ids=lambda recipe: recipe.lock.stem)
def test_an_engine_and_its_layers_are_locked_in_the_same_versions(recipe: Recipe) -> None:
    text = recipe.lock.read_text()
    assert "://" not in text and all("--hash=sha256:" in entry for entry in entries(text))
    for layer in recipe.layers:
        theirs, ours = versions(layer.lock), versions(recipe.lock)
        assert theirs and all(theirs[name] <= ours[name] for name in theirs)
        assert not theirs.keys() & set(names(without(text, recipe.layers)))
        if layer.slim:
            slim = versions(layer.slim.lock)
            assert {name: {v.partition("+")[0] for v in found} for name, found in slim.items()} == {
                name: theirs[name] for name in slim
            }


def test_packages_that_rules_count_on_are_locked() -> None:
    locked = {name.replace("-", "_") for name in versions(TRANSFORMERS.lock)}
    assert locked >= QUANTIZERS


def test_transformers_is_asked_in_the_version_that_serves() -> None:
    asked = versions(TRANSFORMERS.lock.parents[1] / "generate.lock")
    assert asked["transformers"] == versions(TRANSFORMERS.lock)["transformers"]


def test_engines_that_share_a_layer_share_all_of_it() -> None:
    sharing = [recipe for recipe in recipes() if recipe.layers]
    assert len({layer.lock for recipe in sharing for layer in recipe.layers}) == 1 and len(sharing) == 4


def test_a_metadata_only_distribution_has_the_version_of_what_is_locked() -> None:
    for recipe in recipes():
        versions_locked = {version for found in versions(recipe.lock).values() for version in found}
        assert all(re.sub(r"\+.*", "", info.version) in versions_locked for info in recipe.dist_infos)
