"""What a line of a batch may say."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from llmservice_cli.batch import lines, results
from llmservice_cli.batch.lines import BadLine, Line, look_through
from llmservice_runtime.contract.errors import UserError

GOOD = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}


def read(tmp_path: Path, *texts: str | bytes, model: str | None = None) -> list[Line | BadLine]:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in texts))
    return list(look_through(path, model).lines())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "GET"}, '`method` is "GET"'),
        ({"url": "/v1/models"}, '`url` is "/v1/models"'),
        ({"custom_id": ""}, "`custom_id`"),
        ({"custom_id": 7}, "`custom_id`"),
        ({"custom_id": "x" * 513}, "`custom_id`"),
        ({"body": []}, "`body` must be"),
        ({"body": {"model": "m", "stream": True}}, "`body.stream`"),
        ({"body": {"input": "x"}}, "`body.model` must name"),
        ({"extra": 1}, "`extra` is none of its fields"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    _, bad = read(tmp_path, json.dumps({**GOOD, "custom_id": "first"}), json.dumps({**GOOD, **changes}))
    assert isinstance(bad, BadLine) and bad.reason.startswith("line 2: ") and told in bad.reason


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"{", "no JSON"),
        (b"[1]", "no JSON object"),
        (b"\xff", "not UTF-8"),
        (b'{"custom_id": NaN}', "NaN is no JSON number"),
        (b'{"custom_id": 1e400}', "1e400 is larger than any number"),
        (b"[" * 100_000, "too deep"),
        (b"{}", "`custom_id` is missing"),
    ],
)
def test_what_is_no_line_at_all(tmp_path: Path, text: bytes, told: str) -> None:
    (bad,) = read(tmp_path, text)
    assert isinstance(bad, BadLine) and bad.number == 1 and told in bad.reason


def test_blank_lines_marks_and_line_ends_of_others(tmp_path: Path) -> None:
    texts = ["\ufeff" + json.dumps(GOOD) + "\r", "", "  ", json.dumps({**GOOD, "custom_id": "b"})]
    assert [(line.number, line.custom_id) for line in read(tmp_path, *texts)] == [(1, "a"), (4, "b")]


def test_a_line_that_no_request_could_have_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_BYTES", 1000)
    good = [json.dumps({**GOOD, "custom_id": name}) for name in "abc"]
    edge = good[1] + " " * (1000 - len(good[1]))
    found = read(tmp_path, good[0], "x" * 5000, edge, "[" + "1," * 2500 + "1]", good[2], "y" * 1001)
    assert [type(one) for one in found] == [Line, BadLine, Line, BadLine, Line, BadLine]
    assert [one.number for one in found] == [1, 2, 3, 4, 5, 6]
    assert {one.reason for one in found if isinstance(one, BadLine)} == {
        f"line {number}: it has more than 0 MiB." for number in (2, 4, 6)
    }
    (blank,) = read(tmp_path, good[0] + " " * 1000 + "x")
    assert isinstance(blank, BadLine), "the rest of a line is a part of it, blanks before it or not"


def test_one_model_for_all(tmp_path: Path) -> None:
    (line,) = read(tmp_path, json.dumps({**GOOD, "body": {"input": "x"}}), model="apps/vectors")
    assert isinstance(line, Line) and line.body == {"input": "x", "model": "apps/vectors"}


def test_a_line_that_was_edited_has_another_name(tmp_path: Path) -> None:
    (before,) = read(tmp_path, json.dumps(GOOD))
    (after,) = read(tmp_path, json.dumps({**GOOD, "body": {"model": "m", "input": "y"}}))
    assert before.name != after.name and before.name.startswith("batch_req_1_")


def test_no_lines_no_file_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no lines"):
        read(tmp_path, "\n\n")
    with pytest.raises(UserError, match="is not there"):
        look_through(tmp_path / "none", None)
    with pytest.raises(UserError, match="is a folder"):
        look_through(tmp_path, None)


def test_an_output_that_another_one_replaces_meanwhile_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who rewrites it lets go of the old file; whoever opened that one would write where nobody reads."""
    (batch := tmp_path / "in.jsonl").touch()
    (out := tmp_path / "out.jsonl").touch()
    (new := tmp_path / "new.jsonl").touch()
    flock = fcntl.flock

    def late(fd: int, how: int) -> None:
        new.replace(out)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UserError, match="another process writes to"):
        results.Results(out, batch, {})
