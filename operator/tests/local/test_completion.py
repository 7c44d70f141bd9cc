"""What a shell is told of a word that is being typed: commands, options, services, models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from machine_world import Here  # type: ignore[import-not-found]
from ollama_world import Store  # type: ignore[import-not-found]

PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
ASK = """
eval "$(llmservice completion bash)"
COMP_WORDS=($LINE) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE="$LINE" COMP_POINT=${#LINE} COMP_TYPE=9
_python_argcomplete llmservice "$WORD" "" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(here: Here, line: str) -> set[str]:
    """By a real bash."""
    env = {**here.env, "PATH": PROGRAMS, "LINE": line, "WORD": line.rpartition(" ")[2]}
    done = subprocess.run(["bash", "-c", ASK], env=env, cwd=here.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {word.strip() for word in done.stdout.splitlines() if word.strip()}


def test_bash_completes_commands_options_services_and_models(running: Here) -> None:
    store = Store(running.folder / "of-ollama")
    store.keep("registry.ollama.ai/library/llama3.2/3b", model=b"GGUF")
    kept = running.folder / "cache/models/hf/acme--tuned/c0ffee"
    kept.mkdir(parents=True)
    running.env |= {"OLLAMA_MODELS": str(store.folder), "LLMSERVICE_CACHE_DIR": str(running.folder / "cache")}
    assert offered(running, "llmservice au") == {"autostart"}
    assert offered(running, "llmservice run --keep") == {"--keepalive"}
    assert {"demo", "broken"} <= offered(running, "llmservice chat ")
    assert offered(running, "llmservice stop de") == {"demo"}
    assert offered(running, "llmservice run ac") == {"acme/tuned"}
    assert offered(running, "llmservice run lla") & {"llama3.2:3b", "llama3.2\\:3b"}
    assert offered(running, "llmservice rm hf") == {"hf://acme/tuned"}
    assert offered(running, "llmservice completion f") == {"fish"}


def test_words_are_offered_where_nothing_runs(here: Here) -> None:
    assert offered(here, "llmservice chat x") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_reads_is_right_for_it(here: Here, shell: str) -> None:
    text = here.run("completion", shell)
    assert "llmservice" in text
    if shutil.which(shell):
        file = here.folder / f"completion.{shell}"
        file.write_text(text)
        done = subprocess.run([shell, "-n", file], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "invalid choice: 'csh'" in here.run("completion", "csh", code=2)
