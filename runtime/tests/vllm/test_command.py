"""From settings to the command line and environment of `vllm serve`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.vllm.install.recipe import RECIPE
from llmservice_runtime.engines.vllm.plugins import ENTRY_POINTS, NAMES
from llmservice_runtime.engines.vllm.serve.command import Surroundings, command, environment, merged
from llmservice_runtime.install import fill
from llmservice_runtime.install.dist_infos import write

SETTINGS = RuntimeSettings(
    EngineType.VLLM, "/models/m", "apps/m", ("m",), context_tokens=2048, max_sequences=8, max_queued_requests=100
)
AROUND = Surroundings("/env/bin/python", {"PATH": "/bin"}, cpus=3, cache="/cache/compiled")


def option(argv: tuple[str, ...], name: str) -> str | None:
    found = [word.partition("=")[2] for word in argv if word.partition("=")[0] == name]
    assert len(found) < 2, f"{name} is said twice"
    return found[0] if found else None


def test_it_is_vllm_serve_itself_with_the_names_and_the_address_of_the_settings() -> None:
    argv = command(replace(SETTINGS, host="::", port=8000), AROUND)
    start = ("/env/bin/python", "-P", "-m", "vllm.entrypoints.cli.main", "serve", "/models/m")
    assert argv[: len(start)] == start
    assert argv[len(start) : len(start) + 3] == ("--served-model-name", "apps/m", "m")
    assert option(argv, "--host") == "::" and option(argv, "--port") == "8000"


def test_weights_are_made_smaller_and_code_runs_as_the_settings_say() -> None:
    assert option(command(SETTINGS, AROUND), "--quantization") is None
    argv = command(replace(SETTINGS, load_quantization="FP8", trust_remote_code=True), AROUND)
    assert option(argv, "--quantization") == "fp8_per_tensor" and "--trust-remote-code" in argv
    with pytest.raises(UserError, match="BitsAndBytesNF4"):
        command(replace(SETTINGS, load_quantization="BitsAndBytesNF4"), AROUND)


def test_the_queue_is_bounded_by_what_runs_and_what_may_wait_as_vllm_counts_it() -> None:
    assert option(command(SETTINGS, AROUND), "--max-num-queued-reqs") == "108"
    more = replace(SETTINGS, engine_args=("--max-num-seqs=32",))
    argv = command(more, AROUND)
    assert option(argv, "--max-num-queued-reqs") == "132" and option(argv, "--max-num-seqs") == "32"


def test_what_the_plan_or_the_user_says_goes_before_what_the_settings_do() -> None:
    argv = command(replace(SETTINGS, engine_args=("--max-model-len=512", "--generation-config=auto")), AROUND)
    assert option(argv, "--max-model-len") == "512" and option(argv, "--generation-config") == "auto"


def test_who_names_a_parser_of_vllm_gets_it_and_all_others_get_ours() -> None:
    assert option(command(SETTINGS, AROUND), "--tool-call-parser") == "llmservice"
    argv = command(replace(SETTINGS, engine_args=("--tool-call-parser=hermes",)), AROUND)
    assert option(argv, "--tool-call-parser") == "hermes" and "--enable-auto-tool-choice" in argv
    assert option(argv, "--reasoning-parser") is None
    argv = command(replace(SETTINGS, engine_args=("--reasoning-parser=qwen3",)), AROUND)
    assert option(argv, "--tool-call-parser") is None and option(argv, "--reasoning-parser") == "qwen3"


def test_what_makes_vectors_runs_as_such_and_pools_as_the_files_say() -> None:
    around = replace(AROUND, pooling="MEAN", overrides={"position_embedding_type": "absolute"})
    argv = command(replace(SETTINGS, task="Embedding"), around)
    assert option(argv, "--runner") == "pooling"
    assert option(argv, "--pooler-config") == '{"seq_pooling_type": "MEAN"}'
    assert option(argv, "--hf-overrides") == '{"position_embedding_type": "absolute"}'
    assert option(argv, "--tool-call-parser") is option(argv, "--max-num-queued-reqs") is None
    said = replace(SETTINGS, task="Embedding", engine_args=('--pooler-config={"seq_pooling_type":"CLS"}',))
    assert option(command(said, around), "--pooler-config") == '{"seq_pooling_type":"CLS"}'
    ranks = command(replace(SETTINGS, task="Rerank"), AROUND)
    assert option(ranks, "--runner") == "pooling" and option(ranks, "--pooler-config") is None


def test_on_a_cpu_nothing_is_compiled_unless_somebody_says_how_and_the_cache_has_its_size() -> None:
    on_cpu = replace(AROUND, cpu=True, kv_bytes=7)
    argv = command(SETTINGS, on_cpu)
    assert "--enforce-eager" in argv and option(argv, "--kv-cache-memory-bytes") == "7"
    for said in ("--no-enforce-eager", "-O1", "--compilation-config={}"):
        assert "--enforce-eager" not in command(replace(SETTINGS, engine_args=(said,)), on_cpu)
    assert "--enforce-eager" not in command(SETTINGS, AROUND)


def test_on_a_cpu_the_core_computes_itself_unless_somebody_wants_workers() -> None:
    on_cpu, name = replace(AROUND, cpu=True), "--distributed-executor-backend"
    assert str(option(command(SETTINGS, on_cpu), name)).endswith(".UniProcExecutor")
    for said in (f"{name}=mp", "--tensor-parallel-size=2"):
        workers = replace(SETTINGS, engine_args=(said,))
        assert option(command(workers, on_cpu), name) == ("mp" if name in said else None)
    assert option(command(SETTINGS, AROUND), name) is None


def test_a_wrong_argument_is_refused_before_vllm_starts() -> None:
    with pytest.raises(UserError, match="--no-such-thing"):
        command(replace(SETTINGS, engine_args=("--no-such-thing",)), AROUND)


def test_the_rust_front_end_is_refused_by_name_because_it_loads_no_plug_ins() -> None:
    with pytest.raises(UserError, match="VLLM_USE_RUST_FRONTEND"):
        environment(SETTINGS, replace(AROUND, environ={"VLLM_USE_RUST_FRONTEND": "1"}))
    assert environment(SETTINGS, replace(AROUND, environ={"VLLM_USE_RUST_FRONTEND": "0"}))


def test_plug_ins_of_the_user_are_merged_with_ours_and_of_nobody_else_are_lost() -> None:
    assert merged(None, ("lora_filesystem_resolver",)) == ("lora_filesystem_resolver", *NAMES)
    assert merged("mine, theirs", ("lora_filesystem_resolver",)) == ("mine", "theirs", *NAMES)
    assert merged("", ()) == NAMES
    env = environment(SETTINGS, replace(AROUND, environ={"VLLM_PLUGINS": NAMES[0]}))
    assert sorted(env["VLLM_PLUGINS"].split(",")) == sorted(NAMES)


def test_threads_caches_and_the_network_are_those_of_the_replica() -> None:
    env = environment(SETTINGS, AROUND)
    assert env["OMP_NUM_THREADS"] == "2" and env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert environment(SETTINGS, replace(AROUND, cpus=1))["OMP_NUM_THREADS"] == "1"
    assert environment(replace(SETTINGS, threads=2), AROUND)["OMP_NUM_THREADS"] == "2"
    assert env["VLLM_CACHE_ROOT"].startswith("/cache/compiled/")
    assert env["HF_HUB_OFFLINE"] == env["VLLM_NO_USAGE_STATS"] == "1"
    assert environment(SETTINGS, replace(AROUND, environ={"HF_HUB_OFFLINE": "0"}))["HF_HUB_OFFLINE"] == "0"


def test_threads_wait_for_each_other_briefly_unless_somebody_says_how() -> None:
    cpu = replace(AROUND, cpu=True)
    assert environment(SETTINGS, cpu)["GOMP_SPINCOUNT"] == "10000"
    assert "GOMP_SPINCOUNT" not in environment(SETTINGS, AROUND)
    assert "GOMP_SPINCOUNT" not in environment(SETTINGS, replace(cpu, environ={"OMP_WAIT_POLICY": "ACTIVE"}))


def test_nothing_is_compiled_on_a_cpu_unless_somebody_asks_for_it() -> None:
    cpu = replace(AROUND, cpu=True)
    assert environment(SETTINGS, cpu)["TORCHDYNAMO_DISABLE"] == "1"
    assert "TORCHDYNAMO_DISABLE" not in environment(SETTINGS, AROUND)
    asked = replace(SETTINGS, engine_args=("--compilation-config={}",))
    assert "TORCHDYNAMO_DISABLE" not in environment(asked, cpu)
    assert environment(SETTINGS, replace(cpu, environ={"TORCHDYNAMO_DISABLE": "0"}))["TORCHDYNAMO_DISABLE"] == "0"


def test_the_installer_writes_our_plug_ins_where_vllm_looks_for_them(tmp_path: Path) -> None:
    for info in RECIPE.dist_infos:
        write(info, tmp_path)
    points = [p for found in distributions(path=[str(tmp_path)]) for p in found.entry_points]
    wanted = {(group, name, value) for group, names in ENTRY_POINTS.items() for name, value in names.items()}
    assert {(point.group, point.name, point.value) for point in points} == wanted


@pytest.mark.parametrize(("words", "dies"), [(["--multiprocessing-fork"], True), ([], False)])
def test_what_vllm_begins_dies_with_who_began_it(tmp_path: Path, words: list[str], dies: bool) -> None:
    """From its first moment, by a line that every interpreter there runs; other programs are left alone."""
    fill.complete(_empty_environment(tmp_path), RECIPE, ())
    (startup,) = tmp_path.glob(f"lib/python3.1/site-packages/{fill.STARTUP_FILE}")
    told = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    code = f"import site; site.addsitedir({str(startup.parent)!r}); {told}"
    env = {**os.environ, "LLMSERVICE_ENGINE_PID": "1"}
    run = subprocess.run([sys.executable, "-c", code, *words], env=env, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(int(signal.SIGKILL) if dies else 0), run


@pytest.mark.parametrize(
    ("core", "code"),
    [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("os.kill(os.getpid(), signal.SIGTERM)", 1), ("sys.exit(1)", 1)],
)
def test_a_core_that_is_killed_while_it_starts_ends_its_server_so(tmp_path: Path, core: str, code: int) -> None:
    """Else a kill for want of memory reads as a crash, where kills of others are counted, too. vLLM names no code when
    it looked before the kernel knew it."""
    failed = "Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    program = tmp_path / "server.py"
    program.write_text(
        "import multiprocessing, os, signal, sys\n"
        "from llmservice_runtime.engines.vllm.serve.processes import watch_start\n"
        f"def core(): {core}\n"
        "if __name__ == '__main__':\n"
        "    watch_start()\n"
        "    multiprocessing.get_context('spawn').Process(target=core).start()\n"
        f"    raise RuntimeError({failed!r})\n"
    )
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert run.returncode == code and failed in run.stderr


def _empty_environment(folder: Path) -> Path:
    (folder / "lib" / "python3.1" / "site-packages").mkdir(parents=True)
    return folder
