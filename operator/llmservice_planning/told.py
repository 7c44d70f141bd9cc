"""What status says of a model's files, in a cluster and on one machine alike."""

from __future__ import annotations

from llmservice_api.status import ModelStatus
from llmservice_runtime.formats.facts import ModelFacts


def model_status(facts: ModelFacts, revision: str | None) -> ModelStatus:
    """Of the model that is served; what its headers don't say is left out."""
    return ModelStatus(
        resolved_revision=revision or None,
        format=facts.format.value,
        architecture=facts.architecture or None,
        parameters=facts.parameters or None,
        quantization=(facts.quantization.name if facts.quantization else facts.dtype) or None,
        file_bytes=facts.file_bytes or None,
    )
