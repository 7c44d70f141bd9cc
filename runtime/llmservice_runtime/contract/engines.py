"""The engines a plan can choose."""

from enum import StrEnum


class EngineType(StrEnum):
    """Engine names as the API spells them (`spec.engine.type`)."""

    VLLM = "VLLM"
    TRANSFORMERS = "Transformers"
    LLAMA_CPP = "LlamaCpp"
