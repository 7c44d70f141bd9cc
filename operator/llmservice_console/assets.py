"""The page's files, as they are sent: each with its type, its hash, and compressed. Read anew when they change."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from llmservice_console import vendor

HERE = Path(__file__).parent
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Kinds of files that are served; a browser takes them for nothing else."""
PACKED = frozenset({".png", ".webp", ".woff2"})
"""Kinds that are compressed already."""
PLACE = "{{assets}}"
"""In a page: the URL below which its files are."""
PAGE, MISSING = "static/index.html", "static/missing.html"
SMALL = 256
"""Bytes: compressing less saves nothing."""


@dataclass(frozen=True)
class Asset:
    """One file."""

    body: bytes
    kind: str
    packs: bool = True

    @cached_property
    def etag(self) -> str:
        """Its hash, as a header has it but for the quotes."""
        return hashlib.sha256(self.body).hexdigest()[:32]

    @cached_property
    def packed(self) -> bytes | None:
        """The same through gzip; None where that saves nothing."""
        if not self.packs or len(self.body) < SMALL:
            return None
        return gzip.compress(self.body, compresslevel=9, mtime=0)


class Assets:
    """What was found in `folder`: `static/` is ours, `vendor/` the libraries, which may be missing."""

    def __init__(self, folder: Path = HERE) -> None:
        self._folder = folder
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._files: dict[str, Asset] = {}
        self.digest = ""
        """Of all files: another one is another URL, so a browser keeps for ever what it has of one."""

    def look(self) -> None:
        """Read everything again if a file was changed, added or removed since."""
        found = sorted(path for name in ("static", "vendor") for path in (self._folder / name).rglob("*"))
        paths = [path for path in found if path.suffix in TYPES and path.is_file()]
        stats = [(path, path.stat()) for path in paths]
        seen = tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)
        if seen == self._seen and self.digest:
            return
        self._files = {path.relative_to(self._folder).as_posix(): _asset(path) for path in paths}
        whole = "\n".join(f"{name} {asset.etag}" for name, asset in sorted(self._files.items()))
        self.digest, self._seen = hashlib.sha256(whole.encode()).hexdigest()[:16], seen

    @property
    def complete(self) -> bool:
        """Whether the libraries are there."""
        return all(f"vendor/{name}" in self._files for name in vendor.FILES)

    def file(self, name: str) -> Asset | None:
        """`static/main.js`, `vendor/htm.js`; pages are none of these."""
        return None if name.endswith(".html") else self._files.get(name)

    def page(self, base: str) -> Asset:
        """The page, whose files are below the URL `base`; without libraries one that says how to get them."""
        page = self._files[PAGE if self.complete else MISSING]
        return Asset(page.body.replace(PLACE.encode(), f"{base}/{self.digest}".encode()), page.kind)

    def packed_bytes(self) -> int:
        """What a browser loads of it at most, compressed; licences, which nobody loads, apart."""
        files = [asset for name, asset in self._files.items() if not name.endswith((".txt", "missing.html"))]
        return sum(len(asset.packed or asset.body) for asset in files)


def _asset(path: Path) -> Asset:
    return Asset(path.read_bytes(), TYPES[path.suffix], path.suffix not in PACKED)
