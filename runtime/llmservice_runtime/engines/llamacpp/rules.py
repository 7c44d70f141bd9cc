"""When llama.cpp runs a model (llama-cpp-python 0.3.36): it reads GGUF and nothing else, on every device."""

from __future__ import annotations

from llmservice_runtime.engines.base.case import Case, Rule, is_gguf


def not_gguf(case: Case) -> str | None:
    """Other formats must be converted first."""
    if not is_gguf(case):
        return f"llama.cpp reads GGUF only, and this model is {case.facts.format}; a GGUF of the same model would run."
    return None


RULES: tuple[Rule, ...] = (not_gguf,)
