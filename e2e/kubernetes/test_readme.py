"""The README's section on Kubernetes, pasted into a shell. It installs the operator: the installed one goes first."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from harness import release
from harness.api import Api
from harness.chat import trained_answer
from harness.programs import PROVIDER, ROOT, run
from harness.service import QUESTION

PORT = 8000

pytestmark = pytest.mark.alone


@pytest.fixture
def block() -> str:
    """The section's commands but for `make`: the cluster is up, and its images are the tests'."""
    section = (ROOT / "README.md").read_text().split("## On Kubernetes")[1].split("\n## ")[0]
    make, _, rest = section.split("```")[1].strip().partition("\n")
    assert make == "make cluster images"
    return rest


@pytest.fixture
def nothing_installed(installed: release.Values, api: Api) -> Iterator[None]:
    """No release, and no service `demo` in the namespace `default`; the tests' release comes back."""
    release.uninstall()
    api.delete("llmservices", "default", "demo")
    yield
    api.delete("llmservices", "default", "demo")
    release.install(installed)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.skipif(PROVIDER != "bare", reason="the README names the bare provider's registry")
def test_as_a_new_user_pastes_it(block: str, nothing_installed: None) -> None:
    commands = block.replace(f"{PORT}", f"{free_port()}", 2)
    script = f"shopt -s expand_aliases\nset -eu\ntrap 'kill $!' EXIT\n{commands}"
    printed = run("bash", "-c", script, seconds=300)
    assert re.search(r"^demo .* LlamaCpp +1/1 ", printed, re.M)
    assert "data: [DONE]" in printed
    pieces = re.findall(r'"content": ?"((?:[^"\\]|\\.)*)"', printed)
    assert "".join(pieces).encode().decode("unicode_escape") == trained_answer(QUESTION)
