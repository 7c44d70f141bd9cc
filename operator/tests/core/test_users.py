"""As whom pods run: the user is the image's or the cluster's, the group of files on a claim the installation's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from core_world import CONFIG, World  # type: ignore[import-not-found]

from llmservice_operator.control.installation import Installation

CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"size": "9Gi"}}
OPENSHIFT = dataclasses.replace(CONFIG, file_group=0)
CHART = Path(__file__).resolve().parents[3] / "charts" / "llmservice"


def contexts(world: World) -> list[dict[str, Any]]:
    """The security contexts of all pods of a service that has been served."""
    templates = [item["spec"]["template"] for kind in ("Job", "Deployment") for item in world.of(kind)]
    return [template["spec"]["securityContext"] for template in templates]


def test_files_on_a_claim_belong_to_a_group_of_the_pods() -> None:
    inspection, fetch, replica = contexts(World().edit(cache=CLAIM).served())
    assert "fsGroup" not in inspection, "it mounts no claim"
    assert fetch["fsGroup"] == replica["fsGroup"] == 10001
    assert contexts(World().served())[-1].get("fsGroup") is None, "there is no claim"


def test_where_the_cluster_chooses_user_and_group_pods_ask_for_none() -> None:
    """OpenShift admits no other group than those of the namespace."""
    for context in contexts(World(OPENSHIFT).edit(cache=CLAIM).served()):
        assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_a_service_can_do_without_the_group() -> None:
    alone = {"spec": {"securityContext": {"fsGroup": None}}}
    for context in contexts(World().edit(cache=CLAIM, podTemplate=alone).served()):
        assert context.get("fsGroup") is None


@pytest.mark.parametrize(("said", "meant"), [(None, 10001), (0, 0), (1000800000, 1000800000)])
def test_the_installation_says_which_group(said: int | None, meant: int) -> None:
    images = [{"image": "runtime:1", "engines": ["LlamaCpp"]}]
    config = Installation.model_validate({"images": images, "fileGroup": said}).operator_config("llm")
    assert config.file_group == meant
    assert yaml.safe_load((CHART / "values.yaml").read_text())["runtime"]["fileGroup"] == 10001


def test_the_operator_runs_as_whoever_the_image_or_the_cluster_says() -> None:
    assert "runAsUser" not in (CHART / "templates" / "deployment.yaml").read_text()
    assert "USER 65532:65532" in (CHART.parents[1] / "operator" / "Dockerfile").read_text()
