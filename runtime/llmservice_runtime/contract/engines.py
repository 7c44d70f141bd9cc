"""The registry of engines: one line each."""

from enum import StrEnum


class EngineType(StrEnum):
    """Engine names as the API spells them (`spec.engine.type`). Everything else of an engine is in its folder."""

    VLLM = "VLLM"
    TRANSFORMERS = "Transformers"
    LLAMA_CPP = "LlamaCpp"

    @property
    def folder(self) -> str:
        """Its folder below `llmservice_runtime.engines`, and its name on the command line."""
        return self.value.lower()
