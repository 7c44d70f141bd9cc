"""A step of building the wheel: the page's libraries are in it. A checkout that is installed as it is gets its own by
make. setuptools loads this file alone, so it imports nothing of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from setuptools.command.build_py import build_py


class WithLibraries(build_py):  # type: ignore[misc]
    """Brings what is missing, and says so where it can't: the page then says how to get it."""

    def run(self) -> None:
        """As setuptools calls it."""
        if not self.editable_mode:
            subprocess.run([sys.executable, Path(__file__).with_name("vendor.py")], check=False)
        super().run()
