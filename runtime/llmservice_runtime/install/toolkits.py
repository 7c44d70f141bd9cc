"""What a build for GPUs needs beside a compiler: found here, or said to be missing before anything is fetched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.engines.base.recipe import CUDA_ARCHITECTURES_ENV, CUDA_COMPILER_ENV
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.tools import how_to_get
from llmservice_runtime.machine.probe import nvidia_gpus
from llmservice_runtime.machine.visible import VISIBLE_ENV
from llmservice_runtime.machine.vulkan import listed, usable

HEADER_VERSION = 272
"""Of Vulkan 1.3: the first with VK_EXT_layer_settings, which llama.cpp names without asking whether it is there."""
SPIRV_CONFIG = "SPIRV-HeadersConfig.cmake"
"""By which CMake knows SPIR-V's headers; who copies the headers alone lacks it."""
OLDEST = 75
"""Compute capability of the first GPUs that CUDA 13 compiles for."""
_VULKAN = {
    "debian": "apt-get install glslc libvulkan-dev spirv-headers",
    "fedora": "dnf install glslc vulkan-headers vulkan-loader-devel spirv-headers-devel",
    "rhel": "dnf install glslc vulkan-headers vulkan-loader-devel spirv-headers-devel",
    "arch": "pacman -S shaderc vulkan-headers vulkan-icd-loader spirv-headers",
}
_SDK = "or unpack the Vulkan SDK (vulkan.lunarg.com) and set VULKAN_SDK to its folder x86_64"


def require_toolkit(name: str, title: str, environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> None:
    """InstallError when a build of `title` with this toolkit (vulkan, cuda, or none) can't be made or used here."""
    env = os.environ if environ is None else environ
    if name == "vulkan":
        _require_vulkan(title, env, root)
    elif name == "cuda":
        _require_cuda(title, env)


def toolkit_environ(name: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the build is told beside what the user's environment says: what else lies in Vulkan's SDK."""
    env = os.environ if environ is None else environ
    if name == "vulkan" and (sdk := env.get("VULKAN_SDK")):
        # CMake looks there for Vulkan by itself, and for SPIR-V's headers only where it is told.
        return {"CMAKE_PREFIX_PATH": os.pathsep.join(filter(None, (sdk, env.get("CMAKE_PREFIX_PATH"))))}
    return {}


def cuda_from(packages: Path) -> dict[str, str]:
    """Make NVIDIA's packages, installed in this folder, a toolkit as compilers and CMake look for it: libraries with
    the names that are linked, in the folders that are searched. What the build is told."""
    root = packages / "nvidia" / "cu13"
    for library in (root / "lib").glob("lib*.so.*"):
        name = library.with_name(f"{library.name.partition('.so.')[0]}.so")
        if not name.exists():
            name.symlink_to(library.name)
    if not (root / "lib64").exists():
        (root / "lib64").symlink_to("lib")
    return {CUDA_COMPILER_ENV: str(root / "bin" / "nvcc"), "CUDAToolkit_ROOT": str(root)}


def _require_cuda(title: str, environ: Mapping[str, str]) -> None:
    gpus = () if environ.get(CUDA_ARCHITECTURES_ENV) else nvidia_gpus()
    if not (gpus or environ.get(CUDA_ARCHITECTURES_ENV)):
        raise InstallError(
            f"{title} can't be built for CUDA: it is built for the GPUs that nvidia-smi reports, and there are none.",
            "Install NVIDIA's driver, build for another kind of GPU with --device vulkan, or name in "
            f"{CUDA_ARCHITECTURES_ENV} the kinds to build for (86: compute capability 8.6).",
        )
    if own := environ.get(CUDA_COMPILER_ENV):
        if not shutil.which(own, path=environ.get("PATH")):
            raise InstallError(
                f"{title} can't be built for CUDA: {CUDA_COMPILER_ENV} names {own}, which is no program.",
                "Correct it, or unset it: then NVIDIA's compiler is fetched.",
            )
        return
    for gpu in gpus:
        if gpu.capability < OLDEST:
            raise InstallError(
                f"{title} can't be built for this {gpu.product}: CUDA 13 has no code for compute capability "
                f"{gpu.capability / 10:.1f}, and begins with {OLDEST / 10:.1f}.",
                f"Set {CUDA_COMPILER_ENV} to the nvcc of a CUDA 12 that is installed here, or use --device vulkan.",
            )


def _require_vulkan(title: str, environ: Mapping[str, str], root: Path) -> None:
    places = [Path(environ["VULKAN_SDK"])] if environ.get("VULKAN_SDK") else []
    places += [root / "usr", root / "usr/local"]
    path = os.pathsep.join([*(str(place / "bin") for place in places), environ.get("PATH", "")])
    missing = [] if shutil.which("glslc", path=path) else ["glslc (the compiler of shaders)"]
    found = next((file for place in places if (file := place / "include/vulkan/vulkan_core.h").is_file()), None)
    if not (found and found.with_name("vulkan.hpp").is_file()):
        missing.append(f"Vulkan's headers (vulkan/vulkan.hpp, 1.3.{HEADER_VERSION} or newer)")
    if not any(_has_spirv(place) for place in places):
        missing.append(f"SPIR-V's headers (spirv/unified1/spirv.hpp and {SPIRV_CONFIG})")
    if missing:
        raise InstallError(
            f"{title} can't be built for Vulkan: there is no {' and no '.join(missing)}.",
            f"{how_to_get(_VULKAN, 'glslc and the headers of Vulkan and SPIR-V')} ({_SDK}).",
        )
    if found and (version := _header_version(found)) < (1, 3, HEADER_VERSION):
        raise InstallError(
            f"{title} can't be built for Vulkan: the headers in {found.parent} are version "
            f"{'.'.join(map(str, version))}, and it needs 1.3.{HEADER_VERSION} or newer (VK_EXT_layer_settings).",
            f"Use newer headers: Debian 13 has them (1.4.309), Debian 12 has not (1.3.239); {_SDK}.",
        )
    if not usable(listed()):
        raise InstallError(
            f"{title} would have nothing to compute on: Vulkan shows no GPU here.",
            f"Install the GPU's Vulkan driver (for AMD and Intel Mesa's), or name a device in {VISIBLE_ENV}.",
        )


def _has_spirv(place: Path) -> bool:
    config = any(
        any(place.glob(f"{folder}/cmake/SPIRV-Headers/{SPIRV_CONFIG}")) for folder in ("share", "lib*", "lib/*")
    )
    return config and (place / "include/spirv/unified1/spirv.hpp").is_file()


def _header_version(header: Path) -> tuple[int, int, int]:
    """(major, minor, patch) of vulkan_core.h; zeros where it does not say."""
    text = header.read_text(errors="replace")
    patch = re.search(r"^#define VK_HEADER_VERSION (\d+)", text, re.MULTILINE)
    whole = re.search(r"^#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(0, (\d+), (\d+)", text, re.MULTILINE)
    return (int(whole[1]), int(whole[2]), int(patch[1])) if whole and patch else (0, 0, 0)
