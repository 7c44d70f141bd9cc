"""`python -m llmservice_cli.local.look`: a model's table of engines and a plan, for the console's page.

A question on standard input, an answer on standard output, both JSON. Only addresses of the internet are read, as of
tenants in a cluster: who sees the page need not be who owns the machine. Its memory and its time are bounded.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import resource
import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from llmservice_api.loads import predicted_speed
from llmservice_api.manifest import Manifest
from llmservice_api.v1alpha1 import GROUP, KIND, VERSION, LLMService
from llmservice_cli.commands.engines import judged, versions
from llmservice_cli.commands.plan import describe, machine_of
from llmservice_cli.models import open_source
from llmservice_cli.places import Places
from llmservice_cli.plans import plan_service
from llmservice_cli.wanted.labels import service_name
from llmservice_cli.wanted.words import Meant
from llmservice_planning import explain
from llmservice_planning.plan import Plan, Refusal
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.registry import label
from llmservice_runtime.machine.machine import Machine
from llmservice_runtime.sources import secrets
from llmservice_runtime.sources.aws import FULL_URI, RELATIVE_URI
from llmservice_runtime.sources.guard import WAY_OUT, AddressRefusedError, public_connections_only

MOST_MEMORY = 4 << 30
"""Bytes of addresses: headers take a few hundred kB, and the libraries that read them the rest."""
MOST_CPU_SECONDS = 60
OF_A_PAGE = "Use a public address, or `llmservice engines` on the command line, which reads what you may read."
SENT_ANYWHERE = (
    secrets.HTTP_BEARER_TOKEN, secrets.HTTP_USERNAME, secrets.HTTP_PASSWORD, secrets.OCI_USERNAME, secrets.OCI_PASSWORD,
)  # fmt: skip
"""Credentials that whatever server is named would get: whoever may ask could name one of his own."""
OF_AWS = ("AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", RELATIVE_URI, FULL_URI)
STORED = ("HF_TOKEN_PATH", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")
"""Where files with credentials of this machine's owner are: nobody else reads models by them."""

Json = dict[str, Any]


def main() -> int:
    """0 when something was told."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
    asked = json.loads(sys.stdin.buffer.read())
    _forget_credentials(everywhere=not asked["private"])
    try:
        with public_connections_only(tuple(urllib.request.getproxies().values())):
            told = look(asked)
    except AddressRefusedError as error:
        told = _error(UserError(f"{asked['uri']}: {error}, which is not read for a page.", OF_A_PAGE))
    except UserError as error:
        told = _error(error)
    print(json.dumps(told))
    return 0


def _forget_credentials(*, everywhere: bool) -> None:
    for name in (*secrets.KEYS, *OF_AWS) if everywhere else SENT_ANYWHERE:
        os.environ.pop(name, None)
    if everywhere:
        os.environ.update(dict.fromkeys(STORED, os.devnull))


def look(asked: Json, places: Places | None = None) -> Json:
    """The table of `llmservice engines` and the plan of `llmservice plan` for one machine. UserError."""
    places = dataclasses.replace(places or Places.from_environment(), private=False)
    args = argparse.Namespace(
        gpu=asked["gpu"], gpus=asked["gpus"], gpu_memory=None, gpu_bandwidth=None, memory=asked["memory"]
    )
    machine, left_out = machine_of(args), io.StringIO()
    files = open_source(asked["uri"], asked["revision"], None, Path.cwd(), places)
    with contextlib.redirect_stderr(left_out):
        rows = [row for facts in versions(files) for row in judged(facts, machine)]
    return {
        "where": describe(machine, asked["gpu"] is not None),
        "rows": [dataclasses.asdict(row) for row in sorted(rows, key=lambda row: not row.runs)],
        "leftOut": left_out.getvalue().splitlines(),
        **_planned(asked, machine, places),
    }


def _planned(asked: Json, machine: Machine, places: Places) -> Json:
    service = _service(asked)
    plan = plan_service(Manifest(service, Path("-"), Path.cwd()), machine, places).plan
    body = service.model_dump(mode="json", by_alias=True, exclude_unset=True)
    written = yaml.safe_dump({"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, **body}, sort_keys=False)
    if isinstance(plan, Refusal):
        return {"plan": None, "refusal": _refusal(plan), "manifest": written}
    return {"plan": _plan(service.full_name, plan), "refusal": None, "manifest": written}


def _service(asked: Json) -> LLMService:
    model = {"uri": asked["uri"], **({"revision": asked["revision"]} if asked["revision"] else {})}
    spec = {"model": model, **({"accelerator": {"count": asked["gpus"]}} if asked["gpus"] else {})}
    name = service_name(Meant(asked["uri"], asked["uri"]))
    return LLMService.model_validate({"metadata": {"name": name}, "spec": spec})


def _plan(name: str, plan: Plan) -> Json:
    speed = predicted_speed(dataclasses.asdict(plan.speed))
    return {
        "text": explain.text(name, plan, wide=True),
        "summary": explain.summary(plan),
        "engine": label(plan.engine),
        "reason": plan.reason,
        "rejected": _rejected(plan),
        "memory": [{"name": line.name, "where": line.where, "planned": line.bytes} for line in plan.memory],
        "memoryAvailable": plan.memory_available,
        "device": explain.device(plan),
        "fit": plan.fit.value,
        "contextTokens": plan.context_tokens,
        "largestContextTokens": plan.largest_context_tokens,
        "maxSequences": plan.max_sequences,
        "speed": speed.model_dump(by_alias=True, exclude_none=True) if speed else {},
        "notes": list(plan.notes),
        "missing": plan.missing,
    }


def _refusal(refusal: Refusal) -> Json:
    return {
        "failure": str(refusal.failure),
        "reason": refusal.reason,
        "field": refusal.field,
        "waysOut": list(refusal.ways_out),
        "rejected": _rejected(refusal),
    }


def _rejected(plan: Plan | Refusal) -> list[Json]:
    return [{"engine": label(one.engine), "reason": one.reason} for one in plan.rejected]


def _error(error: UserError) -> Json:
    remedy = error.remedy.replace(WAY_OUT, OF_A_PAGE)
    return {"error": {"reason": error.reason, "remedy": remedy, "failure": str(error.failure)}}


if __name__ == "__main__":
    sys.exit(main())
