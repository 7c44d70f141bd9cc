"""What a load turned out to be is held against the plan, and what differs is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.verify import differences, files_bytes, loaded, resident

GIB = 1 << 30


def settings(path: Path | str = "/m", **fields: object) -> RuntimeSettings:
    body = {"engine": "LlamaCpp", "model_path": str(path), "model_name": "m", **fields}
    return RuntimeSettings.from_json(json.dumps(body))


def test_a_load_as_planned_says_nothing() -> None:
    planned = settings(planned_host_bytes=GIB)
    load = loaded(planned, {"Loading": 1.25}, 2.0, int(1.1 * GIB), '{"tokens_per_second": 12.345}')
    assert load.findings == ()
    assert (load.predicted, load.measured) == ({"host": GIB}, {"host": int(1.1 * GIB)})
    assert (load.seconds, load.phases, load.tokens_per_second) == (2.0, {"Loading": 1.25}, 12.35)
    assert json.loads(json.dumps(load.as_json()))["measured"] == {"host": int(1.1 * GIB)}


def test_more_memory_than_planned_is_said_with_both_numbers() -> None:
    planned = settings(planned_host_bytes=GIB, planned_gpu_bytes=GIB)
    load = loaded(planned, {}, 1.0, int(1.25 * GIB), json.dumps({"gpu_bytes": 2 * GIB}))
    host, gpu = load.findings
    assert "1,280 MiB of host memory" in host and "25% more than the 1,024 MiB" in host
    assert "2,048 MiB of GPU memory" in gpu


def test_other_files_than_those_planned_with_are_said(tmp_path: Path) -> None:
    for name, size in (("sub/a.gguf", 10), ("sub/b.gguf", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    planned = settings(tmp_path / "sub/a.gguf", planned_files=["sub/a.gguf", "sub/b.gguf"], planned_file_bytes=31)
    assert files_bytes(planned) == 30
    (finding,) = loaded(planned, {}, 1.0, 0, "").findings
    assert "30 bytes" in finding and "made for 31" in finding
    folder = settings(tmp_path, planned_files=["sub/a.gguf"], planned_file_bytes=10)
    assert loaded(folder, {}, 1.0, 0, "not JSON").findings == ()
    assert files_bytes(settings(tmp_path, planned_files=["gone"])) == 0


WRONG = ("", "[]", '{"tokens_per_second": "1", "gpu_bytes": -1}', "{", '{"gpu_bytes": true}')


@pytest.mark.parametrize("detail", WRONG)
def test_what_an_engine_says_of_its_load_need_not_make_sense(detail: str) -> None:
    load = loaded(settings(), {}, 1.0, 0, detail)
    assert (load.tokens_per_second, load.measured, load.findings) == (None, {}, ())


def test_only_what_both_sides_know_is_compared() -> None:
    assert list(differences({"host": 1}, {})) == list(differences({}, {"host": 1, "files": 2})) == []


def test_the_memory_of_a_session_is_that_of_its_processes() -> None:
    hold = "import sys; kept = b'x' * (200 << 20); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline()
        alone, together = resident(-1), resident(child.pid)  # in a container others have session 0
        assert alone > 0 and os.getpid() != child.pid
        assert 150 << 20 < together - alone < 260 << 20  # libraries are shared with us
        child.kill()
