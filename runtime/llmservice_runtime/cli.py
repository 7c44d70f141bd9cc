"""`llmservice-runtime`: serve, prepare, install. Imports are lazy: each command loads only what it needs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmservice_runtime.contract.bounds import SettingsError, check, check_ports, shown
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureRecord
from llmservice_runtime.contract.plain import plain_output
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.contract.version import VERSION

if TYPE_CHECKING:
    from llmservice_runtime.engines.base.definition import EngineDefinition

ENGINE_NAMES = {engine.folder: engine for engine in EngineType}


def main(argv: list[str] | None = None) -> int:
    """Entry point of the console script; the exit code. User mistakes are two sentences on stderr, exit code 1 or 2."""
    with plain_output():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    commands = {"serve": _serve, "prepare": _prepare, "install": _install, "adapter": _adapter}
    try:
        return commands[arguments.command](arguments)
    except UserError as error:
        kind = f"{error.failure.value}: " if arguments.command == "serve" else ""
        print(f"error: {kind}{error.reason}", file=sys.stderr)
        if error.remedy:
            print(f"fix: {error.remedy}", file=sys.stderr)
        return _exit_code(error) if arguments.command == "prepare" else 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmservice-runtime", description="Serves one model on one engine.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run one replica: supervisor, probes and engine")
    serve.add_argument("--settings", type=Path, required=True, metavar="FILE", help="runtime settings as JSON")
    serve.add_argument("--restart", action="store_true", help="start a failed engine again, with backoff")
    serve.add_argument("--supervisor-port", type=int, metavar="N", help="instead of the settings' (0 = any free one)")
    serve.add_argument("--state-file", default="", metavar="FILE", help="publish pids, ports and phase here as JSON")

    prepare = commands.add_parser("prepare", help="read a model's headers, report the facts, fill the cache")
    prepare.add_argument("--uri", required=True, help="where the model is, as in spec.model.uri")
    prepare.add_argument("--revision", help="branch, tag or commit")
    prepare.add_argument("--include", action="append", default=[], metavar="GLOB", help="which files; may be repeated")
    prepare.add_argument(
        "--expected-format", choices=["GGUF", "Safetensors", "Pickle", "Mistral"], help="refuse any other"
    )
    prepare.add_argument(
        "--engine", choices=[*EngineType], help="take the weights that it reads, where there are others"
    )
    prepare.add_argument("--cache", type=Path, required=True, metavar="DIR", help="where the engine will read from")
    prepare.add_argument("--fetch", action="store_true", help="bring the files there")
    prepare.add_argument("--make-room", action="store_true", help="when it is full, remove models that nobody uses")
    prepare.add_argument("--service", default="", metavar="NS/NAME", help="who has the model also without replicas")
    prepare.add_argument(
        "--services", default="", metavar="NAME,...", help="all services of that namespace: others have no model"
    )
    prepare.add_argument("--keep", action="append", default=[], metavar="REVISION", help="spare it; may be repeated")
    prepare.add_argument("--secrets", type=Path, metavar="DIR", help="a folder per Secret, a file per key")
    prepare.add_argument("--secret", metavar="NAME", help="the Secret to use")
    prepare.add_argument("--allow-private", action="store_true", help="read addresses inside this network too")
    prepare.add_argument(
        "--proxy", action="append", default=[], metavar="URL", help="a proxy that may be inside this network"
    )
    prepare.add_argument("--report", type=Path, metavar="FILE", help="write the facts here instead of standard output")

    adapter = commands.add_parser("adapter", help="fetch a LoRA adapter, check it, report it on standard output")
    adapter.add_argument("--name", required=True, help="its name in spec.adapters")
    adapter.add_argument("--uri", required=True, help="where it is, as in spec.adapters")
    adapter.add_argument("--revision", help="branch, tag or commit")
    adapter.add_argument("--secret-folder", type=Path, metavar="DIR", help="a file per key of its Secret")
    adapter.add_argument("--settings", type=Path, metavar="FILE", help="of the replica that it is for: it must fit")
    adapter.add_argument("--cache", type=Path, metavar="DIR", help="instead of the settings'")
    adapter.add_argument("--allow-private", action="store_true", help="read addresses inside this network too")
    adapter.add_argument(
        "--proxy", action="append", default=[], metavar="URL", help="a proxy that may be inside this network"
    )
    adapter.add_argument("--inspect", action="store_true", help="read its headers, and fetch nothing")
    adapter.add_argument("--report", type=Path, metavar="FILE", help="write it here instead of standard output")

    install = commands.add_parser("install", help="create an engine's environment, building what must be built")
    install.add_argument("engine", choices=sorted(ENGINE_NAMES), help="engine to install")
    install.add_argument(
        "--device", choices=["cpu", "cuda", "vulkan"], help="what it is to run on (default: as it is here)"
    )
    install.add_argument("--wheel-cache", type=Path, metavar="DIR", help="where built wheels are kept")
    install.add_argument("--wheel-only", action="store_true", help="build (or find) the wheel and print its path")
    install.add_argument("--rebuild", action="store_true", help="build and install again, whatever is there")
    install.add_argument("--portable", action="store_true", help="use no CPU feature newer than AVX2 and FMA")
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    from llmservice_runtime.supervisor.record import check_writable, write_failure

    log = ""
    try:
        text = _read_text(arguments.settings)
        log = _failure_log(text)
        settings = _settings(text, arguments)
        for name, path in (("failure_log", settings.failure_log), ("--state-file", arguments.state_file)):
            check_writable(name, path)
        from llmservice_runtime.engines import registry
        from llmservice_runtime.install.compiled import compiled
        from llmservice_runtime.install.environment import engine_python
        from llmservice_runtime.supervisor.serve import options_for, serve

        for name in settings.of_some_engines:
            _check_own(name, settings, registry.definition(settings.engine))
        module = registry.process_module(settings.engine)
        python, file = engine_python(settings.engine), arguments.settings.absolute()
        # -P: modules come from the environment, never from the folder that this happens to run in.
        settings = replace(settings, engine_env={**compiled(settings, os.environ), **settings.engine_env})
        command = [str(python), "-P", "-m", module, "--settings", str(file)]
        return serve(
            options_for(
                settings,
                command,
                last_words=lambda: registry.definition(settings.engine).last_words,
                fetch_adapter=[sys.executable, "-P", "-m", "llmservice_runtime", "adapter", "--settings", str(file)],
                restart=arguments.restart,
                state_file=arguments.state_file,
            )
        )
    except UserError as error:
        try:
            write_failure(log, FailureRecord(error.failure, error.reason, error.remedy, "Starting"))
        except OSError as unwritten:
            print(f"can't write {log}: {unwritten}", file=sys.stderr)
        raise


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UserError(f"The settings {path} can't be read: {reason}.", "Name an existing JSON file.") from error


def _settings(text: str, arguments: argparse.Namespace) -> RuntimeSettings:
    """The settings as the command line changes them, checked."""
    settings = RuntimeSettings.from_json(text)
    if arguments.supervisor_port is not None:
        check({"supervisor_port": arguments.supervisor_port})
        settings = replace(settings, supervisor_port=arguments.supervisor_port)
    check_ports(settings.port, settings.supervisor_port)
    return settings


def _check_own(name: str, settings: RuntimeSettings, engine: EngineDefinition) -> None:
    if name not in engine.own_settings:
        value = shown(getattr(settings, name))
        raise SettingsError(f"`{name}` is {value}; {engine.label} has no such setting.", f"Leave `{name}` out.")


def _failure_log(text: str) -> str:
    """Where to say what is wrong, also with settings that are: the file's own word for it, when it has one."""
    try:
        found = json.loads(text).get("failure_log", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return found if isinstance(found, str) and "\0" not in found else ""


def _prepare(arguments: argparse.Namespace) -> int:
    from llmservice_runtime.formats.facts import ModelFormat
    from llmservice_runtime.prepare.run import Request, run
    from llmservice_runtime.sources.progress import progress_for

    request = Request(
        uri=arguments.uri,
        cache=arguments.cache,
        revision=arguments.revision,
        include=tuple(arguments.include),
        expected=ModelFormat(arguments.expected_format) if arguments.expected_format else None,
        engine=EngineType(arguments.engine) if arguments.engine else None,
        secret=arguments.secret,
        secrets=arguments.secrets,
        fetch=arguments.fetch,
        private=arguments.allow_private,
        proxies=tuple(arguments.proxy),
        make_room=arguments.make_room,
        service=arguments.service,
        keep=tuple(arguments.keep),
        services=tuple(name for name in arguments.services.split(",") if name),
    )
    return run(request, arguments.report, progress_for())


def _adapter(arguments: argparse.Namespace) -> int:
    from llmservice_runtime.prepare.adapter import AdapterRequest, report

    settings = RuntimeSettings.from_json(_read_text(arguments.settings)) if arguments.settings else None
    request = AdapterRequest(
        name=arguments.name,
        uri=arguments.uri,
        revision=arguments.revision,
        secret=arguments.secret_folder,
        cache=arguments.cache or (Path(settings.adapters_cache) if settings and settings.adapters_cache else None),
        private=arguments.allow_private or bool(settings and settings.adapters_private),
        proxies=(*arguments.proxy, *(settings.adapters_proxies if settings else ())),
        settings=settings,
        fetch=not arguments.inspect,
    )
    code, text = report(request)
    if arguments.report is None:
        print(text)
    else:
        arguments.report.write_text(text)
    return code


def _exit_code(error: UserError) -> int:
    from llmservice_runtime.prepare.run import exit_code

    return exit_code(error)


def _install(arguments: argparse.Namespace) -> int:
    from llmservice_runtime.install.make import Install, build_wheel, install

    request = Install(
        engine=ENGINE_NAMES[arguments.engine],
        wheel_cache=arguments.wheel_cache,
        rebuild=arguments.rebuild,
        portable=arguments.portable,
        device=arguments.device or "",
    )
    if arguments.wheel_only:
        print(build_wheel(request))
    else:
        install(request)
    return 0
