"""Where files come from: the URIs of models and adapters, the rules that they share, and the Secrets that open them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from llmservice_api.patterns import SUBDOMAIN
from llmservice_api.rules import ApiModel, Rule

SCHEMES = ("hf", "modelscope", "s3", "http", "https", "oci", "pvc", "file")

Uri = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Revision = Annotated[str, StringConstraints(min_length=1, max_length=256)]

_PASSWORD = re.compile(r"^(https?|s3|oci)://[^/]*@")


class SecretReference(ApiModel):
    """A Secret in the service's namespace; on one machine a folder of that name or environment variables."""

    name: Annotated[str, StringConstraints(pattern=SUBDOMAIN, min_length=1, max_length=253)] = Field(
        description="Name of the Secret. Keys: HF_TOKEN, MODELSCOPE_API_TOKEN, AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, HTTP_BEARER_TOKEN, HTTP_USERNAME, HTTP_PASSWORD, "
        "OCI_USERNAME, OCI_PASSWORD."
    )


def uri_rules(what: str, schemes: Sequence[str] = SCHEMES) -> tuple[Rule, ...]:
    """Of an object with `uri` and `revision`. `what` it leads to: a model, an adapter."""
    known = re.compile(rf"^({'|'.join(schemes)})://.+")
    unversioned = [scheme for scheme in ("file", "pvc") if scheme in schemes]
    return (
        Rule(
            ".uri",
            f"self.uri.matches('{known.pattern}')",
            lambda self: known.search(self.uri) is not None,
            f"the URI has no {'known scheme' if schemes == SCHEMES else f'scheme that {what} can have'}: "
            + ", ".join(f"{scheme}://" for scheme in schemes)
            + ".",
            f"Write hf://owner/name for {what} of the Hugging Face hub, file://path for a local one.",
        ),
        Rule(
            ".uri",
            f"!self.uri.matches('{_PASSWORD.pattern}')",
            lambda self: _PASSWORD.search(self.uri) is None,
            "the URI carries credentials, which anyone who may read the object would see.",
            "Put them into a Secret and name it in secretRef.",
        ),
        Rule(
            ".revision",
            f"!has(self.revision) || !self.uri.matches('^({'|'.join(unversioned)})://')",
            lambda self: self.revision is None or self.uri.partition("://")[0] not in unversioned,
            f"{' and '.join(f'{scheme}://' for scheme in unversioned)} {what.split()[-1]}s have no revision.",
            "Leave revision out.",
        ),
    )
