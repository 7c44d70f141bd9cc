"""`python -m llmservice_runtime.engines.vllm.serve --settings FILE`: becomes `vllm serve`, for the supervisor to start.

The process stays the same: its id, its pipes and whom it dies with.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any, NoReturn

from tokenizers import Tokenizer

from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.cache import cache_dir
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.logs import configure
from llmservice_runtime.contract.report import Phase
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.whole import check_files
from llmservice_runtime.engines.vllm.options import vllm_options
from llmservice_runtime.engines.vllm.plugins import ENTRY_POINTS, NAMES, PROCESSES
from llmservice_runtime.engines.vllm.serve.command import Surroundings, command, environment
from llmservice_runtime.engines.vllm.serve.handover import PID_ENV, SETTINGS_ENV
from llmservice_runtime.engines.vllm.serve.link import LINK, broken
from llmservice_runtime.engines.vllm.serve.pool import kv_bytes
from llmservice_runtime.formats.sentences import Sentences
from llmservice_runtime.machine.probe import cpus
from llmservice_runtime.openai.launch import bind, give_way
from llmservice_runtime.pooling.files import recipe_of

OTHER_GROUPS = (
    "vllm.general_plugins",
    "vllm.io_processor_plugins",
    "vllm.platform_plugins",
    "vllm.stat_logger_plugins",
)
"""Groups whose plug-ins vLLM loads unasked, as long as VLLM_PLUGINS is not set."""

POOLINGS = {"Mean": "MEAN", "CLS": "CLS", "Last": "LAST"}
"""In vLLM's words."""
ABSOLUTE = ("roberta", "xlm-roberta")
"""Model types whose code in vLLM reads a field that newer versions of Transformers no longer write."""

log = logging.getLogger(__name__)


def main() -> int:
    """The exit code of a process that could not become `vllm serve`."""
    parser = argparse.ArgumentParser(description="One model, for the supervisor to start.")
    parser.add_argument("--settings", required=True, type=Path, help="JSON file of RuntimeSettings")
    arguments = parser.parse_args()
    configure(logging.INFO, "%(levelname)s %(name)s: %(message)s")
    try:
        settings = RuntimeSettings.from_json(arguments.settings.read_text())
        _become(settings, arguments.settings)
    except (OSError, UserError) as error:
        log.error("%s", error)
        if isinstance(error, UserError):
            LINK.reporter.failure(error)
        return 1


def _become(settings: RuntimeSettings, file: Path) -> NoReturn:
    LINK.phase(Phase.STARTING)
    if not Path(settings.model_path).exists():  # vLLM would take the path for a name on a hub
        raise UserError(
            f"There is no model in {settings.model_path}.",
            "Check the path: vLLM reads a folder with config.json, tokenizer files and safetensors.",
            FailureClass.MODEL_NOT_FOUND,
        )
    check_files(Path(settings.model_path), settings.planned_files)
    bind(settings.host, settings.port).close()  # vLLM comes to it when it has imported all of itself
    others = _other_plugins()
    folder, recipe = Path(settings.model_path), None
    if settings.task in POOLED:
        give_way()
        recipe = recipe_of(folder, settings.task)
    on_cpu = version("vllm").endswith("+cpu")
    said = vllm_options(settings.engine_args).cache_bytes is not None
    around = Surroundings(
        python=sys.executable,
        environ=os.environ,
        others=others,
        cpus=cpus(),
        cache=str(cache_dir() / "compiled"),
        cpu=on_cpu,
        pooling=POOLINGS.get(recipe.pooling, "") if recipe else "",
        overrides=overrides(folder, recipe) if recipe else {},
        kv_bytes=kv_bytes(settings) if on_cpu and not said else 0,
    )
    argv = command(settings, around)
    env = {**environment(settings, around), SETTINGS_ENV: str(file.absolute()), PID_ENV: str(os.getpid())}
    os.execve(argv[0], argv, env)


def overrides(folder: Path, recipe: Sentences) -> dict[str, Any]:
    """What vLLM must be told beside config.json: that a decoder is asked for yes or no, and a field that some of its
    code reads and newer versions of Transformers do not write, with the one meaning that there is."""
    said = json.loads((folder / "config.json").read_text())
    old = "position_embedding_type"
    found = {old: "absolute"} if said.get("model_type") in ABSOLUTE and old not in said else {}
    if (answers := recipe.answers) is None:
        return found
    ids = [answers.yes] if answers.no is None else [answers.no, answers.yes]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return {
        **found,
        "architectures": [name.replace("ForCausalLM", "ForSequenceClassification") for name in said["architectures"]],
        "classifier_from_token": [tokenizer.id_to_token(token) for token in ids],
        "method": "no_post_processing" if answers.no is None else "from_2_way_softmax",
    }


def _other_plugins() -> tuple[str, ...]:
    """What vLLM would load beside ours. UserError when one of ours is not there."""
    found = {point.name: point.value for group in ENTRY_POINTS for point in entry_points(group=group)}
    wanted = {name: value for names in ENTRY_POINTS.values() for name, value in names.items()}
    if missing := [name for name, value in wanted.items() if found.get(name) != value]:
        raise UserError(
            f"The engine's environment lacks our plug-in {missing[0]}.",
            "Install it again: llmservice-runtime install vllm --rebuild.",
            FailureClass.ENGINE_NOT_INSTALLED,
        )
    try:
        importlib.import_module(wanted[PROCESSES].partition(":")[0])  # which looks after the others when vLLM loads it
    except Exception as error:
        raise broken(PROCESSES, error) from error
    names = (point.name for group in OTHER_GROUPS for point in entry_points(group=group))
    return tuple(dict.fromkeys(name for name in names if name not in NAMES))


if __name__ == "__main__":
    sys.exit(main())
