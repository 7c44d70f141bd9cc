"""What the API server refused of a pod, in the words of the LLMService that asked for it."""

from __future__ import annotations

import dataclasses
import re

from llmservice_operator.facts.values import CONTESTED, NAME_CONFLICT, Refused

_TEMPLATE = re.compile(r"\.?\bspec\.template\.(?=spec|metadata|labels|annotations)")
_PREFIX = re.compile(r'^(\S+ "[^"]+" is invalid|failed to create typed patch object \([^)]*\)): ')


def in_words(refused: Refused) -> Refused:
    """Fields of a pod template are named as the field of the LLMService that reaches them."""
    if refused.reason in (NAME_CONFLICT, CONTESTED) or not _TEMPLATE.search(refused.message):
        return refused
    text = _TEMPLATE.sub("spec.podTemplate.", _PREFIX.sub("", refused.message))
    return dataclasses.replace(refused, reason="Invalid", message=text)
