"""Who we are to AWS: named keys, what the platform gives to a pod, or nobody.

A pod has an identity of its own by its ServiceAccount (IRSA: a role and a token; EKS Pod Identity and ECS: an agent
that gives keys). The machine's metadata service gives the identity of the node: where others write the URIs it is never
asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.errors import Origin, TransientError
from llmservice_runtime.sources.guard import raise_refusal
from llmservice_runtime.sources.secrets import AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, Secrets
from llmservice_runtime.sources.settings import SourceSettings

DEFAULT_REGION = "us-east-1"
RELATIVE_URI, FULL_URI = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"
ECS_AGENT = "169.254.170.2"
AGENTS = frozenset((ECS_AGENT, "169.254.170.23", "fd00:ec2::23"))
"""Addresses at which ECS and EKS Pod Identity give keys to a container, and nothing else is."""
_NODE = "iam-role"
"""boto's name for what asks the metadata service."""


def agent_addresses(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where the environment says that the platform gives keys to this container: none, or one of `AGENTS`.

    Whoever sets these variables gets no more than the identity of the pod itself.
    """
    if environ.get(RELATIVE_URI):
        return (ECS_AGENT,)
    try:
        host = urlsplit(environ.get(FULL_URI, "")).hostname or ""
    except ValueError:
        return ()
    return (host,) if host in AGENTS else ()


def session(secrets: Secrets, settings: SourceSettings) -> Any:
    """A boto3 session. Raises botocore's errors for settings that it refuses."""
    import boto3

    found = boto3.Session(
        aws_access_key_id=secrets.get(AWS_ACCESS_KEY_ID),
        aws_secret_access_key=secrets.get(AWS_SECRET_ACCESS_KEY),
        aws_session_token=secrets.get(AWS_SESSION_TOKEN),
        region_name=secrets.environ.get("AWS_REGION") or None,  # which boto3 alone of AWS' libraries does not read
    )
    if not found._session.get_config_variable("region"):  # roles are assumed somewhere
        found._session.set_config_variable("region", DEFAULT_REGION)
    if not settings.allow_private:
        found._session.get_component("credential_provider").remove(_NODE)
    return found


def is_known(found: Any, origin: Origin) -> bool:
    """Whether there are keys; they are fetched now, so that a role that can't be had is told from a bucket's refusal.

    SourceError when they can't be had, TransientError when that may pass, AddressRefusedError when an address inside
    would be asked for them.
    """
    from botocore import exceptions as boto

    try:
        credentials = found.get_credentials()
        if credentials is not None:
            credentials.get_frozen_credentials()
    except (boto.HTTPClientError, boto.IncompleteReadError) as error:
        raise_refusal(error)
        raise TransientError(f"AWS' credentials: {type(error).__name__}") from error
    except (boto.BotoCoreError, boto.ClientError, OSError, KeyError, ValueError) as error:
        raise origin.bad(
            f"credentials that the environment promises can't be had: {str(error) or type(error).__name__}.",
            "Check the role of the pod's ServiceAccount and whom that role trusts (or AWS_PROFILE), or give "
            f"{AWS_ACCESS_KEY_ID} and {AWS_SECRET_ACCESS_KEY} in the secret that spec.model.secretRef names.",
            FailureClass.MODEL_GATED,
        ) from None
    return credentials is not None
