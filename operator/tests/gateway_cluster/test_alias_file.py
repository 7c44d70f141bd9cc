"""The file with other names of services."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from llmservice_gateway.cluster.aliases import MOST_BYTES, follow, read_aliases
from llmservice_runtime.contract.errors import UserError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aliases: [a]", "aliases"),
        ("aliases: {gpt-4o: qwen}", "no namespace/name"),
        ("aliases: {gpt-4o: a/b/c}", "no namespace/name"),
        ("aliases: {' ': a/b}", "no namespace/name"),
        ("aliases: {a: 3}", "aliases.a"),
        ("alias: {a: a/b}", "alias"),
        ("{", "can't be read"),
        ("a\0b", "can't be read"),
        ("#" * (MOST_BYTES + 1), "more than 1 MiB"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "aliases.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"aliases\.yaml") as caught:
        read_aliases(path)
    assert said in str(caught.value)


def test_an_empty_file_and_json_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "aliases.yaml"
    for text, found in (("", {}), ("{}", {}), ('{"aliases": {"gpt-4o": "apps/qwen"}}', {"gpt-4o": "apps/qwen"})):
        path.write_text(text)
        assert read_aliases(path) == found


async def test_it_is_read_again_when_it_changes_and_kept_when_it_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, told = tmp_path / "aliases.yaml", asyncio.Queue[Mapping[str, str]]()
    path.write_text("aliases: {a: apps/one}")
    task = asyncio.create_task(follow(path, told.put_nowait, seconds=0.01))
    async with asyncio.timeout(20):
        assert await told.get() == {"a": "apps/one"}
        path.write_text("aliases: [")
        while "stays" not in caplog.text:  # noqa: ASYNC110 - the log rings no bell
            await asyncio.sleep(0.01)
        path.unlink()
        changed = tmp_path / "new"
        changed.write_text("aliases: {a: apps/two}")
        changed.rename(path)
        assert await told.get() == {"a": "apps/two"}
    task.cancel()
    await asyncio.wait([task])
    assert told.empty()
