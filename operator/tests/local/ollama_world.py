"""A store as Ollama keeps it, with models of the demo model's file; and what is in it, to see that nothing changed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

DEMO = Path(__file__).parents[3] / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"
KIND = "application/vnd.ollama.image."


class Store:
    """`~/.ollama/models` of somebody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs").mkdir(parents=True)

    def blob(self, content: bytes) -> tuple[str, int]:
        """Keep a file; its digest and size."""
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs" / f"sha256-{digest}").write_bytes(content)
        return f"sha256:{digest}", len(content)

    def path(self, name: str) -> Path:
        """Of a manifest, by all four parts of its name."""
        return self.folder / "manifests" / name

    def keep(self, name: str, **layers: bytes) -> dict[str, str]:
        """A model `HOST/NAMESPACE/MODEL/TAG` with these layers, `_` for `.` in their kinds; the digests."""
        found, digests = [], {}
        for kind, content in layers.items():
            digests[kind], size = self.blob(content)
            found.append({"mediaType": KIND + kind, "digest": digests[kind], "size": size})
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        config = {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": self.blob(b"{}")[0],
            "size": 2,
        }
        path.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": found}))
        return digests

    def blob_path(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "-")

    def listing(self) -> dict[str, tuple[int, int]]:
        """Every file with its size and time of change."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
