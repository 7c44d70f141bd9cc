"""The state of a namespace and of the operator as text, for a test that failed."""

from __future__ import annotations

import json

from harness.api import Api, Json
from harness.release import NAMESPACE


def report(api: Api, namespace: str) -> str:
    """LLMServices, pods, events and the ends of the logs of one namespace and of the operator."""
    parts = [f"== {namespace}"]
    parts += [_service(item) for item in api.list("llmservices", namespace)]
    parts += [_pod(api, item) for item in api.list("pods", namespace)]
    parts += [_event(item) for item in api.list("events", namespace)[-40:]]
    parts.append("== operator")
    parts += [_pod(api, item, lines=60) for item in api.list("pods", NAMESPACE)]
    return "\n".join(parts)


def _service(item: Json) -> str:
    status = dict(item.get("status", {}))
    conditions = status.pop("conditions", [])
    lines = [f"llmservice {item['metadata']['name']}: {json.dumps(item['spec'])}", f"  {json.dumps(status)}"]
    lines += [f"  {one['type']}={one['status']} {one['reason']}: {one['message']}" for one in conditions]
    return "\n".join(lines)


def _pod(api: Api, item: Json, lines: int = 15) -> str:
    name, namespace, status = item["metadata"]["name"], item["metadata"]["namespace"], item["status"]
    found = [f"pod {name} on {item['spec'].get('nodeName')}: {status.get('phase')} {status.get('reason', '')}"]
    found += [
        f"  {one['type']}: {one.get('message', '')}" for one in status.get("conditions", ()) if one["status"] == "False"
    ]
    for one in status.get("containerStatuses", ()):
        found.append(f"  {one['name']}: restarts {one['restartCount']}, {json.dumps(one['state'])}")
        found.append(_indented(api.log(namespace, name, one["name"], lines=lines)))
        if one["restartCount"]:
            found.append("  before:\n" + _indented(api.log(namespace, name, one["name"], previous=True, lines=lines)))
    return "\n".join(found)


def _event(item: Json) -> str:
    about = item["involvedObject"]
    return f"event {about['kind']}/{about.get('name')} {item.get('reason')}: {item.get('message')}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line[:300]}" for line in text.splitlines())
