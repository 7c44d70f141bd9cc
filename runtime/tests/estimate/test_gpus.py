"""Names people and drivers use for GPUs."""

from __future__ import annotations

import pytest

from llmservice_runtime.machine.gpus import UnknownGpu, all_gpus, find_gpu
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
    ],
)
def test_names_of_drivers_labels_and_people(name: str, product: str) -> None:
    assert find_gpu(name).product == product


def test_mig_slices_have_their_own_memory() -> None:
    gpu = find_gpu("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb")
    assert gpu.memory_bytes == 9728 << 20
    assert gpu.capability == 80


def test_unknown_names_get_suggestions() -> None:
    with pytest.raises(UnknownGpu) as error:
        find_gpu("RTX 4900")
    assert "RTX-4090" in error.value.remedy


def test_the_catalogue_is_plausible() -> None:
    for gpu in all_gpus():
        assert 6 * GIB < gpu.memory_bytes < 300 * GIB
        assert (gpu.capability > 0) == (gpu.vendor is Device.NVIDIA)
        assert find_gpu(gpu.product) == gpu
