"""The command line itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmservice_cli.main import main

DEMO = Path(__file__).parents[3] / "runtime" / "demo" / "model" / "demo-Q4_K_M.gguf"


def test_help_and_ps_load_nothing_heavy() -> None:
    """What keeps `--help` under 300 ms, on any machine."""
    for words, module in ((["--help"], "argparse"), (["ps", "--help"], "llmservice_cli.commands.ps")):
        code = (
            "import sys\n"
            "from llmservice_cli.main import main\n"
            f"try: main({words!r})\n"
            "except SystemExit: pass\n"
            f"assert {module!r} in sys.modules\n"
            "print([m for m in ('aiohttp', 'pydantic', 'yaml', 'boto3', 'httpx') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys; from llmservice_cli.main import main; sys.exit(main(['crds']))"
    done = subprocess.run(
        f'{sys.executable} -c "{code}" | head -1', shell=True, capture_output=True, text=True, check=True
    )
    assert "Traceback" not in done.stderr


def test_a_plan_loads_what_planning_needs_and_no_more(tmp_path: Path) -> None:
    """What keeps the start of `plan` short, on any machine; times are measured by hand."""
    (tmp_path / "x.yaml").write_text(
        "apiVersion: llmservice.dev/v1alpha1\nkind: LLMService\nmetadata: {name: t}\n"
        "spec: {model: {uri: 'file://absent'}}\n"
    )
    code = (
        "import sys\n"
        "from llmservice_cli.main import main\n"
        f"assert main(['plan', '-f', {str(tmp_path / 'x.yaml')!r}]) == 1\n"
        "from llmservice_api.rules import ApiModel\n"
        "assert 'llmservice_runtime.sources.local' in sys.modules\n"
        "unneeded = ('aiohttp', 'boto3', 'httpx', 'huggingface_hub', 'tqdm', 'asyncio', 'concurrent.futures.thread',\n"
        "    'llmservice_runtime.sources.download', 'llmservice_runtime.sources.remote', 'llmservice_api.docstrings',\n"
        "    'importlib.metadata', 'email', 'zipfile')\n"  # what pydantic searches for plug-ins with
        "print([m for m in unneeded if m in sys.modules], ApiModel.model_config.get('use_attribute_docstrings'))\n"
        "print(len(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, unneeded, modules = done.stdout.splitlines()
    assert unneeded == "[] None"
    assert int(modules) < 412


def test_a_plan_builds_one_validator_and_looks_at_its_objects_no_more_when_it_ends(tmp_path: Path) -> None:
    """What else keeps `plan` short: every API type that is built by itself, and garbage that is searched at the end."""
    (tmp_path / "x.yaml").write_text(
        "apiVersion: llmservice.dev/v1alpha1\nkind: LLMService\nmetadata: {name: t}\n"
        f"spec: {{model: {{uri: 'file://{DEMO}'}}}}\n"
    )
    code = (
        "import gc, sys\n"
        f"sys.argv = ['llmservice', 'plan', '-f', {str(tmp_path / 'x.yaml')!r}]\n"
        "from llmservice_cli.entry import run\n"
        "assert run() == 0\n"
        "from llmservice_api.rules import ApiModel\n"
        "print([kind.__name__ for kind in ApiModel.__subclasses__() if kind.__pydantic_complete__])\n"
        "print(gc.get_freeze_count() > 10_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, built, frozen = done.stdout.splitlines()
    assert built == "['LLMService']"
    assert frozen == "True"


def test_a_plan_of_this_machine_says_which_fields_mean_nothing_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "x.yaml"
    manifest.write_text(
        "apiVersion: llmservice.dev/v1alpha1\nkind: LLMService\nmetadata: {name: t}\n"
        f"spec: {{model: {{uri: 'file://{DEMO}'}}, resources: {{limits: {{memory: 1Mi}}}}}}\n"
    )
    said = "spec.resources has no effect on one machine"
    main(["plan", "-f", str(manifest)])
    assert said in capsys.readouterr().out
    main(["plan", "-f", str(manifest), "--gpu", "L4"])
    assert said not in capsys.readouterr().out


@pytest.mark.parametrize("command", [["run", "acme/demo"], ["autostart"], ["up", "-f", "x.yaml"]])
def test_a_port_that_no_machine_has_is_told(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--port", "70000"]) == 2
    assert "'70000' is not a port (0 to 65535)" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "told"), [("list", "llmservice models"), ("serve", "llmservice run MODEL")])
def test_what_ollamas_people_type_is_told_in_the_words_of_here(
    word: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "x"]) == 2
    said = capsys.readouterr().err
    assert f"`{word}` is no command here." in said and told in said and "invalid choice" not in said
