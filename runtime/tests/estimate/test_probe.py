"""Reading a machine: cgroup limits of both versions, and a driver that may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmservice_runtime.machine.probe import cpu_flags, cpus, memory, nvidia_gpus, read_machine, resident

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system with 16 GiB of memory, 12 of them free."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {16 << 20} kB\nMemFree: 1 kB\nMemAvailable: {12 << 20} kB\n")
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nflags\t\t: sse avx2 f16c\n")
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_without_limits_it_is_the_machine(root: Path) -> None:
    assert memory(root) == (16 * GIB, 12 * GIB)
    assert cpu_flags(root) == {"sse", "avx2", "f16c"}


def test_cgroup_v2_limits_hold_on_every_level(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/kubepods/pod1/main\n")
    write(root, "sys/fs/cgroup/kubepods/memory.max", str(8 * GIB))
    write(root, "sys/fs/cgroup/kubepods/memory.current", str(1 * GIB))
    write(root, "sys/fs/cgroup/kubepods/pod1/main/memory.max", str(4 * GIB))
    write(root, "sys/fs/cgroup/kubepods/pod1/main/memory.current", str(3 * GIB))
    write(root, "sys/fs/cgroup/kubepods/pod1/main/memory.stat", f"anon 1\ninactive_file {2 * GIB}\n")
    write(root, "sys/fs/cgroup/kubepods/pod1/main/cpu.max", "100000 100000\n")
    assert memory(root) == (4 * GIB, 3 * GIB)
    assert cpus(root) == 1


def test_cgroup_v1_limits(root: Path) -> None:
    write(root, "proc/self/cgroup", "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/\n")
    write(root, "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", str(2 * GIB))
    write(root, "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", str(1 * GIB))
    write(root, "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "50000")
    write(root, "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000")
    assert memory(root) == (2 * GIB, 1 * GIB)
    assert cpus(root) == 1


def test_pages_of_a_mapped_file_are_not_free(root: Path) -> None:
    """A running model's weights; the kernel counts them as available."""
    info = f"MemTotal: {16 << 20} kB\nMemAvailable: {12 << 20} kB\nMapped: {9 << 20} kB\nShmem: {5 << 20} kB\n"
    write(root, "proc/meminfo", info)
    status = "Name: x\nVmRSS: {} kB\nRssAnon: 1 kB\nRssFile: {} kB\n"
    write(root, "proc/7/status", status.format(5 << 20, 4 << 20))
    assert resident(7, root) == (5 * GIB, 4 * GIB)
    assert memory(root) == (16 * GIB, 8 * GIB)  # the rest of what is mapped is shared memory, which is not available
    for pid in (8, 9):
        write(root, f"proc/{pid}/status", status.format(5 << 20, 4 << 20))
    assert memory(root) == (16 * GIB, 3 * GIB)  # the same file three times
    assert resident(10, root) == (0, 0)


@pytest.mark.parametrize(
    ("stat", "free"),
    [
        (f"inactive_file {2 * GIB}\nactive_file 0\nfile_mapped 0\n", 3 * GIB),
        (f"inactive_file {2 * GIB}\nactive_file 0\nfile_mapped {2 * GIB}\n", 1 * GIB),
        (f"inactive_file {2 * GIB}\nactive_file {GIB}\nfile_mapped {2 * GIB}\n", 2 * GIB),
        (f"inactive_file {GIB}\nactive_file {3 * GIB}\nfile_mapped {2 * GIB}\n", 2 * GIB),
        (f"mapped_file 9\ninactive_file 9\ntotal_inactive_file {2 * GIB}\ntotal_mapped_file {GIB}\n", 2 * GIB),
    ],
)
def test_nor_are_they_within_a_limit(root: Path, stat: str, free: int) -> None:
    write(root, "proc/self/cgroup", "0::/x\n")
    write(root, "sys/fs/cgroup/x/memory.max", str(4 * GIB))
    write(root, "sys/fs/cgroup/x/memory.current", str(3 * GIB))
    write(root, "sys/fs/cgroup/x/memory.stat", stat)
    assert memory(root) == (4 * GIB, free)


def test_no_limit_is_written_as_max(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/x\n")
    write(root, "sys/fs/cgroup/x/memory.max", "max\n")
    write(root, "sys/fs/cgroup/x/cpu.max", "max 100000\n")
    assert memory(root)[0] == 16 * GIB


def test_gpus_as_nvidia_smi_reports_them(root: Path) -> None:
    def ask(command: list[str]) -> str:
        assert command[0] == "nvidia-smi"
        return (
            "Tesla T4, 15360, 7.5, 0, GPU-aaaa, 15000\nTesla T4, 15360, 7.5, 1, [N/A], 100\n"
            "NVIDIA GB10, [N/A], 12.1, 2, GPU-cccc, [N/A]\n"
        )

    machine = read_machine(root=root, ask=ask)
    t4 = machine.gpus[0]
    assert machine.gpus.count(t4) == 2
    assert (t4.memory_bytes, t4.capability) == (15360 << 20, 75)
    assert [gpu.id for gpu in machine.gpus] == ["GPU-aaaa", "NVIDIA 1", "GPU-cccc"]
    assert [gpu.free_bytes for gpu in machine.gpus] == [15000 << 20, 100 << 20, None]
    assert [gpu.name for gpu in machine.gpus] == ["GPU 0", "GPU 1", "GPU 2"]
    assert machine.gpus[2].product == "NVIDIA GB10", "memory from the catalogue where the driver names none"
    assert machine.gpus[2].memory_bytes > 100 * GIB


@pytest.mark.parametrize("text", ["", "No devices were found", "NVIDIA-SMI has failed, because, it\n", "a,b"])
def test_a_driver_that_answers_nonsense_is_no_gpu(text: str) -> None:
    assert nvidia_gpus(lambda _: text) == ()
