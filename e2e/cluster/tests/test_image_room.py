"""A build that the disk has no room for is not begun."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from cluster import base, buildah, images
from cluster.console import ClusterError

Usage = namedtuple("Usage", "total used free")


def test_a_large_image_asks_for_room_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> str:
        raise AssertionError("it was begun")

    monkeypatch.setattr(buildah, "build", build)
    monkeypatch.setattr(base, "import_base", build)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 5 * 10**9))
    with pytest.raises(ClusterError) as error:
        images.build("engines")
    assert "5 GB free" in error.value.reason and "prune-images" in error.value.remedy


def test_images_for_gpus_are_built_for_them() -> None:
    assert images.TOOLS["cuda"].arguments == {"DEVICE": "cuda"} and images.TOOLS["cuda"].target == "cuda"
