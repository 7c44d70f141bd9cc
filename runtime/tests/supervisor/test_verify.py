"""What a load turned out to be is held against the plan, and what differs is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.supervisor.verify import MIB, Resident, differences, files_bytes, loaded, resident

GIB = 1 << 30


SPEEDS = {"tokens_per_second": 12.345, "prompt_tokens_per_second": 456.789, "together_tokens_per_second": 0.5}


def settings(path: Path | str = "/m", **fields: object) -> RuntimeSettings:
    body = {"engine": "LlamaCpp", "model_path": str(path), "model_name": "m", **fields}
    return RuntimeSettings.from_json(json.dumps(body))


def line(name: str, part: str, size: int, where: str = "Host") -> dict[str, object]:
    return {"name": name, "part": part, "where": where, "bytes": size}


def told(*lines: tuple[str, str, int, int], **detail: object) -> str:
    """What an engine says in its report: part, place, bytes, bytes of them in memory."""
    names = ("part", "where", "bytes", "resident")
    return json.dumps({"memory": [dict(zip(names, line, strict=True)) for line in lines], **detail})


def test_a_load_as_planned_says_nothing() -> None:
    planned = settings(planned_memory=[line("weights", "Weights", GIB)])
    load = loaded(planned, {"Loading": 1.25}, 2.0, Resident(int(1.1 * GIB)), json.dumps(SPEEDS))
    assert load.findings == ()
    assert (load.predicted, load.measured) == ({"host": GIB}, {"host": int(1.1 * GIB)})
    assert (load.seconds, load.phases, load.tokens_per_second) == (2.0, {"Loading": 1.25}, 12.35)
    assert (load.prompt_tokens_per_second, load.together_tokens_per_second) == (456.79, 0.5)
    assert json.loads(json.dumps(load.as_json()))["measured"] == {"host": int(1.1 * GIB)}


PLAN = [
    line("weights", "Weights", 800 * MIB),
    line("KV cache of 9 tokens", "Cache", 90 * MIB),
    line("states of 2 sequences", "Cache", 10 * MIB),
    line("engine and its buffers", "Engine", 300 * MIB),
    line("memory that processes share", "Shared", 50 * MIB),
    line("reserve", "Reserve", 256 * MIB),
]


def test_every_line_of_the_plan_has_what_is_measured_of_it() -> None:
    """A cache that was not written yet is counted as it will be; what no line else has is the engine's."""
    detail = told(("Weights", "Host", 810 * MIB, 800 * MIB), ("Cache", "Host", 100 * MIB, 20 * MIB))
    load = loaded(settings(planned_memory=PLAN), {}, 1.0, Resident(1200 * MIB, 40 * MIB), detail)
    assert [
        (found.name, found.predicted // MIB, found.measured and found.measured // MIB) for found in load.memory
    ] == [
        ("weights", 800, 810),
        ("KV cache of 9 tokens and states of 2 sequences", 100, 100),
        ("engine and its buffers", 300, 340),
        ("memory that processes share", 50, 40),
        ("reserve", 256, None),
    ]
    assert (load.predicted["host"], load.measured["host"]) == (1250 * MIB, 1290 * MIB)
    assert sum(found.measured or 0 for found in load.memory) == load.measured["host"] and load.findings == ()


def test_a_cache_that_fills_a_gpu_is_no_surprise() -> None:
    """vLLM takes what is left of its share: 20 GiB where 2 were planned. What it needs beside that may be one."""
    planned = settings(
        planned_memory=[
            line("weights", "Weights", 2 * GIB, "GPU"),
            line("KV cache of 9 tokens", "Cache", 2 * GIB, "GPU"),
            line("engine and its buffers", "Engine", 2 * GIB, "GPU"),
        ]
    )

    def of(engine: int) -> tuple[str, ...]:
        parts = (("Weights", 2 * GIB), ("Cache", 20 * GIB), ("Engine", engine))
        load = loaded(planned, {}, 1.0, Resident(0), told(*((part, "GPU", size, size) for part, size in parts)))
        assert load.measured["gpu"] == 22 * GIB + engine and load.memory[1].measured == 20 * GIB
        return load.findings

    assert of(2 * GIB) == ()
    (said,) = of(3 * GIB)
    assert "takes 7,168 MiB of GPU memory" in said and "the most for engine and its buffers, 3,072 MiB" in said


def test_what_nobody_tells_is_not_measured() -> None:
    """An engine that tells nothing of itself: the sum is known, and what processes share."""
    load = loaded(settings(planned_memory=PLAN), {}, 1.0, Resident(GIB, 40 * MIB), "")
    assert [found.measured for found in load.memory] == [None, None, None, 40 * MIB, None]
    assert load.measured == {"host": GIB}
    unknown = loaded(settings(planned_memory=PLAN), {}, 1.0, Resident(0), "")
    assert unknown.measured == {} and {found.measured for found in unknown.memory} == {None}


def test_more_memory_than_planned_is_said_with_both_numbers_and_the_line_that_has_it() -> None:
    planned = settings(
        planned_memory=[
            line("weights", "Weights", GIB),
            line("weights", "Weights", GIB, "GPU"),
            line("rest", "Engine", 1),
        ]
    )
    detail = told(("Weights", "GPU", 2 * GIB, 2 * GIB), ("Weights", "Host", GIB, GIB))
    load = loaded(planned, {}, 1.0, Resident(int(1.25 * GIB)), detail)
    host, gpu = load.findings
    assert "1,280 MiB of host memory" in host and "25% more than the 1,024 MiB" in host
    assert "(the most for rest, 256 MiB instead of 0 MiB)" in host
    assert "2,048 MiB of GPU memory" in gpu and "the most for weights, 2,048 MiB instead of 1,024 MiB" in gpu


SIZES = st.integers(0, 1 << 40)
HELD = st.lists(st.tuples(st.sampled_from(["Weights", "Cache"]), st.just("Host"), SIZES, SIZES), max_size=4)


@given(HELD, SIZES, SIZES, st.booleans())
def test_lines_add_up_to_the_sum(
    held: list[tuple[str, str, int, int]], rest: int, shared: int, counted_apart: bool
) -> None:
    held = [(part, where, size, min(size, there)) for part, where, size, there in held]
    host = Resident(rest + shared + sum(there for *_, there in held), shared)
    planned = [one for one in PLAN if counted_apart or one["part"] != "Shared"]
    load = loaded(settings(planned_memory=planned), {}, 1.0, host, told(*held))
    parts = {part for part, *_ in held}
    if parts == {"Weights", "Cache"} and host.total:
        assert sum(found.measured or 0 for found in load.memory) == load.measured["host"]


def test_another_gpu_than_planned_is_said() -> None:
    planned = settings(planned_accelerator="L4")
    (said,) = loaded(planned, {}, 1.0, Resident(0), json.dumps({"other_gpus": ["Tesla T4"]})).findings
    assert said.startswith("The plan was made for L4, and the engine runs on Tesla T4:")
    for detail in ('{"other_gpus": []}', '{"other_gpus": "T4"}', "{}"):
        assert loaded(planned, {}, 1.0, Resident(0), detail).findings == ()
    assert loaded(settings(), {}, 1.0, Resident(0), json.dumps({"other_gpus": ["T4"]})).findings == ()


def test_other_files_than_those_planned_with_are_said(tmp_path: Path) -> None:
    for name, size in (("sub/a.gguf", 10), ("sub/b.gguf", 20)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    planned = settings(tmp_path / "sub/a.gguf", planned_files=["sub/a.gguf", "sub/b.gguf"], planned_file_bytes=31)
    assert files_bytes(planned) == 30
    (finding,) = loaded(planned, {}, 1.0, Resident(0), "").findings
    assert "30 bytes" in finding and "made for 31" in finding
    folder = settings(tmp_path, planned_files=["sub/a.gguf"], planned_file_bytes=10)
    assert loaded(folder, {}, 1.0, Resident(0), "not JSON").findings == ()
    assert files_bytes(settings(tmp_path, planned_files=["gone"])) == 0


WRONG = (
    "", "[]", '{"tokens_per_second": "1"}', "{", '{"memory": true}', '{"memory": [1, {}, {"part": "Weights"}]}',
    told(("Reserve", "Host", 1, 1), ("Weights", "Moon", 1, 1), ("Weights", "Host", -1, 1)),
)  # fmt: skip


@pytest.mark.parametrize("detail", WRONG)
def test_what_an_engine_says_of_its_load_need_not_make_sense(detail: str) -> None:
    load = loaded(settings(), {}, 1.0, Resident(0), detail)
    assert (load.tokens_per_second, load.measured, load.findings) == (None, {}, ())


def test_only_what_both_sides_know_is_compared() -> None:
    assert list(differences({"host": 1}, {})) == list(differences({}, {"host": 1, "files": 2})) == []


def test_the_memory_of_a_session_is_that_of_its_processes() -> None:
    hold = "import sys; kept = b'x' * (200 << 20); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline()
        alone, together = resident(-1).total, resident(child.pid).total  # in a container others have session 0
        assert alone > 0 and os.getpid() != child.pid
        assert 150 << 20 < together - alone < 260 << 20  # libraries are shared with us
        child.kill()
