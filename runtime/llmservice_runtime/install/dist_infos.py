"""Distributions that are metadata alone, written into an environment."""

from __future__ import annotations

import re
from pathlib import Path

from llmservice_runtime.engines.base.recipe import DistInfo


def write(info: DistInfo, packages: Path) -> Path:
    """`NAME-VERSION.dist-info` in a folder of packages, as importlib.metadata and pip read it."""
    folder = packages / f"{re.sub(r'[-_.]+', '_', info.name)}-{info.version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {info.name}\nVersion: {info.version}\n")
    (folder / "INSTALLER").write_text("llmservice\n")
    if info.entry_points:
        (folder / "entry_points.txt").write_text(_entry_points(info))
    lines = [f"{folder.name}/{file.name},,\n" for file in sorted(folder.iterdir()) if file.name != "RECORD"]
    (folder / "RECORD").write_text("".join(lines) + f"{folder.name}/RECORD,,\n")
    return folder


def _entry_points(info: DistInfo) -> str:
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in sorted(points.items()))
        for group, points in sorted(info.entry_points.items())
    )
    return "\n".join(groups)
