"""llama.cpp for a GPU: what the build needs, what stands where another one is asked for, which GPUs are seen."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.torch_layer import TORCH
from llmservice_runtime.engines.llamacpp.install import cuda
from llmservice_runtime.engines.llamacpp.install.recipe import CUDA, RECIPE, VULKAN
from llmservice_runtime.install import make, toolkits
from llmservice_runtime.install.environment import installed_devices
from llmservice_runtime.install.errors import InstallError
from llmservice_runtime.install.lockfile import entries
from llmservice_runtime.install.make import Install, chosen, wheel_plan
from llmservice_runtime.install.toolkits import cuda_from, require_toolkit, toolkit_environ
from llmservice_runtime.install.wheel import WheelPlan
from llmservice_runtime.machine.drm import drm_gpus
from llmservice_runtime.machine.machine import Device, Gpu
from llmservice_runtime.machine.visible import VISIBLE_ENV
from llmservice_runtime.machine.vulkan import VulkanDevice, usable, vulkan_gpus

GIB = 1 << 30
LLAMA = EngineType.LLAMA_CPP
RADEON = VulkanDevice("AMD Radeon RX 7600M XT (RADV NAVI33)", 0x1002, 2, 8 * GIB, number=1)
IRIS = VulkanDevice("Intel(R) Iris(R) Xe Graphics", 0x8086, 1, 12 * GIB, number=2)
SOFTWARE = VulkanDevice("llvmpipe (LLVM 15.0.6, 256 bits)", 0x10005, 4, 2 * GIB)


def sdk(folder: Path, patch: int) -> dict[str, str]:
    """An environment whose Vulkan SDK has headers of this version."""
    for file, text in {
        "bin/glslc": "#!/bin/sh\n",
        "include/vulkan/vulkan_core.h": f"#define VK_HEADER_VERSION {patch}\n"
        "#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, 3, VK_HEADER_VERSION)\n",
        "include/vulkan/vulkan.hpp": "",
        "include/spirv/unified1/spirv.hpp": "",
        "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake": "",
    }.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    (folder / "bin/glslc").chmod(0o755)
    return {"VULKAN_SDK": str(folder), "PATH": ""}


def test_what_vulkan_lacks_is_named_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"no glslc.* and no Vulkan's headers.* and no SPIR-V's headers") as error:
        require_toolkit("vulkan", "llama.cpp", {"PATH": ""}, tmp_path)
    assert "VULKAN_SDK" in error.value.remedy


def test_headers_that_are_too_old_are_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12 has 1.3.239, in which llama.cpp doesn't compile."""
    monkeypatch.setattr(toolkits, "listed", lambda: (RADEON,))
    with pytest.raises(InstallError, match=r"are version 1\.3\.239, and it needs 1\.3\.272"):
        require_toolkit("vulkan", "llama.cpp", sdk(tmp_path, 239), tmp_path)
    require_toolkit("vulkan", "llama.cpp", sdk(tmp_path, 272), tmp_path)


def test_spirv_headers_need_what_cmake_knows_them_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else CMake ends the build after everything is fetched."""
    monkeypatch.setattr(toolkits, "listed", lambda: (RADEON,))
    env = sdk(tmp_path, 309)
    (tmp_path / "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake").unlink()
    with pytest.raises(InstallError, match=r"no SPIR-V's headers .*SPIRV-HeadersConfig\.cmake"):
        require_toolkit("vulkan", "llama.cpp", env, tmp_path)


def test_cmake_is_told_where_the_sdk_is() -> None:
    """It looks in VULKAN_SDK for Vulkan alone."""
    assert toolkit_environ("vulkan", {}) == {}
    assert toolkit_environ("vulkan", {"VULKAN_SDK": "/sdk"}) == {"CMAKE_PREFIX_PATH": "/sdk"}
    env = {"VULKAN_SDK": "/sdk", "CMAKE_PREFIX_PATH": "/opt/other"}
    assert toolkit_environ("vulkan", env) == {"CMAKE_PREFIX_PATH": "/sdk:/opt/other"}


def test_a_machine_whose_vulkan_shows_no_gpu_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE_ENV, raising=False)
    monkeypatch.setattr(toolkits, "listed", lambda: (SOFTWARE,))
    with pytest.raises(InstallError, match="Vulkan shows no GPU") as error:
        require_toolkit("vulkan", "llama.cpp", sdk(tmp_path, 309), tmp_path)
    assert VISIBLE_ENV in error.value.remedy
    monkeypatch.setenv(VISIBLE_ENV, "0")
    require_toolkit("vulkan", "llama.cpp", sdk(tmp_path, 309), tmp_path)


def test_cuda_needs_a_gpu_that_its_compiler_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkits, "nvidia_gpus", lambda: ())
    with pytest.raises(InstallError, match="nvidia-smi") as error:
        require_toolkit("cuda", "llama.cpp", {})
    assert "CUDAARCHS" in error.value.remedy
    require_toolkit("cuda", "llama.cpp", {"CUDAARCHS": "86"})
    monkeypatch.setattr(toolkits, "nvidia_gpus", lambda: (Gpu("RTX 4070", Device.NVIDIA, 8 * GIB, 89),))
    require_toolkit("cuda", "llama.cpp", {})
    monkeypatch.setattr(toolkits, "nvidia_gpus", lambda: (Gpu("GTX 1060", Device.NVIDIA, 6 * GIB, 61),))
    with pytest.raises(InstallError, match=r"this GTX 1060: CUDA 13 has no code for compute capability 6\.1") as error:
        require_toolkit("cuda", "llama.cpp", {"PATH": ""})
    assert "CUDACXX" in error.value.remedy
    nvcc = tmp_path / "nvcc"
    with pytest.raises(InstallError, match=r"CUDACXX names .*nvcc, which is no program"):
        require_toolkit("cuda", "llama.cpp", {"PATH": "", "CUDACXX": str(nvcc)})
    nvcc.write_text("#!/bin/sh\n")
    nvcc.chmod(0o755)
    require_toolkit("cuda", "llama.cpp", {"PATH": "", "CUDACXX": str(nvcc)})


def test_the_compiler_for_cuda_is_fetched_unless_another_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs to install a CUDA toolkit; what is fetched for it is part of the size that is said first."""
    request = Install(LLAMA, device="cuda")
    monkeypatch.delenv("CUDACXX", raising=False)
    monkeypatch.setenv("CUDAARCHS", "86;89")
    plan = wheel_plan(request)
    assert plan and plan.fetched_toolkit and "-DCMAKE_CUDA_ARCHITECTURES=86;89" in plan.flags
    size, key = make.expected(request).fetched, plan.key
    monkeypatch.setenv("CUDACXX", "/usr/local/cuda-12/bin/nvcc")
    own = plan_of("cuda")
    assert own.fetched_toolkit is None and own.key != key
    assert size - make.expected(request).fetched > 500_000_000
    assert plan_of("vulkan").fetched_toolkit is None and plan_of("cpu").fetched_toolkit is None


def plan_of(device: str) -> WheelPlan:
    plan = wheel_plan(Install(LLAMA, device=device))
    assert plan
    return plan


def test_packages_of_nvidia_become_a_toolkit(tmp_path: Path) -> None:
    """CMake and nvcc look for lib64, and for libraries without a version in their names."""
    root = tmp_path / "nvidia/cu13"
    (root / "lib").mkdir(parents=True)
    (root / "lib/libcublas.so.13").write_text("cublas")
    for _ in range(2):
        told = cuda_from(tmp_path)
    assert told == {"CUDACXX": str(root / "bin/nvcc"), "CUDAToolkit_ROOT": str(root)}
    assert (root / "lib64/libcublas.so").read_text() == "cublas"


def test_cuda_libraries_are_loaded_from_packages_before_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is linked to is on no path of the loader's."""
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "nothing"), str(tmp_path)])
    cuda.load()
    assert not loaded, "an environment for another toolkit has none"
    (tmp_path / "nvidia/cu13/lib").mkdir(parents=True)
    for name in cuda.LIBRARIES:
        (tmp_path / "nvidia/cu13/lib" / name).touch()
    exec(CUDA.startup)
    assert [Path(path).name for path in loaded] == list(cuda.LIBRARIES)


def test_what_cuda_builds_load_is_what_they_are_compiled_with() -> None:
    """Of torch's versions, too: the image stores one."""
    there = CUDA.lock.read_text()
    assert CUDA.wheel and CUDA.wheel.toolkit_lock
    for lock in (CUDA.wheel.toolkit_lock, TORCH.lock):
        for package in ("nvidia-cublas", "nvidia-cuda-runtime"):
            assert version_of(package, lock.read_text()) == version_of(package, there)
    plain = entries(RECIPE.lock.read_text())
    assert [entry for entry in entries(there) if not entry.startswith("nvidia-")] == plain


def version_of(package: str, lock: str) -> str:
    (entry,) = [entry for entry in entries(lock) if entry.startswith(f"{package}==")]
    return entry.split()[0]


@pytest.mark.parametrize(("build", "devices"), [(VULKAN, "AMD CPU Intel NVIDIA"), (CUDA, "CPU NVIDIA")])
def test_a_build_for_a_gpu_stays_until_another_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: object, devices: str
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path))
    assert chosen(Install(LLAMA)) is RECIPE
    assert installed_devices(LLAMA) == {Device.CPU}
    (tmp_path / "llamacpp/bin").mkdir(parents=True)
    (tmp_path / "llamacpp/bin/python").touch()
    (tmp_path / "llamacpp/engine.json").write_text(json.dumps({"devices": devices.split()}))
    assert chosen(Install(LLAMA)) is build
    assert chosen(Install(LLAMA, device="cpu")) is RECIPE
    assert installed_devices(LLAMA) == set(map(Device, devices.split()))


def test_builds_for_other_devices_are_other_wheels() -> None:
    keys = [plan.key for device in make.DEVICES if (plan := wheel_plan(Install(LLAMA, device=device)))]
    assert len(set(keys)) == 3


def test_an_engine_without_a_build_for_vulkan_says_so() -> None:
    with pytest.raises(UserError, match="vLLM is not built for vulkan"):
        chosen(Install(EngineType.VLLM, device="vulkan"))


def test_what_replaces_a_build_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMSERVICE_ENGINES_DIR", str(tmp_path))
    (tmp_path / "llamacpp/bin").mkdir(parents=True)
    (tmp_path / "llamacpp/bin/python").touch()
    stamp = tmp_path / "llamacpp/engine.json"
    stamp.write_text(json.dumps({"devices": sorted(VULKAN.devices)}))

    def fail(*_: object) -> Path:
        raise InstallError("no compiler", "get one")

    monkeypatch.setattr(make, "obtain_wheel", fail)
    with pytest.raises(InstallError):
        make.install(Install(LLAMA, device="cpu", wheel_cache=tmp_path / "wheels"))
    said = capsys.readouterr().err
    assert "holds a build for AMD, CPU, Intel, NVIDIA; it is replaced by a build for CPU" in said
    assert stamp.is_file(), "what stands here counts until the new build is there"


def test_gpus_are_those_that_vulkan_shows() -> None:
    found = vulkan_gpus(lambda: (SOFTWARE, RADEON, IRIS), free=lambda: 10 * GIB)
    assert found == (Gpu(RADEON.name, Device.AMD, 8 * GIB), Gpu(IRIS.name, Device.INTEL, 5 * GIB))


def test_devices_that_are_named_are_taken_whatever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE_ENV, "1,7,x")
    assert usable((RADEON, SOFTWARE)) == (SOFTWARE,)


def test_the_kernel_tells_of_gpus_without_a_driver_library(tmp_path: Path) -> None:
    for name, files in {
        "card0": {"vendor": "0x8086\n", "device": "0x9a49\n"},
        "card1": {"vendor": "0x1002\n", "device": "0x7480\n", "mem_info_vram_total": str(8 * GIB)},
        "card2": {"vendor": "0x1a03\n", "device": "0x2000\n"},
        "card0-eDP-1": {"vendor": "0x8086\n", "device": "0x9a49\n"},
    }.items():
        folder = tmp_path / "sys/class/drm" / name / "device"
        folder.mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(text)
    assert drm_gpus(tmp_path) == (
        Gpu("Intel GPU (8086:9a49)", Device.INTEL, 0),
        Gpu("AMD GPU (1002:7480)", Device.AMD, 8 * GIB),
    )
    assert drm_gpus(tmp_path / "nothing") == ()
