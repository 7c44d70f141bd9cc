"""Names people and drivers use for GPUs."""

from __future__ import annotations

import pytest

from llmservice_runtime.machine.gpu_speeds import SPEEDS
from llmservice_runtime.machine.gpus import UnknownGpu, all_gpus, bandwidth_of, find_gpu, imagined_gpu
from llmservice_runtime.machine.machine import Device

GIB = 1 << 30


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("Tesla T4", "T4"),
        ("Tesla-T4", "T4"),
        ("t4", "T4"),
        ("Tesla-T4-SHARED", "T4"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA-H100-80GB-HBM3", "H100-80GB"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA-H200-141GB-HBM3e", "H200"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("4090", "RTX-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000"),
        ("NVIDIA-A10G", "A10G"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA-B200", "B200"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("AMD_Instinct_MI300X", "MI300X"),
        ("nvidia-tesla-a100", "A100-40GB"),
        ("nvidia-tesla-v100", "V100-16GB"),
        ("Quadro GV100", "GV100"),
        ("Quadro P6000", "P6000"),
        ("NVIDIA A100-SXM-64GB", "A100-64GB"),
        ("AMD INSTINCT MI250 (MCM) OAM AC MBA", "MI250"),
        ("AMD_INSTINCT_MI250X_MCM", "MI250X"),
        ("NVIDIA TITAN Xp COLLECTORS EDITION", "Titan-Xp"),
        # in laptops only, and drivers say nothing of them
        ("Quadro RTX 3000", "Quadro-RTX-3000"),
        ("Quadro T2000", "T2000"),
        ("NVIDIA GeForce RTX 2050", "RTX-2050"),
        ("NVIDIA GeForce GTX 1650 Ti", "GTX-1650-Ti"),
        ("AMD_Radeon_AI_PRO_R9700S", "AI-PRO-R9700S"),
    ],
)
def test_names_of_drivers_labels_and_people(name: str, product: str) -> None:
    assert find_gpu(name).product == product


@pytest.mark.parametrize(
    ("name", "gb"),
    [
        # laptops, by NVIDIA's pages
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16),
        ("NVIDIA-GeForce-RTX-4080-Laptop-GPU", 12),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", 8),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 16),
        ("NVIDIA GeForce RTX 3070 Ti Laptop GPU", 8),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", 6),
        ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", 6),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", 24),
        ("NVIDIA GeForce RTX 5070 Ti Laptop GPU", 12),
        ("NVIDIA GeForce RTX 2080 with Max-Q Design", 8),
        ("Quadro RTX 5000 with Max-Q Design", 16),
        ("NVIDIA RTX 5000 Ada Generation Laptop GPU", 16),
        ("NVIDIA RTX A5500 Laptop GPU", 16),
        ("NVIDIA RTX A3000 12GB Laptop GPU", 12),
        ("NVIDIA RTX PRO 5000 Blackwell Generation Laptop GPU", 24),
        # workstations
        ("NVIDIA RTX 5000 Ada Generation", 32),
        ("Quadro RTX 5000", 16),
        ("Quadro RTX 6000", 24),
        ("NVIDIA RTX A2000", 6),
        ("NVIDIA RTX A2000 12GB", 12),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 96),
        ("NVIDIA RTX PRO 5000 72GB Blackwell", 72),
        ("NVIDIA RTX PRO 4500 Blackwell", 32),
        # parts of certain markets
        ("NVIDIA GeForce RTX 4090 D", 24),
        ("NVIDIA GeForce RTX 5090 D V2", 24),
        ("NVIDIA H20", 96),
        ("NVIDIA H20-3e", 141),
        ("NVIDIA H800", 80),
        ("NVIDIA A800-SXM4-80GB", 80),
        ("NVIDIA A800 40GB Active", 40),
        ("NVIDIA L20", 48),
        # data centers
        ("NVIDIA GH200 480GB", 96),
        ("NVIDIA GH200 144G HBM3e", 144),
        ("NVIDIA H100 NVL", 94),
        ("NVIDIA H100 PCIe", 80),
        ("NVIDIA H200 NVL", 141),
        ("NVIDIA GB200", 186),
        ("NVIDIA GB300", 288),
        ("NVIDIA B300 SXM6 AC", 288),
        ("Tesla V100S-PCIE-32GB", 32),
        ("Tesla P100-PCIE-12GB", 12),
        ("NVIDIA L2", 24),
        ("NVIDIA T4G", 16),
        # labels of clouds
        ("nvidia-tesla-t4", 16),
        ("nvidia-h100-mega-80gb", 80),
        ("nvidia-h200-141gb", 141),
        ("nvidia-a100-80gb", 80),
        ("nvidia-rtx-pro-6000", 96),
        ("rtx-pro-server-6000", 96),
        ("l40s", 48),
        # parts of GPUs
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", 5),
        ("NVIDIA-H200-MIG-1g.18gb", 18),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb.me", 10),
        ("NVIDIA-H100-80GB-HBM3-MIG-1c.3g.40gb", 40),
        ("A100-MIG-1g.5gb", 5),
        ("GRID A100-10C", 10),
        ("NVIDIA A100-3-20C", 20),
        ("GRID V100D-32Q", 32),
        ("NVIDIA H100L-94C", 94),
        # other makers
        ("AMD Instinct MI300X VF", 192),
        ("AMD_Instinct_MI325X", 256),
        ("AMD Radeon PRO W7900", 48),
        ("AMD Radeon RX 7900M", 16),
        ("AMD Radeon RX 7900 XTX", 24),
        ("Intel(R) Data Center GPU Max 1100", 48),
        ("Intel(R) Arc(TM) B580 Graphics", 12),
    ],
)
def test_memory_is_at_most_what_is_on_the_box(name: str, gb: int) -> None:
    assert 0.87 * gb * GIB <= find_gpu(name).memory_bytes <= gb * GIB * (1.01 if gb == 141 else 1)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 3080 Laptop GPU",
        "NVIDIA GeForce RTX 3060",
        "NVIDIA GeForce RTX 3080",
        "NVIDIA GeForce RTX 4060 Ti",
        "NVIDIA GeForce RTX 5060 Ti",
        "V100",
        "A100",
        "GH200",
        "RTX 6000",
        "Intel(R) Data Center GPU Max 1550",
    ],
)
def test_a_name_that_stands_for_several_sizes_says_which_there_are(name: str) -> None:
    with pytest.raises(UnknownGpu) as error:
        find_gpu(name)
    assert len(error.value.like) > 1
    assert error.value.like[0].product in error.value.remedy
    assert "--gpu-memory" in error.value.remedy
    for gpu in error.value.like:
        assert find_gpu(gpu.product) == gpu


@pytest.mark.parametrize(
    ("name", "product"),
    [("A100", "A100-40GB"), ("v100", "V100-16GB"), ("RTX-3080", "RTX-3080-10GB"), ("4060 Ti", "RTX-4060-Ti-8GB")],
)
def test_of_a_machine_that_is_thought_of_a_short_name_means_the_smallest(name: str, product: str) -> None:
    assert imagined_gpu(name).product == product
    for printed in (f"NVIDIA {name}", f"NVIDIA GeForce {name} Laptop GPU", f"{name}-99GB"):
        with pytest.raises(UnknownGpu):
            imagined_gpu(printed)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA Foo", "RTX 4090 Foo", "A100-SXM-48GB", "T4-32GB", "Gaudi2", "GeForce GTX TITAN X", "NVIDIA", "", "Orin",
        "AMD Radeon Graphics", "AMD Radeon RX 7900 XT/7900 XTX", "NVIDIA H100 CNX", "NVIDIA L40 CNX", "RTX 4090 Super",
        "NVIDIA Foo-MIG-1g.5gb", "GRID FOO-8Q",
    ],
)  # fmt: skip
def test_a_word_that_is_not_understood_is_not_passed_over(name: str) -> None:
    with pytest.raises(UnknownGpu):
        find_gpu(name)


@pytest.mark.parametrize(
    ("name", "vendor", "capability"),
    [
        ("NVIDIA Foo", Device.NVIDIA, 80),
        ("AMD Instinct MI999", Device.AMD, 0),
        ("Intel Arc Z1", Device.INTEL, 0),
        ("V100", Device.NVIDIA, 70),
        ("L4", Device.NVIDIA, 89),
    ],
)
def test_memory_that_is_stated_wins_and_makes_do_for_any_name(name: str, vendor: Device, capability: int) -> None:
    gpu = find_gpu(name, 20 * GIB)
    assert (gpu.vendor, gpu.capability, gpu.memory_bytes) == (vendor, capability, 20 * GIB)


@pytest.mark.parametrize("shared", ["", "-SHARED"])
def test_mig_slices_have_their_own_memory(shared: str) -> None:
    gpu = find_gpu(f"NVIDIA-A100-SXM4-80GB-MIG-1g.10gb{shared}")
    assert gpu.memory_bytes == 9728 << 20
    assert gpu.capability == 80


def test_unknown_names_get_suggestions() -> None:
    with pytest.raises(UnknownGpu) as error:
        find_gpu("RTX 4900")
    assert "RTX-4090" in error.value.remedy


def test_the_catalogue_is_plausible() -> None:
    for gpu in all_gpus():
        assert 2.9 * GIB < gpu.memory_bytes < 300 * GIB
        assert (gpu.capability > 0) == (gpu.vendor is Device.NVIDIA)
        assert find_gpu(gpu.product) == gpu


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("NVIDIA H100 80GB HBM3", 3350),
        ("NVIDIA H100 PCIe", 2039),
        ("NVIDIA A100-SXM4-80GB", 2039),
        ("NVIDIA A100 80GB PCIe", 1935),
        ("NVIDIA A100-PCIE-40GB", 1555),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", 418),
        ("NVIDIA-A100-SXM4-40GB-MIG-3g.20gb", 777),
        ("NVIDIA GH200 480GB", 4000),
        ("NVIDIA GeForce RTX 4090", 1008),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 576),
        ("AMD Instinct MI300X", 5300),
        ("GRID A100-10C", 0),  # whoever else has a part of it reads too
        ("NVIDIA GeForce GTX 1650 Mobile", 0),
    ],
)
def test_how_fast_memory_is_read_as_makers_publish_it(name: str, gigabytes: int) -> None:
    assert find_gpu(name).bandwidth // 10**9 == gigabytes


def test_of_a_name_of_several_sizes_it_is_that_of_the_size_which_the_driver_reports() -> None:
    assert bandwidth_of("NVIDIA GeForce RTX 3060", 12288 << 20) == 360 * 10**9
    assert bandwidth_of("NVIDIA GeForce RTX 3060", 8192 << 20) == 240 * 10**9
    assert bandwidth_of("NVIDIA GeForce RTX 3060", 10 << 30) == bandwidth_of("Unheard-Of", 10 << 30) == 0


def test_every_speed_is_of_a_product_that_is_known() -> None:
    products = {gpu.product for gpu in all_gpus()}
    rows = [row.split()[0] for row in SPEEDS.replace("\n", "|").strip("|").split("|")]
    assert len(rows) == len(set(rows))
    assert {row.removesuffix("-PCIe") for row in rows} <= products
