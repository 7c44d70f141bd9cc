"""`llmservice plan`: print what would run, where, and why. Needs no cluster; reads headers only."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from llmservice_api.local_mode import cluster_only
from llmservice_api.manifest import load_manifests
from llmservice_api.patterns import gpu_memory
from llmservice_cli.adapters import chosen
from llmservice_cli.engine_builds import builds_elsewhere, machine_here
from llmservice_cli.memory_speed import with_memory_speed
from llmservice_cli.plans import GIB, PlannedService, Unreadable, add_leave, memory_size, places_of, plan_services
from llmservice_cli.told import as_object, tell
from llmservice_planning import explain
from llmservice_planning.plan import Plan
from llmservice_planning.words import memory
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.machine.gpus import imagined_gpu
from llmservice_runtime.machine.machine import Machine


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "-f", "--filename", action="append", required=True, type=Path, metavar="FILE", help="manifest, folder or -"
    )
    parser.add_argument("-o", "--output", choices=("text", "wide", "json", "yaml"), default="text")
    add_leave(parser)
    add_machine_arguments(parser)


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Which machine to plan for."""
    parser.add_argument("--gpu", metavar="KIND", help="plan for a machine with this GPU (A100-80GB, L4, RTX-4090, ...)")
    parser.add_argument("--gpus", type=_count, metavar="N", help="how many of them (default 1)")
    parser.add_argument(
        "--gpu-memory", type=_gpu_memory, metavar="SIZE", help="what each of them has (24Gi), of whatever name"
    )
    parser.add_argument(
        "--gpu-bandwidth",
        type=_gpu_memory,
        metavar="SIZE",
        help="what each reads of it in a second (900G)",
    )
    parser.add_argument("--memory", type=memory_size, metavar="SIZE", help="free host memory to plan with (8Gi, or 8)")


def run(args: argparse.Namespace) -> int:
    """0 when everything has a plan, 1 when something is refused or can't be read. The others are planned then too."""
    manifests = load_manifests(args.filename)
    machine = machine_of(args, [manifest.service.spec.accelerator.memory_bytes for manifest in manifests])
    found = list(plan_services(manifests, machine, places_of(args)))
    if args.output in ("json", "yaml"):
        body = [_body(service) for service in found]
        if args.output == "json":
            print(json.dumps(body, indent=2))
        else:
            import yaml

            yaml.safe_dump_all(body, sys.stdout, sort_keys=False, allow_unicode=True)
    else:
        if planned := [service for service in found if isinstance(service, PlannedService)]:
            print(f"For {describe(machine, args.gpu is not None)}:\n")
            wide, here = args.output == "wide", args.gpu is None
            print("\n\n".join(_text(service, wide, here=here) for service in planned))
        for error, names in _unreadable(found).items():
            tell(error, of=names if len(found) > 1 else ())
    return 0 if all(isinstance(s, PlannedService) and isinstance(s.plan, Plan) for s in found) else 1


def machine_of(args: argparse.Namespace, stated: Sequence[int | None] = ()) -> Machine:
    """This machine, or with --gpu another one: engines then count as built for its GPU.

    `stated` is what each service says that a GPU has: where all of them do, the name need not tell.
    """
    if args.gpu is None and args.gpus is not None:
        raise UserError("--gpus says how many, but not of what.", "Add --gpu KIND, for example --gpu L4.")
    if args.gpu is None and args.gpu_memory is not None:
        raise UserError(
            "--gpu-memory says how much, but not of what.",
            "Add --gpu KIND; of this machine's GPUs accelerator.memory in the manifest says it.",
        )
    if args.gpu is None and args.gpu_bandwidth is not None:
        raise UserError("--gpu-bandwidth says how fast, but not of what.", "Add --gpu KIND, for example --gpu L4.")
    machine = with_memory_speed(machine_here()) if args.gpu is None else _other_machine(args, stated)
    if args.memory is not None:
        machine = dataclasses.replace(machine, memory_bytes=args.memory, memory_available=args.memory)
    return machine


def _other_machine(args: argparse.Namespace, stated: Sequence[int | None]) -> Machine:
    """A node with these GPUs. Such nodes have at least as much host memory as GPU memory, and CPUs with AVX2."""
    said = [size for size in stated if size]
    each = args.gpu_memory or (max(said) if said and len(said) == len(stated) else None)
    gpu, count = imagined_gpu(args.gpu, each), args.gpus or 1
    if args.gpu_bandwidth:
        gpu = dataclasses.replace(gpu, bandwidth=args.gpu_bandwidth)
    size = max(64 * GIB, 2 * gpu.memory_bytes * count)
    return Machine(
        cpus=8 * count,
        memory_bytes=size,
        memory_available=size,
        cpu_flags=frozenset({"avx2"}),
        gpus=(gpu,) * count,
        builds=builds_elsewhere(),
    )


def describe(machine: Machine, assumed: bool = False) -> str:
    """`this machine (2 CPUs, 21.4 GiB of memory free, no GPU)`."""
    gpu = machine.gpu
    gpus = f"{machine.gpu_count} × {gpu.product}" if gpu else "no GPU"
    if gpu and gpu.memory_bytes:
        gpus += f" with {memory(gpu.memory_bytes)}"
    if assumed:
        return f"a machine with {gpus} and {memory(machine.memory_available)} of memory"
    return f"this machine ({machine.cpus} CPUs, {memory(machine.memory_available)} of memory free, {gpus})"


def _unreadable(found: Sequence[PlannedService | Unreadable]) -> dict[UserError, list[str]]:
    """Errors, each once, with the services whose models can't be read for it."""
    errors: dict[UserError, list[str]] = {}
    for service in found:
        if isinstance(service, Unreadable):
            errors.setdefault(service.error, []).append(service.manifest.service.full_name)
    return errors


def _text(service: PlannedService, wide: bool, *, here: bool) -> str:
    """`here`: what would run on this machine, where some fields mean nothing."""
    name = service.manifest.service.full_name
    if isinstance(service.plan, Plan):
        plan = service.plan
        _, not_loaded, _ = chosen(service.adapters, service.model.facts, plan.engine, plan.adapters)
        left_out = [f"  Its adapter {adapter} is not served: {said}" for adapter, _, said in not_loaded]
        without_effect = [f"  {said}" for said in cluster_only(service.manifest.service.spec)] if here else []
        return "\n".join((explain.text(name, plan, wide), *left_out, *without_effect))
    return explain.refusal_text(name, service.plan)


def _body(service: PlannedService | Unreadable) -> dict[str, Any]:
    name = service.manifest.service.full_name
    if isinstance(service, Unreadable):
        return {"name": name, "refusal": as_object(service.error, "spec.model")}
    kind = "plan" if isinstance(service.plan, Plan) else "refusal"
    return {"name": name, kind: _camel(dataclasses.asdict(service.plan))}


def _camel(value: Any) -> Any:
    """Keys as the API spells them; enumerations as plain text."""
    if isinstance(value, dict):
        return {to_camel(key): _camel(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_camel(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= (number := int(text)) <= 64:
        raise argparse.ArgumentTypeError("between 1 and 64")
    return number


def _gpu_memory(text: str) -> int:
    try:
        return gpu_memory(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
