"""Chromium: the one that is installed, else Debian's package with all that it needs, unpacked into the cache."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Playwright

from cluster import debian
from cluster.artefact import obtain

NAMES = ("chromium", "chromium-browser", "google-chrome")
FONTS = """<?xml version="1.0"?>
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir prefix="relative">usr/share/fonts</dir>
</fontconfig>
"""
"""Fonts of the machine, and those that came with the package."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A program, and what its environment has beside ours."""

    program: Path
    environment: dict[str, str] = field(default_factory=dict)


def chromium() -> Chromium:
    """ClusterError where there is none, and no apt-get to bring it."""
    for name in NAMES:
        if found := shutil.which(name):
            return Chromium(Path(found))
    made = obtain("chromium-package", "Chromium from its package", _unpack)
    libraries = {str(file.parent) for file in made.glob("usr/lib/**/*.so*")}
    path = os.pathsep.join(sorted(libraries))
    environment = {"LD_LIBRARY_PATH": path, "FONTCONFIG_FILE": str(made / "fonts.conf")}
    return Chromium(made / "usr/lib/chromium/chromium", environment)


def launch(playwright: Playwright) -> Browser:
    """Without a window. It runs until it is closed, or Playwright ends. ClusterError as `chromium`."""
    found = chromium()
    # Root, as in containers, has no sandbox there; pages here are our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    return playwright.chromium.launch(
        executable_path=found.program, args=arguments, env={**os.environ, **found.environment}
    )


def _unpack(folder: Path, log: Path) -> None:
    debian.unpacked("chromium", folder, log)
    (folder / "fonts.conf").write_text(FONTS)
