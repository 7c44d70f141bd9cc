"""What a build for GPUs needs beside a compiler: found here, or said to be missing before anything is fetched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.tools import how_to_get
from llmservice_runtime.machine.probe import nvidia_gpus
from llmservice_runtime.machine.vulkan import VISIBLE_ENV, listed, usable

HEADER_VERSION = 272
"""Of Vulkan 1.3: the first with VK_EXT_layer_settings, which llama.cpp names without asking whether it is there."""
SPIRV_CONFIG = "SPIRV-HeadersConfig.cmake"
"""By which CMake knows SPIR-V's headers; who copies the headers alone lacks it."""
CUDA_FOLDER = Path("/usr/local/cuda")
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
    """What the build is told beside what the user's environment says: where nvcc is, and what else lies in the SDK."""
    env = os.environ if environ is None else environ
    if name == "vulkan" and (sdk := env.get("VULKAN_SDK")):
        # CMake looks there for Vulkan by itself, and for SPIR-V's headers only where it is told.
        return {"CMAKE_PREFIX_PATH": os.pathsep.join(filter(None, (sdk, env.get("CMAKE_PREFIX_PATH"))))}
    compiler = nvcc(env) if name == "cuda" else ""
    return {"CUDACXX": compiler} if compiler else {}


def nvcc(environ: Mapping[str, str]) -> str:
    """CUDACXX, else nvcc on the path, else that of the toolkit in its usual place; empty = there is none."""
    told = environ.get("CUDACXX", "")
    return shutil.which(told or "nvcc", path=environ.get("PATH")) or ("" if told else _usual())


def _usual() -> str:
    return shutil.which(str(CUDA_FOLDER / "bin" / "nvcc")) or ""


def _require_cuda(title: str, environ: Mapping[str, str]) -> None:
    if not nvidia_gpus():
        raise InstallError(
            f"{title} can't be built for CUDA: it is built for the GPUs that nvidia-smi reports, and there are none.",
            "Install NVIDIA's driver, or build for another kind of GPU with --device vulkan.",
        )
    if not nvcc(environ):
        raise InstallError(
            f"{title} can't be built for CUDA: there is no nvcc, neither as CUDACXX "
            f"({environ.get('CUDACXX', 'not set')}) nor on the path nor in {CUDA_FOLDER}/bin.",
            "Install NVIDIA's CUDA toolkit, or set CUDACXX to the nvcc that is here; --device vulkan needs none.",
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
