"""Which GPUs an environment shows, and what shows some alone: the variables of CUDA and of llama.cpp."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.machine.machine import Device, Gpu
from llmservice_runtime.machine.visible import CUDA_ENV, ORDER_ENV, VISIBLE_ENV, alone, seen, unknown
from llmservice_runtime.machine.vulkan import VulkanDevice, numbered, vulkan_gpus

GIB = 1 << 30
NVIDIA = tuple(
    Gpu("RTX 4090", Device.NVIDIA, 24 * GIB, 89, id=f"GPU-{letter}1-2", index=n, vulkan=n + 1)
    for n, letter in enumerate("abc")
)
RADEON = tuple(Gpu("RX 7900 XT", Device.AMD, 20 * GIB, id=f"Vulkan {n}", vulkan=n) for n in (0, 2))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", [1]),
        ("2,0", [2, 0]),
        ("GPU-b1-2", [1]),
        ("gpu-c", [2]),
        ("GPU-c1-2, 0", [2, 0]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),
        ("0,0", [0]),
        ("NoDevFiles", []),
        ("MIG-1234", [0, 1, 2]),
    ],
)
def test_a_list_of_cuda_means_what_it_means_to_cuda(text: str, numbers: list[int]) -> None:
    assert [gpu.index for gpu in seen(NVIDIA, {CUDA_ENV: text})] == numbers


def test_a_list_says_nothing_of_gpus_that_it_is_not_for() -> None:
    assert seen(RADEON, {CUDA_ENV: "7"}) == RADEON and unknown(RADEON, {CUDA_ENV: "7"}) is None
    assert [gpu.vulkan for gpu in seen(RADEON, {VISIBLE_ENV: "2"})] == [2]
    assert seen(NVIDIA, {}) == NVIDIA and unknown(NVIDIA, {CUDA_ENV: "-1"}) is None
    assert unknown(RADEON, {VISIBLE_ENV: "0,1"}) == (VISIBLE_ENV, "1")
    assert unknown(NVIDIA, {CUDA_ENV: "0,GPU-x"}) == (CUDA_ENV, "GPU-x")


@given(st.lists(st.sampled_from(NVIDIA), unique=True, min_size=1), st.booleans())
def test_who_is_to_see_some_alone_sees_them_in_their_order(gpus: list[Gpu], by_vulkan: bool) -> None:
    """Equal GPUs, told apart by their ids."""
    added = alone(gpus, {})
    name = VISIBLE_ENV if by_vulkan else CUDA_ENV
    assert [gpu.id for gpu in seen(NVIDIA, {name: added[name]})] == [gpu.id for gpu in gpus]


def test_numbers_where_the_driver_gives_no_uuid_are_those_of_nvidia_smi() -> None:
    bare = [Gpu("Orin", Device.NVIDIA, GIB, 87, id=f"NVIDIA {n}", index=n) for n in (0, 1)]
    assert alone(bare[1:], {}) == {CUDA_ENV: "1", ORDER_ENV: "PCI_BUS_ID"}
    assert alone(RADEON[1:], {}) == {VISIBLE_ENV: "2"}
    assert alone(NVIDIA[:1], {CUDA_ENV: "MIG-1"}) == {}, "a slice is the user's to name"


def test_vulkan_tells_who_is_who_by_the_uuid_of_the_driver() -> None:
    devices = [
        VulkanDevice("AMD Radeon RX 7600M XT (RADV NAVI33)", 0x1002, 2, 8 * GIB, "aa", 0),
        VulkanDevice("llvmpipe", 0x10005, 4, GIB, "bb", 1),
        VulkanDevice("NVIDIA GeForce RTX 4090", 0x10DE, 2, 24 * GIB, "b1-2", 2),
        VulkanDevice("AMD Radeon RX 7600M XT", 0x1002, 2, 8 * GIB, "aa", 4),
        VulkanDevice("Intel(R) Iris(R) Xe Graphics", 0x8086, 1, 8 * GIB, "", 3),
    ]
    found = vulkan_gpus(lambda: devices, lambda: 64 * GIB)
    assert [(gpu.id, gpu.vulkan) for gpu in found] == [("GPU-aa", 0), ("GPU-b1-2", 2), ("Vulkan 3", 3)]
    assert [gpu.vulkan for gpu in numbered(NVIDIA, lambda: devices)] == [None, 2, None]
