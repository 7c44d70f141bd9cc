"""`llmservice ps`: what runs, where it answers, and why not."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from llmservice_api.conditions import Reason
from llmservice_api.labels import aliases_of
from llmservice_cli.completers import completes, services
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.local.tell import condition
from llmservice_cli.places import Places
from llmservice_runtime.contract.bounds import POOLED
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.plain import plain

HEADER = ("NAME", "MODEL", "ENGINE", "READY", "URL", "STATUS")
STATUS_WIDTH = 120
"""Characters of a reason in the short table; `wide` and the other outputs have all of it."""
WIDE = (*HEADER[:-1], "PIDS", "RESTARTS", "RUNNING", "MEMORY", "GPUS", "LOADED", "LOG", "STATUS")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("-o", "--output", choices=("json", "yaml", "wide"), help="instead of a short table")
    for option, text in (
        ("--snippets", "print how to ask this service with curl and openai-python"),
        ("--load", "print what loading this service took, beside what was planned"),
    ):
        completes(parser.add_argument(option, metavar="NAME", help=text), services)


def run(args: argparse.Namespace) -> int:
    """0, also when nothing runs: then nothing is listed. UserError when `--snippets` names no service."""
    try:
        now = Control(Places.from_environment().state).snapshot()
    except NoInstanceError as nothing:
        if args.snippets or args.load:
            raise
        print(f"{nothing.reason} {nothing.remedy}", file=sys.stderr)
        now = {"services": []}
    if args.snippets:
        told = snippets(find(now, args.snippets), now["url"])
        print(f"For a browser: {now['page']}\n{told}" if now.get("page") else told)
    elif args.load:
        print(load_report(find(now, args.load)))
    elif args.output in ("json", "yaml"):
        print(_dump({"apiVersion": "v1", "kind": "List", "items": [item["object"] for item in now["services"]]}, args))
    else:
        print(listed(now, wide=args.output == "wide"))
    return 0


def listed(snapshot: dict[str, Any], *, wide: bool = False) -> str:
    """The table of services."""
    return table([WIDE if wide else HEADER, *(_row(entry, wide) for entry in snapshot["services"])])


def find(snapshot: dict[str, Any], name: str) -> dict[str, Any]:
    """The service that `name` (full, bare, or an alias) means; UserError when it is none or several."""
    entries: dict[str, dict[str, Any]] = {full_name(entry): entry for entry in snapshot["services"]}
    found = [full for full, entry in entries.items() if means(name, entry["object"]["metadata"])]
    if len(found) > 1:
        raise UserError(f"`{name}` means several services: {', '.join(found)}.", "Use one of these names.")
    if not found:
        served = f"Running are: {', '.join(entries)}." if entries else "No service is running."
        raise UserError(f"there is no service `{name}`.", served)
    return entries[found[0]]


def means(name: str, metadata: Mapping[str, Any]) -> bool:
    """Whether this is a name of the service with such metadata."""
    own = (f"{metadata['namespace']}/{metadata['name']}", metadata["name"])
    aliases = aliases_of(metadata)
    return name in (*own, *aliases) or name.removesuffix(":latest") in aliases


def full_name(entry: dict[str, Any]) -> str:
    """`namespace/name` of a service in a snapshot."""
    meta = entry["object"]["metadata"]
    return f"{meta['namespace']}/{meta['name']}"


def goes(entry: dict[str, Any]) -> bool:
    """Whether somebody ended a service of a snapshot: it is there for as long as its last answers take."""
    return bool(entry.get("stopping"))


def snippets(entry: dict[str, Any], url: str) -> str:
    """curl and openai-python, ready to paste into a shell."""
    name, task = full_name(entry), (entry["object"]["status"].get("plan") or {}).get("task")
    if task in POOLED:
        return pooled_snippets(name, url, task)
    question = '[{"role": "user", "content": "What is LLMService?"}]'
    body = f'{{"model": "{name}", "stream": true, "temperature": 0, "messages": {question}}}'
    return f"""Base URL: {url}

# curl
curl -N {url}/chat/completions -H 'Content-Type: application/json' -d '{body}'

# openai-python (pip install openai)
python3 - <<'EOF'
from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="none")
stream = client.chat.completions.create(
    model="{name}", stream=True, temperature=0, messages={question}
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
EOF"""


def pooled_snippets(name: str, url: str, task: str) -> str:
    """The same for a model that makes vectors or scores."""
    if task == "Rerank":
        texts = '["Ships rust.", "It serves language models."]'
        body = f'{{"model": "{name}", "query": "What is LLMService?", "documents": {texts}}}'
        return f"""Base URL: {url}

# curl
curl {url}/rerank -H 'Content-Type: application/json' -d '{body}'"""
    body = f'{{"model": "{name}", "input": ["What is LLMService?"]}}'
    return f"""Base URL: {url}

# curl
curl {url}/embeddings -H 'Content-Type: application/json' -d '{body}'

# openai-python (pip install openai)
python3 - <<'EOF'
from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="none")
answer = client.embeddings.create(model="{name}", input=["What is LLMService?"])
print(answer.data[0].embedding)
EOF"""


def load_report(entry: dict[str, Any]) -> str:
    """The last load of a service: its phases, the memory line by line, what differs from the plan."""
    load: dict[str, Any] | None = entry["object"]["status"].get("load")
    if not load:
        raise UserError(
            f"no replica of {full_name(entry)} has loaded its model yet.", "Wait until `llmservice ps` says Ready."
        )
    phases = ", ".join(f"{phase['name']} {phase['milliseconds'] / 1000:.1f} s" for phase in load.get("phases", ()))
    rows: list[tuple[str, ...]] = [("MEMORY", "WHERE", "PLANNED", "MEASURED")]
    rows += [
        (line["name"], line["where"], line["planned"], line.get("measured") or "-") for line in load.get("memory", ())
    ]
    for where, of in (("Host", ""), ("GPU", "GPU")):
        if planned := load.get(f"planned{of}Memory"):
            rows.append(("sum without reserve", where, planned, load.get(f"measured{of}Memory") or "-"))
    loaded = f"{full_name(entry)} was loaded in {_loaded(load, entry['object']['status'])} ({phases})."
    return "\n".join([loaded, *load.get("findings", ()), *(["", table(rows)] if len(rows) > 1 else [])])


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the last one as it is."""
    rows = [tuple(map(plain, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join(
        "   ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )


def _row(entry: dict[str, Any], wide: bool) -> tuple[str, ...]:
    status, ready = entry["object"]["status"], condition(entry, "Ready")
    wanted = entry["object"]["spec"]["replicas"]
    said = "Ready" if ready["status"] == "True" else f"{ready['reason']}: {ready['message']}"
    if ready["reason"] == Reason.IDLE:
        said = f"{ready['reason']}: {ready['message']}"
    elif ready["reason"] == Reason.SERVING_EARLIER:  # an update failed, and what ran before serves
        said = f"Ready, but {ready['reason']}: {ready['message']}"
    elif ready["status"] == "True" and (progress := condition(entry, "Progressing"))["reason"] != "Ready":
        said = f"Ready; {progress['reason']}: {progress['message']}"
    load = status.get("load") or {}
    if crowded := [facts["crowded"] for facts in entry["replicas"] if facts.get("crowded") and not facts["ready"]]:
        said += f" {' '.join(crowded)}"
    if found := load.get("findings"):
        said += f". {' '.join(found)}"
    model = entry["object"]["spec"]["model"]["uri"]
    row = (full_name(entry), model, entry["engine"] or "-", f"{status['readyReplicas']}/{wanted}", status["url"])
    if not wide:
        return (*row, said if len(said) <= STATUS_WIDTH else said[: STATUS_WIDTH - 1] + "…")
    replicas = entry["replicas"]
    cells = (
        ",".join(str(facts["pid"]) for facts in replicas if facts["pid"]) or "-",
        str(sum(facts["restarts"] for facts in replicas)),
        str(sum(facts["running"] for facts in replicas)),
        _memory(load),
        ",".join(gpu.removeprefix("GPU ") for facts in replicas for gpu in facts.get("gpus", ())) or "-",
        _loaded(load, status),
        replicas[0]["log"] if replicas else "-",
    )
    return (*row, *cells, said)


def _memory(load: dict[str, Any]) -> str:
    """`measured of planned`, of one replica."""
    sizes = [(load.get(f"measured{of}Memory"), load.get(f"planned{of}Memory")) for of in ("", "GPU")]
    return ", GPU ".join(f"{took} of {planned or '-'}" for took, planned in sizes if took) or "-"


def _loaded(load: dict[str, Any], status: dict[str, Any]) -> str:
    """How long it took, and how fast the self-test was, of what was predicted at most."""
    if not load:
        return "-"
    speed = load.get("tokensPerSecond")
    most = ((status.get("plan") or {}).get("speed") or {}).get("tokensPerSecond")
    said = f", {speed}{f' of at most {most}' if most else ''} tokens/s" if speed else ""
    return f"{load['milliseconds'] / 1000:.1f} s{said}"


def _dump(body: dict[str, Any], args: argparse.Namespace) -> str:
    if args.output == "json":
        return json.dumps(body, indent=2, ensure_ascii=False)
    import yaml

    return str(yaml.safe_dump(body, sort_keys=False, allow_unicode=True)).rstrip()
