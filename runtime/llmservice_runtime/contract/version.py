"""The version of every program; pyproject.toml and the charts say the same. Images have no metadata of packages."""

from __future__ import annotations

VERSION = "0.1.0"
