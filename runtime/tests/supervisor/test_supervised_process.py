"""The supervisor over scripted engines that fail in every way an engine can."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.openai.launch import bind
from llmservice_runtime.supervisor.listen import listen
from llmservice_runtime.supervisor.serve import options_for, serve

Make = Callable[..., Any]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_probes_follow_load_ready_and_drain(replica: Make) -> None:
    one = replica("ready", "1.0")
    one.wait_ready()
    assert one.get("/livez")[0] == one.get("/readyz")[0] == one.get("/startupz")[0] == 200
    status = one.status()
    assert status["port"] and status["percent"] == 100 and "Loading" in status["load_phases"]
    metrics = one.get("/metrics")[1]
    assert 'llmservice:load_phase_seconds{engine="0",model_name="apps/demo",phase="Loading"}' in metrics
    assert 'llmservice:draining{engine="0",model_name="apps/demo"} 0.0' in metrics

    one.process.send_signal(signal.SIGTERM)
    one.wait_for(lambda: one.get("/readyz")[0] == 503)
    assert one.get("/livez")[0] == 200
    assert one.get("/readyz")[1] == "draining\n"
    assert 'llmservice:draining{engine="0",model_name="apps/demo"} 1.0' in one.get("/metrics")[1]
    assert one.process.wait(10) == 0
    assert "engine: draining" in one.log.read_text(), "engine output passes through"


def test_startup_tells_phase_and_percentage_and_a_loading_engine_stops_the_same_way(replica: Make) -> None:
    one = replica("load")
    one.wait_for(lambda: one.state.get("phase") == "Loading")
    code, body = one.get("/startupz")
    assert code == 503 and json.loads(body)["percent"] == 25 and json.loads(body)["eta_seconds"] >= 0
    assert one.get("/readyz")[0] == 503 and one.get("/livez")[0] == 200
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(10) == 0


def test_an_engine_that_drains_when_it_is_told_gets_sigterm_when_it_has(replica: Make) -> None:
    one = replica("told")
    one.wait_ready()
    engine = one.state["engine_pid"]
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(timeout=60) == 0
    assert not alive(engine)
    assert 'engine: told {"drain": 5}' in one.log.read_text() and not one.record_file.exists()


def test_second_signal_kills_at_once(replica: Make) -> None:
    one = replica("deaf", drain_seconds=60)
    one.wait_ready()
    engine = one.state["engine_pid"]
    one.process.send_signal(signal.SIGINT)
    one.wait_for(lambda: one.get("/readyz")[0] == 503)
    assert alive(engine)
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(5) == 0
    assert not alive(engine)


@pytest.mark.parametrize(
    ("command", "failure", "words"),
    [
        (("crash",), "Crashed", "wrong shape"),
        (("segv",), "Crashed", "SIGSEGV"),
        (("signal", "SIGILL"), "Crashed", "another CPU"),
        (("signal", "SIGBUS"), "ModelDamaged", "/none/model.gguf"),
        (("signal", "SIGKILL"), "Crashed", "SIGKILL"),
        (("fail", "DoesNotFit"), "DoesNotFit", "as told"),
        (("say", "ggml_cuda: cudaMalloc failed: out of memory"), "OutOfGPUMemory", "cudaMalloc"),
        (("say", "OSError: [Errno 98] Address already in use"), "PortInUse", "Address already in use"),
        (("say", "OSError: [Errno 28] No space left on device"), "DiskFull", "No space left"),
        (("say", "MemoryError"), "OutOfMemory", "MemoryError"),
    ],
)
def test_a_failed_engine_leaves_a_record_and_a_non_zero_exit(
    replica: Make, command: tuple[str, ...], failure: str, words: str
) -> None:
    one = replica(*command)
    assert one.process.wait(15) == 1
    assert one.record["failure"] == failure
    assert words in one.record["message"]
    assert one.record["remedy"]
    assert one.record["phase"] == "Loading"


def test_an_engine_that_is_never_ready_is_a_load_timeout(replica: Make) -> None:
    one = replica("load", load_seconds=1)
    assert one.process.wait(10) == 1
    assert one.record["failure"] == "LoadTimeout"
    assert one.record["exit_code"] == -signal.SIGKILL


def test_requests_without_a_step_fail_liveness(replica: Make) -> None:
    one = replica("busy", progress_seconds=0.6)
    one.wait_ready()
    one.wait_for(lambda: one.get("/livez")[0] == 503, 5)
    assert one.get("/readyz")[0] == 503
    assert "2 requests ran" in one.record["message"] and one.record["failure"] == "NoProgress"
    one.process.send_signal(signal.SIGTERM)  # as the kubelet does: nothing to wait for
    assert one.process.wait(3) == 0


def test_an_idle_stopped_engine_fails_liveness_and_recovers_when_it_moves_again(replica: Make) -> None:
    one = replica("ready", progress_seconds=1.0)
    one.wait_ready()
    engine = one.state["engine_pid"]
    os.kill(engine, signal.SIGSTOP)
    stopped = time.monotonic()
    one.wait_for(lambda: one.get("/livez")[0] == 503, 5)
    assert time.monotonic() - stopped < 2.5
    os.kill(engine, signal.SIGCONT)
    one.wait_for(lambda: one.get("/livez")[0] == 200, 5)
    assert one.record_file.read_text() == "", "the record of a failure that passed is taken back"


def test_with_restart_a_wedged_engine_is_replaced(replica: Make) -> None:
    one = replica("ready", progress_seconds=1.0, restart=True)
    one.wait_ready()
    first = one.state["engine_pid"]
    os.kill(first, signal.SIGSTOP)
    one.wait_for(lambda: bool(one.state.get("ready")) and one.state["engine_pid"] != first)
    assert not alive(first)
    status = one.status()
    assert status["restarts"] == 1 and status["last_failure"]["failure"] == "NoProgress"


def test_with_restart_a_crash_is_retried_but_a_hopeless_failure_is_not(replica: Make, tmp_path: Path) -> None:
    one = replica("once", str(tmp_path / "been-here"), restart=True)
    one.wait_ready()
    assert one.status()["restarts"] == 1
    one.process.kill()
    two = replica("fail", "UnsupportedFormat", restart=True)
    assert two.process.wait(10) == 1


def test_no_orphan_after_sigkill_of_the_supervisor(replica: Make, tmp_path: Path) -> None:
    one = replica("deaf")  # ignores SIGTERM and the lifeline
    one.wait_ready()
    engine = one.state["engine_pid"]
    one.process.kill()
    one.wait_for(lambda: not alive(engine), 5)


def test_what_an_engine_started_ends_with_it(replica: Make, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    one = replica("nest", str(note))
    one.wait_ready()
    grandchild = int(note.read_text())
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(10) == 0
    assert not alive(grandchild)


def test_the_supervisor_ends_when_its_lifeline_does(replica: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    monkeypatch.setenv("LLMSERVICE_LIFELINE_FD", str(read))
    real = subprocess.Popen

    def with_lifeline(*args: Any, **kwargs: Any) -> Any:
        return real(*args, pass_fds=(read,), **kwargs)

    monkeypatch.setattr(subprocess, "Popen", with_lifeline)
    one = replica("ready", "30")
    os.close(read)
    one.wait_ready()
    engine = one.state["engine_pid"]
    os.close(write)
    assert one.process.wait(5) == 0
    assert not alive(engine)


@pytest.mark.parametrize("how", ["stopped", "gone"])
def test_a_log_reader_that_stalls_stops_neither_probes_nor_engine(replica: Make, how: str) -> None:
    read, write = os.pipe()
    reader = subprocess.Popen(["cat"], stdin=read, stdout=subprocess.PIPE)
    os.close(read)
    if how == "stopped":
        os.kill(reader.pid, signal.SIGSTOP)
    else:
        reader.kill()
    one = replica("chatty", output=write)
    os.close(write)
    try:
        one.wait_for(lambda: bool(one.state_file.exists() and one.state.get("ready")))
        seen = one.status()["steps"]
        one.wait_for(lambda: one.status()["steps"] > seen + 5)
        assert one.get("/livez")[0] == one.get("/readyz")[0] == 200
        if how == "stopped":
            os.kill(reader.pid, signal.SIGCONT)
            assert reader.stdout is not None
            said = b""
            while b"bytes were dropped here" not in said:
                said += os.read(reader.stdout.fileno(), 1 << 20)
            assert b"0000000 x" in said, "what came first is kept"
            os.kill(reader.pid, signal.SIGSTOP)
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(15) == 0
    finally:
        reader.kill()
        reader.communicate()


def test_a_taken_supervisor_port_is_said(replica: Make, tmp_path: Path) -> None:
    one = replica("ready")
    one.wait_ready()
    port = one.state["supervisor_port"]
    settings = RuntimeSettings(EngineType.LLAMA_CPP, "/m.gguf", "m", supervisor_port=port)
    with pytest.raises(UserError, match=str(port)) as error:
        serve(options_for(settings, ["/bin/true"]))
    assert error.value.failure is FailureClass.PORT_IN_USE and error.value.remedy


def test_serve_refuses_an_engine_that_is_not_installed_and_bad_settings(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    record = tmp_path / "record"
    body = {"engine": "LlamaCpp", "model_path": "/m.gguf", "model_name": "m", "failure_log": str(record)}
    settings.write_text(json.dumps(body))
    command = [sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(settings)]
    nowhere = {**os.environ, "LLMSERVICE_ENGINES_DIR": str(tmp_path / "engines")}
    run = subprocess.run(command, env=nowhere, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1 and "fix: Install it with: llmservice-runtime install llamacpp" in run.stderr
    assert json.loads(record.read_text())["failure"] == "EngineNotInstalled"

    settings.write_text(json.dumps({**body, "contxt_tokens": 4}))
    run = subprocess.run(command, env=nowhere, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1 and "contxt_tokens" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("changed", "arguments", "named"),
    [
        ({"context_tokens": -5}, [], "`context_tokens` is -5"),
        ({"max_sequences": 0}, [], "`max_sequences` is 0"),
        ({"port": 99999}, [], "`port` is 99999"),
        ({"port": 8123, "supervisor_port": 8123}, [], "both 8123"),
        ({"port": 8123}, ["--supervisor-port", "8123"], "both 8123"),
        ({}, ["--supervisor-port", "70000"], "`supervisor_port` is 70000"),
        ({"task": "Pictures"}, [], '`task` is "Pictures"'),
        ({"load_quantization": "FP8"}, [], '`load_quantization` is "FP8"; llama.cpp has no such setting'),
        ({"trust_remote_code": True}, [], "`trust_remote_code` is true; llama.cpp has no such setting"),
        ({"context_tokens": 4096, "kv_tokens": 4095}, [], "`kv_tokens` is 4095"),
        ({}, ["--state-file", "/proc/none/state.json"], "`--state-file` is /proc/none/state.json"),
    ],
)
def test_a_wrong_setting_is_a_bad_argument_before_anything_starts(
    tmp_path: Path, changed: dict[str, Any], arguments: list[str], named: str
) -> None:
    record, settings = tmp_path / "record", tmp_path / "settings.json"
    body = {"engine": "LlamaCpp", "model_path": "/m.gguf", "model_name": "m", "failure_log": str(record)}
    settings.write_text(json.dumps({**body, "port": 0, "supervisor_port": 0, **changed}))
    command = [sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(settings), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1 and run.stderr.startswith("error: BadArgument: ") and "\nfix: " in run.stderr
    said = json.loads(record.read_text())
    assert said["failure"] == "BadArgument" and named in said["message"] and said["remedy"]


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "1.2.3.4.5"])
@pytest.mark.parametrize(
    "take", [lambda host: listen(host, 0), lambda host: bind(host, 0)], ids=["supervisor", "engine"]
)
def test_an_address_that_is_not_this_machines_is_a_bad_argument(host: str, take: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match=host) as refused:
        take(host)
    assert refused.value.failure is FailureClass.BAD_ARGUMENT and refused.value.remedy


def test_a_failure_log_that_can_not_be_written_is_said_at_once(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    body = {"engine": "LlamaCpp", "model_path": "/m.gguf", "model_name": "m", "failure_log": str(settings / "below")}
    settings.write_text(json.dumps(body))
    command = [sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(settings)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (
        run.returncode == 1 and "BadArgument: `failure_log` is" in run.stderr and "which can't be written" in run.stderr
    )


@pytest.mark.parametrize("write", ["failure_log", "--state-file"])
def test_no_folder_is_made_for_a_file_that_is_named(tmp_path: Path, write: str) -> None:
    settings, missing = tmp_path / "settings.json", tmp_path / "a" / "typo"
    log = {"failure_log": str(missing / "file")} if write == "failure_log" else {}
    settings.write_text(json.dumps({"engine": "LlamaCpp", "model_path": "/m.gguf", "model_name": "m", **log}))
    command = [sys.executable, "-m", "llmservice_runtime", "serve", "--settings", str(settings)]
    command += [] if log else [write, str(missing / "file")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1 and f"there is no folder {missing}" in run.stderr
    assert [found.name for found in tmp_path.iterdir()] == ["settings.json"]


def test_the_supervisor_is_light(replica: Make) -> None:
    one = replica("ready")
    one.wait_ready()
    one.get("/status")
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    assert resident < 60
    threads = int(status.split("Threads:")[1].split()[0])
    assert threads <= 3, "the event loop, and what writes stdout and stderr"


def test_who_needs_longer_between_steps_is_given_more(replica: Make) -> None:
    """What NoProgress says to do: the silence that ends a replica above is none where the bound is wider."""
    one = replica("busy", progress_seconds=60)
    one.wait_ready()
    time.sleep(1.5)
    assert one.get("/livez")[0] == 200
