"""From what an engine leaves behind to a class, a sentence with numbers and a remedy."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import RECORD_LIMIT_BYTES, FailureClass, FailureRecord
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.engines.registry import definition
from llmservice_runtime.supervisor import kernel
from llmservice_runtime.supervisor.classify import GIB, REMEDIES, Remains, classify
from llmservice_runtime.supervisor.record import write_failure
from llmservice_runtime.supervisor.reports import FailureReport, PhaseReport, StepReport, parse_report

DOCS = Path(__file__).parents[3] / "docs" / "runtime.md"


def test_a_kernel_kill_is_out_of_memory_with_its_numbers() -> None:
    remains = Remains(
        -signal.SIGKILL, Phase.LOADING, kernel_oom_kills=1, memory_limit=4 * GIB, peak_memory=int(3.9 * GIB)
    )
    record = classify(remains)
    assert record.failure is FailureClass.OUT_OF_MEMORY
    assert "3.90 GiB" in record.message and "4.00 GiB" in record.message and record.exit_code == -9
    worker = classify(replace(remains, code=1, tail=("RuntimeError: a worker died",)))
    assert worker.failure is FailureClass.OUT_OF_MEMORY and worker.exit_code == 1
    other = classify(replace(remains, kernel_oom_kills=0))
    assert other.failure is FailureClass.CRASHED and "from outside" in other.message


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", FailureClass.OUT_OF_GPU_MEMORY),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory",
            FailureClass.OUT_OF_GPU_MEMORY,
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", FailureClass.OUT_OF_MEMORY),
        ("alloc_tensor_range: failed to allocate buffer of size 8589934592", FailureClass.OUT_OF_MEMORY),
        ("ImportError: libblas.so: failed to map segment from shared object", FailureClass.OUT_OF_MEMORY),
        ("OSError: [Errno 12] Cannot allocate memory", FailureClass.OUT_OF_MEMORY),
        ("OSError: [Errno 28] No space left on device: '/cache/x'", FailureClass.DISK_FULL),
        ("OSError: [Errno 98] error while attempting to bind: address already in use", FailureClass.PORT_IN_USE),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12040). Please update it.",
            FailureClass.DRIVER_TOO_OLD,
        ),
        ("CUDA error: the provided PTX was compiled with an unsupported toolchain.", FailureClass.DRIVER_TOO_OLD),
        (
            "ggml_cuda_init: failed: CUDA driver version is insufficient for CUDA runtime version",
            FailureClass.DRIVER_TOO_OLD,
        ),
        ("ModuleNotFoundError: No module named 'numpy'", FailureClass.ENGINE_NOT_INSTALLED),
        ("serve: error: unrecognized arguments: --nope", FailureClass.BAD_ARGUMENT),
        ("ValueError: something else", FailureClass.CRASHED),
    ],
)
def test_last_words_name_the_cause(line: str, failure: FailureClass) -> None:
    record = classify(Remains(1, Phase.LOADING, tail=("loading", line, "  goodbye")))
    assert record.failure is failure
    assert line.strip()[:60] in record.message


@pytest.mark.parametrize("engine", EngineType)
def test_what_an_engine_of_its_own_says_names_that_engine_and_its_remedy(engine: EngineType) -> None:
    words = ((FailureClass.ENGINE_NOT_INSTALLED, "no module named 'this'"),)
    tail = ("ModuleNotFoundError: No module named 'this'",)
    record = classify(Remains(1, Phase.LOADING, tail=tail, engine=engine.folder, last_words=words))
    assert record.failure is FailureClass.ENGINE_NOT_INSTALLED
    assert record.remedy == f"Install it again: llmservice-runtime install {engine.folder} --rebuild."
    ill = classify(Remains(-signal.SIGILL, Phase.LOADING, engine=engine.folder))
    assert f"install {engine.folder} --rebuild" in ill.remedy


def test_llama_cpp_says_when_its_library_is_missing() -> None:
    words = definition(EngineType.LLAMA_CPP).last_words
    tail = ("ModuleNotFoundError: No module named 'llama_cpp'",)
    assert classify(Remains(1, Phase.LOADING, tail=tail, last_words=words)).failure is FailureClass.ENGINE_NOT_INSTALLED
    assert classify(Remains(1, Phase.LOADING, tail=tail)).failure is FailureClass.CRASHED


@pytest.mark.parametrize(
    ("number", "before", "failure", "said", "remedy"),
    [
        (9, "", FailureClass.CRASHED, "A worker of the engine was killed from outside (SIGKILL)", "who killed it"),
        (11, "", FailureClass.CRASHED, "A worker of the engine crashed (SIGSEGV).", "log"),
        (6, "CUDA error 2: out of memory", FailureClass.OUT_OF_GPU_MEMORY, "out of memory", "contextTokens"),
        (7, "", FailureClass.MODEL_DAMAGED, "Reading the model failed (SIGBUS)", "Check the disk"),
    ],
)
def test_of_several_processes_the_one_that_a_signal_ended_says_why(
    number: int, before: str, failure: FailureClass, said: str, remedy: str
) -> None:
    """vLLM with several GPUs: a worker is killed, the engine core gives up, and the API server ends with 1."""
    tail = (
        before,
        f"(EngineCore pid=7) ERROR Worker proc VllmWorker-1 died unexpectedly (exit code: -{number}), shutting down "
        "executor.",
        "(EngineCore pid=7) RuntimeError: Executor failed.",
        "(APIServer pid=1) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
    )
    words = definition(EngineType.VLLM).last_words
    record = classify(Remains(1, Phase.READY, tail, last_words=words))
    assert record.failure is failure and record.exit_code == -number
    assert said in record.message and remedy in record.remedy
    shared = Remains(1, Phase.READY, tail[1:], last_words=words, kernel_oom_kills=1, others_counted=True)
    assert (classify(shared).failure is FailureClass.OUT_OF_MEMORY) == (number == 9)


def test_a_worker_of_which_nobody_knows_how_it_ended_is_named() -> None:
    said = (
        "(EngineCore pid=7) ERROR Worker proc VllmWorker-1 died unexpectedly (exit code: None), shutting down executor."
    )
    tail = (said, "(EngineCore pid=7) RuntimeError: Executor failed.")
    record = classify(Remains(1, Phase.READY, tail, last_words=definition(EngineType.VLLM).last_words))
    assert record.failure is FailureClass.CRASHED and "VllmWorker-1 died unexpectedly" in record.message


def test_a_worker_that_ended_by_an_error_of_its_own_hides_no_cause() -> None:
    tail = ("torch.OutOfMemoryError: CUDA out of memory.", "Worker proc VllmWorker-1 died unexpectedly (exit code: 1)")
    record = classify(Remains(1, Phase.LOADING, tail, last_words=definition(EngineType.VLLM).last_words))
    assert record.failure is FailureClass.OUT_OF_GPU_MEMORY


def test_a_python_exception_is_quoted_without_its_stack() -> None:
    record = classify(Remains(1, Phase.LOADING, tail=("Traceback", "  File x, line 3", "    ^^^^", "KeyError: 'blk'")))
    assert record.message == "The engine ended with exit code 1. KeyError: 'blk'"


def test_the_cause_is_quoted_that_an_exception_says_is_above_it() -> None:
    core = "(EngineCore pid=7) ERROR 11-30 01:08:20 [core.py:1510]"
    end = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    tail = (f"{core}   raise X", f"{core} RuntimeError: kernel not found", "    raise RuntimeError(", end)
    record = classify(Remains(1, Phase.LOADING, tail=tail))
    assert record.message == "The engine ended with exit code 1. RuntimeError: kernel not found"
    assert "See root cause above" in classify(Remains(1, Phase.LOADING, tail=tail[2:])).message


def test_a_failed_assertion_of_the_engine_is_quoted_alone() -> None:
    tail = ("loading", "/tmp/build/vendor/src/llama-vocab.cpp:3168: GGML_ASSERT(type != NONE) failed", "goodbye")
    record = classify(Remains(-signal.SIGABRT, Phase.LOADING, tail=tail))
    assert record.message == "The engine gave up (SIGABRT): llama-vocab.cpp:3168: GGML_ASSERT(type != NONE) failed"
    assert "use another file" in record.remedy
    assert "use another file" not in classify(Remains(-signal.SIGABRT, Phase.READY, tail=tail)).remedy


def test_what_the_engine_reported_wins_over_its_exit() -> None:
    reported = FailureReport(FailureClass.UNSUPPORTED_FORMAT, "This is not a GGUF file.")
    record = classify(Remains(-signal.SIGABRT, Phase.LOADING, tail=("out of memory",), reported=reported))
    assert (record.failure, record.message) == (FailureClass.UNSUPPORTED_FORMAT, "This is not a GGUF file.")


@given(
    st.integers(-64, 255),
    st.lists(st.text(max_size=3000), max_size=40),
    st.integers(0, 2),
    st.none() | st.builds(FailureReport, st.sampled_from(FailureClass), st.text(max_size=9000), st.text(max_size=9000)),
)
def test_every_ending_gives_a_record_that_fits(
    code: int, tail: list[str], oom: int, reported: FailureReport | None
) -> None:
    record = classify(Remains(code, Phase.READY, tail=tail, kernel_oom_kills=oom, reported=reported))
    text = record.to_json()
    assert len(text.encode()) <= RECORD_LIMIT_BYTES
    assert FailureRecord.from_json(text).failure is record.failure
    assert record.message or reported


@given(st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), st.dictionaries(
    st.sampled_from(["kind", "phase", "port", "running", "steps", "waiting", "kv_used", "failure", "progress"]),
    st.sampled_from(["phase", "ready", "step", "failure", "Loading", "Crashed"]) | st.floats() | st.none()
    | st.integers() | st.lists(st.integers(), max_size=2),
)))  # fmt: skip
def test_no_line_on_the_report_pipe_can_hurt(line: bytes) -> None:
    report = parse_report(line)
    if isinstance(report, PhaseReport) and report.progress is not None:
        assert 0 <= report.progress <= 1
    if isinstance(report, StepReport):
        assert min(report.running, report.waiting, report.steps) >= 0
        assert report.kv_used is None or 0 <= report.kv_used <= 1


def test_records_are_written_whole_and_in_place_where_a_mount_demands_it(tmp_path: Path) -> None:
    record = FailureRecord(FailureClass.CRASHED, "x" * 9000, "do", "Ready", 1)
    target = tmp_path / "termination-log"
    write_failure(str(target), record)
    assert FailureRecord.from_json(target.read_text()).remedy == "do"
    assert [path.name for path in target.parent.iterdir()] == ["termination-log"]
    write_failure(str(target), None)
    assert target.read_text() == ""
    write_failure("", record)
    write_failure("/dev/null", record)


def test_kernel_counters_are_read_from_the_own_cgroup(tmp_path: Path) -> None:
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (tmp_path / "pod" / "memory.max").write_text("1073741824\n")
    proc = tmp_path / "cgroup"
    proc.write_text("0::/pod\n")
    group = kernel.own_cgroup(proc, tmp_path)
    assert kernel.oom_kills(group) == 2 and kernel.memory_limit(group) == GIB
    (tmp_path / "pod" / "memory.max").write_text("max\n")
    assert kernel.memory_limit(group) is None
    assert kernel.oom_kills(tmp_path / "nowhere", tmp_path / "none") == 0


@pytest.mark.parametrize("path", ["docker/x", ""])  # a container sees its group as the root, under the host's path
def test_a_cgroup_of_version_1_counts_as_well(tmp_path: Path, path: str) -> None:
    group = tmp_path / "memory" / path
    group.mkdir(parents=True)
    (tmp_path / "unified").mkdir()
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    (group / "memory.limit_in_bytes").write_text("1073741824\n")
    proc = tmp_path / "cgroup"
    proc.write_text("5:devices:/docker/x\n4:memory:/docker/x\n1:name=systemd:/\n0::/\n")
    assert kernel.own_cgroup(proc, tmp_path) == group
    assert kernel.oom_kills(group, tmp_path / "none") == 3 and kernel.memory_limit(group) == GIB
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert kernel.memory_limit(group) is None


def test_the_root_counts_nothing_so_the_whole_machine_does(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 15\n")
    group = kernel.own_cgroup(tmp_path / "cgroup", tmp_path)
    assert group is None and kernel.oom_kills(group, tmp_path / "vmstat") == 15
    assert kernel.memory_limit(group) is None and kernel.has_others(group, os.getpid())


def test_a_kill_that_is_not_the_engines_is_not_taken_for_its_end() -> None:
    """Of a neighbour, counted where all are; the engine itself failed, or was killed by a signal that it got."""
    remains = Remains(1, Phase.READY, tail=("ValueError: no",), kernel_oom_kills=1, others_counted=True)
    assert classify(remains).failure is FailureClass.CRASHED
    killed = classify(replace(remains, code=-signal.SIGKILL, peak_memory=GIB))
    assert killed.failure is FailureClass.OUT_OF_MEMORY and "1.00 GiB" in killed.message
    assert classify(replace(remains, code=-signal.SIGSEGV)).failure is FailureClass.CRASHED


def test_only_kills_of_the_last_seconds_count() -> None:
    kills = kernel.Kills(7, 0.0)
    kills.seen(8, 5.0)
    assert kills.recent == 1
    for now in range(10, 40, 5):
        kills.seen(8, float(now))
    assert kills.recent == 0
    kills.seen(10, 41.0)
    assert kills.recent == 2
    kills.seen(11, 4000.0)  # nothing was told meanwhile: it may have been just now
    assert kills.recent == 1


@given(st.lists(st.tuples(st.floats(0.01, 30), st.integers(0, 2)), max_size=60))
def test_no_kill_within_the_window_is_lost(events: list[tuple[float, int]]) -> None:
    kills, now, count, when = kernel.Kills(0, 0.0), 0.0, 0, []
    for pause, more in events:
        now, count = now + pause, count + more
        when += [now] * more
        kills.seen(count, now)
        assert kills.recent >= sum(now - at < kernel.RECENT_SECONDS for at in when)


def test_who_else_is_counted_in_a_group(tmp_path: Path) -> None:
    """Session 0 is one that began outside of the container, as a shell that was sent into it: somebody else's."""
    group, proc = tmp_path / "group", tmp_path / "proc"
    group.mkdir()
    for pid, session in {os.getpid(): 0, 7: 7, 8: 7, 9: 9, 11: 0}.items():
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "stat").write_text(f"{pid} (a) b) S 1 {session} {session} 0 -1\n")

    def others(*pids: int) -> bool:
        (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return kernel.has_others(group, 7, proc)

    assert not others(os.getpid(), 7, 8)
    assert not others(os.getpid(), 7, 999)  # gone meanwhile
    assert others(os.getpid(), 7, 9)
    assert others(os.getpid(), 7, 11)


def test_the_page_about_failures_lists_every_class_and_our_own_remedies() -> None:
    rows = {
        cells[1].strip().strip("`"): cells[3].strip()
        for cells in (line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| `"))
        if len(cells) == 5
    }
    assert {failure.value for failure in FailureClass} <= set(rows)
    for failure, remedy in REMEDIES.items():
        assert rows[failure.value] == remedy


def test_a_mounted_log_is_written_in_place_where_nothing_may_be_made_beside_it() -> None:
    """As a container sees /dev/termination-log: a file of its own in a folder of root's."""
    record = FailureRecord(FailureClass.BAD_ARGUMENT, "It failed.", "Mend it.", "Loading")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "termination-log"
        log.write_text("of before")
        log.chmod(0o666)
        Path(folder).chmod(0o555)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            write_failure(str(log), record)
        finally:
            os.seteuid(before)
            Path(folder).chmod(0o755)
        assert FailureRecord.from_json(log.read_text()) == record
        assert [path.name for path in Path(folder).iterdir()] == [log.name]


def test_an_interpreter_that_can_not_start_is_quoted_by_its_error_alone() -> None:
    tail = ("sys.path = [", "]", "ModuleNotFoundError: No module named 'encodings'", "", "Current thread 0x7f:")
    record = classify(Remains(1, Phase.LOADING, (*tail, "  <no Python frame>")))
    assert record.message.endswith("exit code 1. ModuleNotFoundError: No module named 'encodings'")
