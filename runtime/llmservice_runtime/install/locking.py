"""What `make lock` does beyond uv.

`layer ENGINE.lock LAYER.lock`: torch, and what it brings, of an engine's lock.
`sizes LOCK... [--without LAYER.lock]`: what a lock fetches and takes, beside it, for every machine and Python.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from llmservice_runtime.install.lockfile import entries, names
from llmservice_runtime.install.space import NOTHING, Size, sizes_file

TORCH = ("torch", "triton", "cuda-toolkit", "nvidia-")
"""Names, and how names begin, of what is fetched for torch, and asked for by nothing else in another version."""
MACHINES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.12", "3.13")
ABREAST = 12


def main(argv: list[str] | None = None) -> int:
    """0 = written."""
    parser = argparse.ArgumentParser(prog="llmservice_runtime.install.locking", description=__doc__)
    jobs = parser.add_subparsers(dest="job", required=True)
    layer = jobs.add_parser("layer")
    layer.add_argument("engine", type=Path)
    layer.add_argument("layer", type=Path)
    sizes = jobs.add_parser("sizes")
    sizes.add_argument("locks", type=Path, nargs="+")
    sizes.add_argument("--without", type=Path)
    args = parser.parse_args(argv)
    if args.job == "layer":
        args.layer.write_text("".join(entry for entry in entries(args.engine.read_text()) if _torch(names(entry)[0])))
        return 0
    left_out = set(names(args.without.read_text())) if args.without else set()
    for lock in args.locks:
        rows = []
        for machine, python in product(MACHINES, PYTHONS):
            size, source = _size(lock, left_out, machine, python)
            rows += [f'  "{machine}-{python}": [{size.fetched}, {size.unpacked}]'] if size.fetched else []
        rows += [f'  "source": {source}'] if source else []
        sizes_file(lock).write_text("{\n" + ",\n".join(rows) + "\n}\n")
    return 0


def _torch(name: str) -> bool:
    return any(name == known or (known.endswith("-") and name.startswith(known)) for known in TORCH)


def _size(lock: Path, left_out: set[str], machine: str, python: str) -> tuple[Size, int]:
    """Of its wheels, and of what has none, in bytes; nothing where it can't be installed."""
    platform = f"{machine}-manylinux_2_34"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pylock.toml"
        command = ["uv", "pip", "compile", "-q", "--no-deps", "--format", "pylock.toml", "--python-version", python]
        run = subprocess.run([*command, "--python-platform", platform, str(lock), "-o", str(out)], check=False)
        if run.returncode:
            return NOTHING, 0
        packages = tomllib.loads(out.read_text())["packages"]
    packages = [package for package in packages if package["name"] not in left_out]
    wheels = [_wheel(package["wheels"]) for package in packages if package.get("wheels")]
    with ThreadPoolExecutor(ABREAST) as pool:
        unpacked = sum(pool.map(lambda file: _unpacked(file["url"], file["size"]), wheels))
    source = sum(package["sdist"]["size"] for package in packages if not package.get("wheels"))
    return Size(sum(file["size"] for file in wheels), unpacked), source


def _wheel(wheels: list[dict[str, Any]]) -> dict[str, Any]:
    """The one that uv takes: made for the machine before made for any."""
    return min(wheels, key=lambda wheel: str(wheel["url"]).endswith("-any.whl"))


@cache
def _unpacked(url: str, size: int) -> int:
    """Bytes in a wheel, by the directory at its end."""
    with zipfile.ZipFile(io.BufferedReader(_Remote(url, size), 1 << 18)) as wheel:
        return sum(entry.file_size for entry in wheel.infolist())


class _Remote(io.RawIOBase):
    """A file behind an address, of which only what is read is fetched."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._at = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        asked = urllib.request.Request(self._url, headers={"Range": f"bytes={self._at}-{end - 1}"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            data = answer.read()
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


if __name__ == "__main__":
    sys.exit(main())
