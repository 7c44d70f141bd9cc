"""Other people's proxies: each in an environment of its own below the cache, fetched when it is measured first."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.process import free_port
from cluster import debian
from cluster.artefact import obtain
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.install.uv import Uv
from llmservice_runtime.install.wheel import exclusive

HERE = Path(__file__).parent
ELSEWHERE = "/usr/sbin"
"""Where distributions put HAProxy, which is not on everybody's PATH."""
STREAMS = 4000
"""At a time, at most: what those are told that have a bound."""


@dataclass(frozen=True, slots=True)
class Start:
    """How one is started in front of an engine."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def vllm_router(engine: int, port: int, folder: Path) -> Start:
    """vLLM's router, in Rust; with one replica there is nothing to choose."""
    program = _environment("vllm-router") / "bin" / "vllm-router"
    options = ["--policy", "round_robin", "--max-concurrent-requests", str(STREAMS), "--log-level", "warning"]
    own = ["--worker-urls", f"http://127.0.0.1:{engine}", "--host", "127.0.0.1", "--port", str(port)]
    options += ["--worker-startup-check-interval", "1", "--prometheus-port", str(free_port())]
    return Start([str(program), *own, *options])


def litellm(engine: int, port: int, folder: Path) -> Start:
    """LiteLLM's proxy, one worker, without a database."""
    program = _environment("litellm") / "bin" / "litellm"
    params = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{engine}/v1", "api_key": "none"}
    config = folder / "litellm.json"
    config.write_text(json.dumps({"model_list": [{"model_name": "bench", "litellm_params": params}]}))
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # nothing is fetched
    environment["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # ours asks for no key either
    return Start([*command, "--telemetry", "False"], environment)


def haproxy(engine: int, port: int, folder: Path) -> Start:
    """HAProxy, told to pass on each piece at once."""
    program, libraries = _haproxy()
    config = folder / "haproxy.cfg"
    config.write_text(
        f"global\n  maxconn {STREAMS}\n"
        "defaults\n  mode http\n  option http-no-delay\n"
        "  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n"
        f"listen bench\n  bind 127.0.0.1:{port}\n  http-reuse always\n  server engine 127.0.0.1:{engine}\n"
    )
    return Start([str(program), "-db", "-f", str(config)], {"LD_LIBRARY_PATH": libraries} if libraries else {})


RIVALS: Mapping[str, Callable[[int, int, Path], Start]] = {
    "HAProxy": haproxy,
    "vllm-router": vllm_router,
    "LiteLLM": litellm,
}


def _environment(name: str) -> Path:
    """A virtual environment from the lock of that name. UserError when it can't be fetched."""
    lock = HERE / f"{name}.lock"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache_dir() / "bench" / f"{name}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f".{folder.name}.lock"), f"another process fetches {name}; waiting for it"):
        made = folder / "made"
        if not made.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
            into = ["--python", str(folder / "bin" / "python")]
            Uv(folder.with_suffix(".log")).install(into, lock, name, 0)
            made.touch()
    return folder


def _haproxy() -> tuple[Path, str]:
    """The one on PATH, else that of Debian's package with the libraries that are not here. ClusterError."""
    if found := shutil.which("haproxy") or shutil.which("haproxy", path=ELSEWHERE):
        return Path(found), ""
    made = obtain(
        "haproxy-package", "HAProxy from its package", lambda folder, log: debian.unpacked("haproxy", folder, log)
    )
    libraries = {str(file.parent) for file in made.glob("usr/lib/*/*.so.*")}
    return made / "usr/sbin/haproxy", os.pathsep.join(sorted(libraries))
