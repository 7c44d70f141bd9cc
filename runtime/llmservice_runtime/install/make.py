"""Making an engine's environment: a virtual one of its own with locked packages and this very runtime linked in."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines import registry
from llmservice_runtime.engines.base.recipe import Layer, Recipe
from llmservice_runtime.install import fill, layers
from llmservice_runtime.install.environment import STAMP, engines_dir, install_command, recipe_of, stamped
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.layers import Part
from llmservice_runtime.install.lockfile import split_lock
from llmservice_runtime.install.space import NOTHING, Size, gigabytes, one_disk, require_space, size_of, source_of
from llmservice_runtime.install.tools import require_compiler, require_headers, require_libraries, require_venv
from llmservice_runtime.install.uv import Uv
from llmservice_runtime.install.wheel import (
    WheelPlan,
    cached_wheel,
    default_wheel_cache,
    exclusive,
    obtain_wheel,
    plan_wheel,
)
from llmservice_runtime.machine.probe import nvidia_gpus

DEVICES = ("cpu", "cuda", "vulkan")
"""As they are named on a command line."""
BUILD_FACTOR = 6
"""What a build takes while it runs, by the size of its source's archive; no more."""
PROOF_SECONDS = 600
"""An engine's first import compiles all that it imports."""


@dataclass(frozen=True, slots=True)
class Install:
    """What is asked for. `wheel_cache` None = the default cache."""

    engine: EngineType
    wheel_cache: Path | None = None
    rebuild: bool = False
    portable: bool = False
    device: str = ""
    """One of DEVICES. Empty = what stands here already; else the GPU, where one is found and no toolkit is needed."""


def build_wheel(request: Install) -> Path:
    """The engine's own wheel, from the cache or built now."""
    plan = wheel_plan(request)
    if plan is None:
        raise UserError(f"Nothing is built for the engine {request.engine.value}.", "Leave --wheel-only out.")
    return _obtain(request, plan)


def install(request: Install) -> Path:
    """Create (or complete) the engine's environment and prove it; its folder. Nothing is done when it is there already.

    Interrupted anywhere, it is not taken for installed: the stamp is written last.
    """
    folder = engines_dir() / request.engine.folder
    order = _order(request)
    if order is None:
        _say(f"{request.engine.value} runs in {sys.prefix}; there is nothing to install")
        return Path(sys.prefix)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.parent / f".{folder.name}.lock", "another process installs this engine; waiting for it"):
        wanted, there = order.stamp(), stamped(folder)
        if not request.rebuild and there == wanted:
            _say(f"{request.engine.value} is installed in {folder}")
            return folder
        if there is not None and there.get("devices", []) != wanted["devices"]:
            _say(f"{folder} holds {_built_for(order, there)}; it is replaced by {_built_for(order, wanted)}")
        require_venv()
        title = registry.label(order.engine)
        require_libraries(title, order.recipe.libraries)
        if order.recipe.compiles:
            require_compiler(title, why="used with kernels that are compiled when a model is loaded")
            require_headers(title)
        _fill(folder, order, request)
        prove(folder, request.engine, order.recipe)
        (folder / STAMP).write_text(json.dumps(wanted, indent=2) + "\n")
        layers.prune(_layers(recipe_of(request.engine)), folder.parent)
    _say(f"{request.engine.value} is installed in {folder}")
    return folder


def expected(request: Install) -> Size:
    """At most what installing it fetches, and what it takes; without looking into any cache but that of wheels."""
    order = _order(request)
    return _build_size(order, request) + _size(order) if order else NOTHING


@dataclass(frozen=True, slots=True)
class _Order:
    """What is made: the recipe for the device, what is built for it, and the layers it shares."""

    engine: EngineType
    recipe: Recipe
    plan: WheelPlan | None
    parts: tuple[Part, ...]

    def stamp(self) -> dict[str, Any]:
        """What an environment was made from; another value means that it is made again."""
        return {
            "wheel": self.plan.key if self.plan else "",
            "lock": hashlib.sha256(self.recipe.lock.read_bytes()).hexdigest(),
            "python": sys.version.split()[0],
            "runtime": str(fill.RUNTIME),
            "devices": sorted(self.recipe.devices),
            "layers": [part.folder.name for part in self.parts],
            "distributions": [asdict(info) for info in self.recipe.dist_infos],
            **({"startup": self.recipe.startup} if self.recipe.startup else {}),
        }


def _order(request: Install) -> _Order | None:
    """None = the engine needs no environment of its own."""
    recipe = chosen(request)
    if recipe is None:
        return None
    parts = tuple(layers.choose(layer, engines_dir()) for layer in recipe.layers)
    return _Order(request.engine, recipe, wheel_plan(request), parts)


def chosen(request: Install) -> Recipe | None:
    """The recipe for the device; None = the engine needs no environment. UserError where it is not made for that."""
    recipe, word = recipe_of(request.engine), request.device
    if recipe is None:
        return None
    if word in recipe.asked:
        return recipe.asked[word]
    if word == "vulkan":
        reason = f"{registry.label(request.engine)} is not built for {word}."
        raise UserError(reason, "Leave --device out, or name cpu or cuda.")
    if not word and (kept := _kept(request.engine, recipe)):
        return kept
    if recipe.cuda is not None and (word == "cuda" or (not word and nvidia_gpus())):
        return recipe.cuda
    return recipe


def _kept(engine: EngineType, recipe: Recipe) -> Recipe | None:
    """The build that a person asked for and that stands here: who names no device does not want it replaced."""
    made = (stamped(engines_dir() / engine.folder) or {}).get("devices")
    return next((other for other in recipe.asked.values() if sorted(other.devices) == made), None)


def _built_for(order: _Order, stamp: Mapping[str, Any]) -> str:
    devices = stamp.get("devices") or sorted(registry.definition(order.engine).devices)
    return f"a build for {', '.join(devices)}"


def _layers(recipe: Recipe | None) -> tuple[Layer, ...]:
    """Of every device."""
    return (*recipe.layers, *_layers(recipe.cuda)) if recipe else ()


def wheel_plan(request: Install) -> WheelPlan | None:
    """What is built for the engine on this machine; None = nothing."""
    recipe = chosen(request)
    if recipe is None or recipe.wheel is None:
        return None
    locked = split_lock(recipe.lock.read_text(), recipe.wheel.package)
    return plan_wheel(registry.label(request.engine), recipe.wheel, locked, request.portable)


def _obtain(request: Install, plan: WheelPlan) -> Path:
    return obtain_wheel(plan, _wheel_cache(request), request.rebuild)


def _wheel_cache(request: Install) -> Path:
    return (request.wheel_cache or default_wheel_cache()).absolute()


def _fill(folder: Path, order: _Order, request: Install) -> None:
    """A fresh environment, with its layers beside it. What stood here counts until the new one's wheel is built."""
    log, lock = folder.parent / f"{folder.name}.log", folder.parent / f".{folder.name}.packages.lock"
    log.write_text("")
    lock.write_text(fill.locked(order.recipe, order.plan))
    own = size_of(order.recipe.lock)
    if not order.recipe.layers:
        build = _build_size(order, request)
        _announce(order, folder.parent, own.fetched + build.fetched)
        require_space([(folder.parent, own.unpacked), (_wheel_cache(request), build.unpacked)])
        wheel = _obtain(request, order.plan) if order.plan else None
        (folder / STAMP).unlink(missing_ok=True)
        fill.with_pip(folder, lock, wheel, log)
    else:
        uv = Uv(log)
        _measure(folder, order, lock, uv)
        (folder / STAMP).unlink(missing_ok=True)
        for part in order.parts:
            layers.fill(part, uv)
        fill.with_uv(folder, lock, registry.label(order.engine), own, log, uv)
    fill.complete(folder, order.recipe, order.parts)


def _measure(folder: Path, order: _Order, lock: Path, uv: Uv) -> None:
    """Says what is fetched, before anything is; DiskFull when it takes too much."""
    wanted = [(part.lock, part.size) for part in order.parts if not part.complete]
    wanted.append((lock, size_of(order.recipe.lock)))
    absent = [size for file, size in wanted if not uv.has(file)]
    missing = sum(absent, NOTHING)
    for part in order.parts:
        whence = "is there already" if part.complete else f"comes from {part.index or 'the package index'}"
        _say(f"{registry.label(order.engine)}: {part.name} {whence}")
    _announce(order, folder.parent, missing.fetched if absent else None)
    unpacked = sum((size for _, size in wanted), NOTHING).unpacked
    # Files are linked from uv's cache where that is on the same disk.
    if one_disk(uv.cache, folder):
        require_space([(folder.parent, missing.unpacked)])
    else:
        require_space([(folder.parent, unpacked), (uv.cache, missing.unpacked)])


def _announce(order: _Order, engines: Path, fetched: int | None) -> None:
    unpacked = _size(order).unpacked
    said = "nothing to fetch, all of it is in uv's cache"
    if fetched is not None:
        said = f"at most {gigabytes(fetched)} to fetch" if fetched else "how much there is to fetch is not known here"
    _say(f"{registry.label(order.engine)}: {said}; {gigabytes(unpacked)} in {engines}")


def _size(order: _Order) -> Size:
    return sum((part.size for part in order.parts if not part.complete), size_of(order.recipe.lock))


def _build_size(order: _Order, request: Install) -> Size:
    """Of what is built here, when it is not in the cache: source, tools, and room for as much again."""
    if order.plan is None or (cached_wheel(order.plan, _wheel_cache(request)) and not request.rebuild):
        return NOTHING
    tools, source = size_of(order.plan.build_lock), source_of(order.recipe.lock)
    if toolkit := order.plan.fetched_toolkit:
        tools += size_of(toolkit)
    return Size(tools.fetched + source, tools.unpacked + BUILD_FACTOR * source)


def prove(folder: Path, engine: EngineType, recipe: Recipe) -> None:
    """Run what was installed in a child, so that a crash is an InstallError with a remedy."""
    if not recipe.proof:
        return
    _say(f"{registry.label(engine)}: trying it")
    command = [str(folder / "bin" / "python"), "-P", "-m", recipe.proof]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    title, remedy = registry.label(engine), f"Install it again: {install_command(engine)} --rebuild"
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PROOF_SECONDS, check=False, env=env)
    except subprocess.TimeoutExpired as error:
        waited = f"{title} was installed, and did not end its self-test within {PROOF_SECONDS:.0f} s."
        raise InstallError(waited, f"Try it again when the machine does less: {install_command(engine)}") from error
    if run.returncode == 0:
        return
    if recipe.wheel:
        remedy = f"Build it without newer CPU features: {install_command(engine)} --portable --rebuild"
    if run.returncode in (-signal.SIGILL, -signal.SIGSEGV, -signal.SIGBUS):
        name = signal.Signals(-run.returncode).name
        raise InstallError(f"The built {title} crashes on this CPU ({name}).", remedy)
    words = run.stderr.strip().splitlines()
    raise InstallError(f"The built {title} failed its self-test: {words[-1] if words else run.returncode}.", remedy)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
