"""`llmservice`: the command line. Commands are imported when they run, so that --help stays fast."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from llmservice_cli.told import asks_for_json, tell, tell_program
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.plain import plain_output
from llmservice_runtime.contract.version import VERSION

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

COMMANDS = {
    "run": ("llmservice_cli.commands.run", "serve a model by its name, and talk to it"),
    "up": ("llmservice_cli.commands.up", "serve the services of manifests on this machine"),
    "down": ("llmservice_cli.commands.down", "stop services, or everything"),
    "stop": ("llmservice_cli.commands.stop", "have models leave memory until they are asked for"),
    "scale": ("llmservice_cli.commands.scale", "run more or fewer replicas of a service, or none"),
    "explain": ("llmservice_cli.commands.explain", "print how many replicas demand wants, and why"),
    "keys": ("llmservice_cli.commands.keys", "make, list, rotate and revoke API keys of a cluster's gateway"),
    "ps": ("llmservice_cli.commands.ps", "list services and replicas"),
    "logs": ("llmservice_cli.commands.logs", "print or follow the logs of a service"),
    "chat": ("llmservice_cli.commands.chat", "talk to a service in the terminal"),
    "batch": (
        "llmservice_cli.commands.batch",
        "ask every line of a file, behind live requests",
    ),
    "models": (
        "llmservice_cli.commands.models",
        "list the models that are kept here, and remove them",
    ),
    "pull": ("llmservice_cli.commands.pull", "bring a model to this machine"),
    "rm": ("llmservice_cli.commands.rm", "remove models from this machine"),
    "plan": ("llmservice_cli.commands.plan", "print what would run, where, and why"),
    "engines": ("llmservice_cli.commands.engines", "print what a model can run on, and why not on the rest"),
    "install": ("llmservice_cli.commands.install", "bring an engine to this machine"),
    "autostart": ("llmservice_cli.commands.autostart", "serve whenever this user's session begins (systemd)"),
    "completion": ("llmservice_cli.commands.completion", "print what has a shell complete commands"),
    "crds": ("llmservice_cli.commands.crds", "print the CustomResourceDefinition"),
}
"""Command -> (module with `configure(parser)` and `run(args) -> int`, one line of help)."""
OF_OLLAMA = {
    "create": "What a service is stands in a manifest: `llmservice up -f FILE`.",
    "cp": "Another name is one more word in the annotation llmservice.dev/aliases of a manifest.",
    "list": "`llmservice models` lists what is kept here, `llmservice ps` what runs.",
    "ls": "`llmservice models` lists what is kept here, `llmservice ps` what runs.",
    "push": "Nothing is pushed: a model lies where its manifest says.",
    "serve": "`llmservice run MODEL` starts what it needs, `llmservice up -f FILE` serves a manifest.",
    "show": "`llmservice ps -o yaml` prints what runs, `llmservice engines hf://OWNER/NAME` what could run a model.",
}
"""What somebody types who comes from Ollama: what it is here."""
GARBAGE = 200_000
"""New containers before the collector looks: what is imported and read stays, and looking through it takes long."""
PLUGINS = "pydantic.plugin._loader"
"""Where pydantic searches all that is installed for plug-ins of its own; a tenth of what `plan` takes."""

COMPLETING = "_ARGCOMPLETE"
"""Set by a shell that asks what a word may be (`llmservice completion`)."""


class UsageError(UserError):
    """A command line that can't be parsed; `usage` is how it is written."""

    def __init__(self, reason: str, usage: str, program: str) -> None:
        super().__init__(reason, f"See {program} --help.")
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """One that raises, so that a mistake in the command line is told as every other."""

    def error(self, message: str) -> NoReturn:
        """A UsageError with argparse's sentence."""
        raise UsageError(f"{message}.", self.format_usage(), self.prog)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """argparse's own says nothing of an output that is full."""
        print(self.format_help(), end="", file=file)


def main(argv: list[str] | None = None) -> int:
    """Parse, import the one command that was asked for, run it. UserErrors become two lines and exit code 1."""
    argv = (_being_completed() or sys.argv[1:]) if argv is None else argv
    gc.set_threshold(GARBAGE, 20, 20)
    _without_plugins()
    with plain_output():
        return _main(argv)


def _being_completed() -> list[str]:
    """The words of a command line that is being typed, as the shell says them."""
    return os.environ.get("COMP_LINE", "").split()[1:] if COMPLETING in os.environ else []


def _without_plugins() -> None:
    """A command line has no plug-ins of pydantic."""
    loader = ModuleType(PLUGINS)
    loader.get_plugins = tuple  # type: ignore[attr-defined]
    sys.modules.setdefault(PLUGINS, loader)


def _main(argv: list[str]) -> int:
    for_a_program = asks_for_json(argv)
    parser = Parser(prog="llmservice", description="From an LLMService manifest to an OpenAI endpoint.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of this program and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in argv if not word.startswith("-")), "")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == asked:
            implementation = importlib.import_module(module)
            implementation.configure(command)
            command.set_defaults(run=implementation.run)
    if COMPLETING in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, always_complete_options=False)  # and ends
    try:
        args = parser.parse_args(argv)
        return int(args.run(args))
    except UsageError as error:
        if meant := OF_OLLAMA.get(asked):
            tell(UserError(f"`{asked}` is no command here.", meant))
            return 2
        print(error.usage, end="", file=sys.stderr)
        (tell_program if for_a_program else tell)(error)
        return 2
    except UserError as error:
        (tell_program if for_a_program else tell)(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Version(argparse.Action):
    """argparse's own says nothing of an output that is full."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"llmservice {VERSION}")
        parser.exit()
