"""What `make lock` does beyond uv. `layer ENGINE.lock LAYER.lock`: torch, and what it brings, of an engine's lock."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from llmservice_runtime.install.lockfile import entries, names

TORCH = ("torch", "triton", "cuda-toolkit", "nvidia-")
"""Names, and how names begin, of what is fetched for torch, and asked for by nothing else in another version."""


def main(argv: list[str] | None = None) -> int:
    """0 = written."""
    parser = argparse.ArgumentParser(prog="llmservice_runtime.install.locking", description=__doc__)
    parser.add_argument("job", choices=("layer",))
    parser.add_argument("engine", type=Path)
    parser.add_argument("layer", type=Path)
    args = parser.parse_args(argv)
    args.layer.write_text("".join(entry for entry in entries(args.engine.read_text()) if _is_torch(names(entry)[0])))
    return 0


def _is_torch(name: str) -> bool:
    return any(name == known or (known.endswith("-") and name.startswith(known)) for known in TORCH)


if __name__ == "__main__":
    sys.exit(main())
