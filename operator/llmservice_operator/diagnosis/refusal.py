"""What to do when the API server refuses an object: by what its sentence speaks of."""

from __future__ import annotations

_NODE_DIRECTORY = (
    "A directory of the node needs a namespace that admits hostPath volumes (Pod Security level privileged): have the "
    "namespace's raised, or keep the model on a PersistentVolumeClaim (spec.cache)."
)
_WAYS: tuple[tuple[str, str], ...] = (
    ("exceeded quota", "Ask for less in spec.resources, or have the namespace's ResourceQuota raised."),
    (
        "must specify",
        "The namespace's quota counts what the replica does not state: set spec.resources.requests and limits.",
    ),
    ("less than or equal to", "Ask for less in spec.resources, or have the default limit of the LimitRange raised."),
    ("hostPath volumes", _NODE_DIRECTORY),
    ('volume type "hostPath"', _NODE_DIRECTORY),
    ("violates PodSecurity", "Have the namespace's Pod Security level or spec.podTemplate corrected."),
    ("serviceaccount", "Create the ServiceAccount, or leave spec.serviceAccountName out and one is made."),
    ("maximum ", "Ask for no more in spec.resources than the namespace's LimitRange allows."),
    ("minimum ", "Ask for no less in spec.resources than the namespace's LimitRange allows."),
    ("denied", "Change the spec to what the admission policy asks for, or have the policy changed."),
    ("cannot ", "Give the operator this right: the chart's rbac.yaml has what it needs."),
)
OTHERWISE = "Correct the spec, the quota, the admission rule or the operator's rights."


def way_out(message: str) -> str:
    """The remedy for a refusal that says `message`."""
    low = message.lower()
    return next((way for word, way in _WAYS if word.lower() in low), OTHERWISE)
