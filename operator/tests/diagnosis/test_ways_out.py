"""A refusal's way out is that of its cause: a policy's own words, and the names of objects, may be of anything."""

from __future__ import annotations

import pytest

from llmservice_operator.diagnosis.refusal import OTHERWISE, way_out, without_pod

POLICY = "Change the spec to what the admission policy asks for"
CASES = [
    (
        'admission webhook "validation.gatekeeper.sh" denied the request: [limits] container <runtime> memory limit '
        "<64Gi> is higher than the maximum allowed of <32Gi>",
        POLICY,
    ),
    ("ValidatingAdmissionPolicy 'two' with binding 'b' denied request: a minimum of two, minimum is 2", POLICY),
    (
        'admission webhook "validate.kyverno.svc-fail" denied the request: resource Deployment/apps/demo was blocked: '
        "CPU limits must be less than or equal to 4",
        POLICY,
    ),
    ('admission webhook "k" denied the request: pods must not use the default serviceaccount', POLICY),
    ('admission webhook "k" denied the request: exceeded quota: team, requested: gpus=2', POLICY),
    ('pods "serviceaccount-bot-abc" is forbidden: no way', OTHERWISE),
    ('services "maximum " is invalid: no', OTHERWISE),
    ('deployments.apps "demo" is forbidden: unable to create new content in namespace apps because it is being '
     "terminated", "The namespace is being deleted"),
    ('pods "x" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [high]}]',
     "no ResourceQuota for such pods"),
    ('pods "x" is forbidden: no PriorityClass with name high was found', "or have the PriorityClass made"),
    ('pods "x" is forbidden: status unknown for quota: q, resources: limits.cpu', "passes by itself"),
    ('Internal error occurred: failed calling webhook "maximum": no endpoints available', "mended or removed"),
    ('pods "x" is forbidden: error looking up service account apps/demo: serviceaccount "demo" not found',
     "Create the ServiceAccount"),
    ('pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi', "LimitRange allows"),
    ('pods "x" is forbidden: violates PodSecurity "restricted:latest": restricted volume types (volume "model" uses '
     'restricted volume type "hostPath")', "hostPath volumes (Pod Security level privileged)"),
    ('jobs.batch is forbidden: User "system:serviceaccount:llm:maximum " cannot create resource "jobs"',
     "Give the operator this right"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "said"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_the_way_out_is_that_of_the_cause(message: str, said: str) -> None:
    assert said in way_out(message)


def test_every_try_of_a_pod_reads_the_same() -> None:
    """Else each try would be a write of status."""
    first, second = (f'pods "demo-prepare-1-{name}" is forbidden: no "x" is invalid: why' for name in ("a", "b"))
    assert without_pod(first) == without_pod(second) == 'no "x" is invalid: why'
    assert without_pod('jobs.batch "x" is forbidden: no') == 'jobs.batch "x" is forbidden: no'
