"""What to do when the API server refuses an object: by what its sentence speaks of. Every way is tried by a test."""

from __future__ import annotations

import re

from llmservice_operator.facts.pod_fields import CONTAINER, FETCH

REPLICA = "spec.resources (for its download: spec.prepare.resources)"
"""Where a service says what the containers of a replica ask for."""
JOB = "spec.prepare.resources"
"""The same of a Job that reads or downloads the model."""

_EXCEEDED = re.compile(r"exceeded quota: (\S+), requested: ([^ ]+)")
_UNSAID = re.compile(r"failed quota: (\S+): must specify (.+)")
_COMPUTE = re.compile(r"^((requests|limits)\.)?(cpu|memory|ephemeral-storage)$")
_STORAGE = re.compile(r"^(.+\.storageclass\.storage\.k8s\.io/)?requests\.storage$")
_NODE_DIRECTORY = (
    "A directory of the node needs a namespace that admits hostPath volumes (Pod Security level privileged): have the "
    "namespace's raised, or keep the model on a PersistentVolumeClaim (spec.cache)."
)
_POLICY = "Change the spec to what the admission policy asks for, or have the policy changed."
_DENIED = ("denied the request", "denied request")
"""What follows are a webhook's or a policy's own words, which may be anything."""
_NAMES = re.compile(r'(?<!volume type )"[^"]*"')
"""What stands in quotes are names, which may be anything as well."""
_WAYS: tuple[tuple[str, str], ...] = (
    ("failed calling webhook", "Have the admission webhook that it names mended or removed; until then nothing of this "
     "kind can be written."),
    (_DENIED[0], _POLICY),
    (_DENIED[1], _POLICY),
    ('" cannot ', "Give the operator this right: the chart's rbac.yaml has what it needs."),
    ("being terminated", "The namespace is being deleted, with all that is in it: make the service in another one."),
    ("no priorityclass with name", "Correct priorityClassName in spec.podTemplate, or have the PriorityClass made."),
    ("insufficient quota to match these scopes", "The namespace has no ResourceQuota for such pods: have one made, or "
     "leave out of spec.podTemplate what the scopes name (priorityClassName)."),
    ("status unknown for quota", "The ResourceQuota is new and not counted yet: it passes by itself."),
    ("perpersistentvolumeclaim", "Ask for another size in spec.cache.persistentVolumeClaim.size, or have the "
     "namespace's LimitRange changed."),
    ("less than or equal to", "Where nothing is said, the namespace's LimitRange sets the limit: set the limit in "
     "{resources} to the request or more."),
    ("limit to request ratio", "Bring requests and limits in {resources} closer together, or have the namespace's "
     "LimitRange changed."),
    ("maximum ", "Ask for no more in {resources} than the namespace's LimitRange allows, or have it changed."),
    ("minimum ", "Ask for no less in {resources} than the namespace's LimitRange allows, or have it changed."),
    ("hostpath volumes", _NODE_DIRECTORY),
    ('volume type "hostpath"', _NODE_DIRECTORY),
    ("violates podsecurity", "Correct spec.podTemplate, or have the namespace's Pod Security level changed."),
    ("serviceaccount", "Create the ServiceAccount, or leave spec.serviceAccountName out and one is made."),
    ("denied", _POLICY),
)  # fmt: skip
OTHERWISE = "Correct the spec, the quota, the admission rule or the operator's rights."

_POD = re.compile(r'^(pods|Pod) "[^"]*" is (forbidden|invalid): ')


def without_pod(message: str) -> str:
    """A refusal without the name of the pod that was not made: each try has another, which would change status."""
    return _POD.sub("", message)


def way_out(message: str, resources: str = REPLICA) -> str:
    """The remedy for a refusal that says `message`; `resources` are the fields that say what its pod asks for."""
    denied = any(words in message for words in _DENIED)
    if not denied and (found := _EXCEEDED.search(message)):
        return _less(found[1], [part.partition("=")[0] for part in found[2].split(",")], resources)
    if not denied and (found := _UNSAID.search(message)):
        return _say(found[1], found[2])
    low = _NAMES.sub('""', message).lower().replace("per persistentvolumeclaim", "perpersistentvolumeclaim")
    return next((way for word, way in _WAYS if word in low), OTHERWISE).format(resources=resources)


def _less(quota: str, counted: list[str], resources: str) -> str:
    """A quota is used up: what can be asked for in a smaller amount, else what must go."""
    fields = []
    if any(_COMPUTE.match(name) for name in counted):
        fields.append(resources)
    if any(_STORAGE.match(name) for name in counted):
        fields.append("spec.cache.persistentVolumeClaim.size")
    if any(name.startswith("requests.") and "/" in name and not _STORAGE.match(name) for name in counted):
        fields.append("spec.accelerator.count")
    if fields:
        return f"Ask for less in {' and '.join(fields)}, or have the ResourceQuota {quota} raised."
    return f"Remove what the namespace no longer needs of these, or have the ResourceQuota {quota} raised."


def _say(quota: str, unsaid: str) -> str:
    """A quota counts what containers don't say: by container, as `limits.cpu for: a,b; limits.memory for: a`."""
    said: dict[str, list[str]] = {}
    for part in unsaid.split(";"):
        amounts, _, containers = part.strip().rstrip(".").partition(" for: ")
        for container in containers.split(",") if containers else [CONTAINER]:
            where = {CONTAINER: "spec.resources", FETCH: JOB, "inspect": JOB}.get(
                container.strip(), f"the container {container.strip()} (spec.podTemplate, or what injects it)"
            )
            said.setdefault(where, []).extend(_full(name) for name in amounts.split(","))
    fields = "; ".join(f"{', '.join(dict.fromkeys(names))} in {where}" for where, names in said.items())
    return f"The ResourceQuota {quota} counts what is not said: set {fields}."


def _full(name: str) -> str:
    """A quota's `memory` is `requests.memory`."""
    return name.strip() if name.strip().startswith(("requests.", "limits.")) else f"requests.{name.strip()}"
