"""What is decided before anything is built: CPU flags, lock entries, cache keys, progress."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.engines.llamacpp.install.cpu import X86_FEATURES, cmake_flags, cpu_features
from llmservice_runtime.engines.llamacpp.install.recipe import RECIPE
from llmservice_runtime.install.lockfile import entries, split_lock
from llmservice_runtime.install.progress import Progress, ProgressLine, elapsed, parse_progress
from llmservice_runtime.install.wheel import WheelPlan, compiler_cache, default_wheel_cache, plan_wheel

SAPPHIRE_RAPIDS = (
    "fma sse4_2 avx f16c avx2 bmi2 avx512f avx512dq avx512cd avx512bw avx512vl avx512vbmi avx512_vnni avx512_bf16"
    " avx_vnni amx_bf16 amx_tile amx_int8"
)
ENGINE_LOCK, WHEEL = RECIPE.lock, RECIPE.wheel
assert WHEEL
PACKAGE, BUILD_LOCK = WHEEL.package, WHEEL.build_lock
HASWELL = "sse4_2 avx f16c avx2 bmi2 fma"


def cpuinfo(*flags: str) -> str:
    return "\n\n".join(f"processor\t: {i}\nflags\t\t: fpu {row}\nbugs\t\t:" for i, row in enumerate(flags))


def test_a_machine_that_advertises_amx_is_built_without_it() -> None:
    flags = cmake_flags(cpu_features(cpuinfo(SAPPHIRE_RAPIDS)), "x86_64")
    for name in ("GGML_AVX512", "GGML_AVX512_VNNI", "GGML_AVX512_BF16", "GGML_AVX_VNNI"):
        assert f"-D{name}=ON" in flags
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AMX_TILE=OFF", "-DGGML_AMX_INT8=OFF", "-DGGML_AMX_BF16=OFF"} <= set(flags)


def test_an_older_cpu_gets_no_avx512_and_portable_gives_the_same_anywhere() -> None:
    older = cmake_flags(cpu_features(cpuinfo(HASWELL)), "x86_64")
    assert "-DGGML_AVX512=OFF" in older and "-DGGML_AVX2=ON" in older
    assert cmake_flags(cpu_features(cpuinfo(SAPPHIRE_RAPIDS)), "x86_64", portable=True) == older


def test_only_what_every_processor_has_is_used() -> None:
    assert "avx512f" not in cpu_features(cpuinfo(SAPPHIRE_RAPIDS, HASWELL))


def test_arm_gets_its_extensions_by_name() -> None:
    features = cpu_features("processor : 0\nFeatures : fp asimd asimdhp asimddp i8mm\n")
    assert "-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16+i8mm" in cmake_flags(features, "aarch64")
    assert "-DGGML_CPU_ARM_ARCH=armv8-a" in cmake_flags((), "aarch64")


@given(st.sets(st.sampled_from(sorted({flag for needed in X86_FEATURES.values() for flag in needed}))))
def test_every_feature_is_said_and_none_is_on_that_the_cpu_lacks(present: set[str]) -> None:
    flags = cmake_flags(present, "x86_64")
    for option, needed in X86_FEATURES.items():
        assert (f"-D{option}=ON" in flags) == present.issuperset(needed)
        assert (f"-D{option}=ON" in flags) != (f"-D{option}=OFF" in flags)


@given(st.text())
def test_no_cpuinfo_breaks_it(text: str) -> None:
    assert cmake_flags(cpu_features(text), "x86_64")


def test_the_committed_locks_have_hashes_and_no_addresses() -> None:
    for lock in (ENGINE_LOCK, BUILD_LOCK):
        text = lock.read_text()
        assert "://" not in text
        assert all("--hash=sha256:" in entry for entry in entries(text))
    locked = split_lock(ENGINE_LOCK.read_text(), PACKAGE)
    assert locked.entry.startswith(f"{PACKAGE}=={locked.version}")
    assert PACKAGE not in locked.rest and len(entries(locked.rest)) == len(entries(ENGINE_LOCK.read_text())) - 1


def test_a_lock_without_the_package_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 times"):
        split_lock("numpy==1 \\\n    --hash=sha256:00\n", PACKAGE)


def llama_wheel(portable: bool = False) -> WheelPlan:
    assert WHEEL
    return plan_wheel("llama.cpp", WHEEL, split_lock(ENGINE_LOCK.read_text(), PACKAGE), portable)


def test_another_cpu_or_version_is_another_wheel(tmp_path: Path) -> None:
    assert llama_wheel().key.startswith("llama-cpp-python-0.")
    assert llama_wheel(portable=True).key != llama_wheel().key or "GGML_AVX512=OFF" in " ".join(llama_wheel().flags)
    assert default_wheel_cache({"LLMSERVICE_CACHE_DIR": str(tmp_path)}) == tmp_path / "wheels"
    assert default_wheel_cache({"XDG_CACHE_HOME": "/x"}) == Path("/x/llmservice/wheels")


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        (
            "  [4/128] /usr/bin/g++ -O3 -c /tmp/x/ggml/src/ggml-backend.cpp",
            Progress(4 / 128, "compiling ggml-backend.cpp"),
        ),
        ("[ 34%] Building CXX object src/CMakeFiles/llama.dir/llama.cpp.o", Progress(0.34, "compiling llama.cpp")),
        ("  [127/128] : && /usr/bin/g++ -shared -o bin/libllama.so a.cpp.o", Progress(127 / 128, "linking")),
        ("  *** Configuring CMake...", Progress(None, "configuring")),
        ("warning: unused variable", None),
    ],
)
def test_build_output_becomes_progress(line: str, progress: Progress | None) -> None:
    assert parse_progress(line) == progress


def test_a_log_gets_a_line_now_and_then_even_when_nothing_new_is_known() -> None:
    now = [0.0]
    out = io.StringIO()
    line = ProgressLine("llama.cpp", out, lambda: now[0])
    for second in range(131):
        now[0] = float(second)
        line.feed(f"[{second}/200] /usr/bin/g++ -c a{second}.cpp") if second < 60 else line.tick()
    line.done("built")
    lines = out.getvalue().splitlines()
    assert 12 <= len(lines) <= 16
    assert "[ 30 %] llama.cpp: compiling a59.cpp, 2m10s" in lines and lines[-1] == "[100 %] llama.cpp: built, 2m10s"
    assert elapsed(59.9) == "59s"


def test_ccache_is_used_where_it_is_and_changes_no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler_cache() == ()
    key = llama_wheel().key
    (tmp_path / "ccache").touch(0o755)
    program = tmp_path / "ccache"
    assert compiler_cache() == (
        f"-DCMAKE_C_COMPILER_LAUNCHER={program}",
        f"-DCMAKE_CXX_COMPILER_LAUNCHER={program}",
    )
    assert llama_wheel().key == key
