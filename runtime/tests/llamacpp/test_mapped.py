"""Pages of a model's file that nobody reads again."""

from __future__ import annotations

import mmap
from pathlib import Path

from llmservice_runtime.engines.llamacpp.serve.mapped import let_go

SIZE = 64 << 20


def resident(file: Path) -> int:
    """Bytes of the file that are mapped here and in memory."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split(maxsplit=1)[0].endswith(":"):
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


def test_a_file_that_was_read_is_let_go_and_can_be_read_again(tmp_path: Path) -> None:
    model, other = tmp_path / "m.gguf", tmp_path / "elsewhere" / "x"
    other.parent.mkdir()
    for file in (model, other):
        file.write_bytes(b"weights!" * (SIZE // 8))
    with (
        model.open("rb") as one,
        other.open("rb") as two,
        mmap.mmap(one.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        mmap.mmap(two.fileno(), 0, prot=mmap.PROT_READ) as beside,
    ):
        assert mapped[::4096] and beside[::4096]
        assert resident(model) > 0 and resident(other) > 0
        kept = resident(other)
        let_go(model)
        assert resident(model) == 0
        assert 0 < resident(other) <= kept
        assert mapped[SIZE // 2 : SIZE // 2 + 8] == b"weights!"
