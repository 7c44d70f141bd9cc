"""When llama.cpp runs a model: it reads GGUF and nothing else, on every device, of the architectures it told."""

from __future__ import annotations

from pathlib import Path

from llmservice_runtime.engines.base.capabilities import Capabilities, capabilities
from llmservice_runtime.engines.base.case import Case, Rule, is_gguf
from llmservice_runtime.formats.facts import ModelFacts, Task

ENCODERS = frozenset({"dflash", "eagle3", "t5", "t5encoder"})
DIFFUSION = frozenset({"dream", "llada", "llada-moe", "rnd1"})
"""Architectures that the library says it doesn't write from left to right: a test asks it of each that it knows."""

WITHOUT_CACHE = frozenset(
    {
        "bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert", "modern-bert",
        "gemma-embedding",
    }
)  # fmt: skip
"""Encoders, which read a whole text at once and keep nothing of it."""

ASKED = frozenset({"qwen3"})
"""Decoders whose two outputs, yes and no, the library makes a score of (llama-graph.cpp, `build_pooling`)."""


def known() -> Capabilities:
    """What the built library told of itself."""
    return capabilities(Path(__file__).parent)


def not_gguf(case: Case) -> str | None:
    """Other formats must be converted first."""
    if not is_gguf(case):
        would = "would not run either" if not_from_left_to_right(case) else "would run"
        return f"llama.cpp reads GGUF only, and this model is {case.facts.format}; a GGUF of the same model {would}."
    return None


def unknown_architecture(case: Case) -> str | None:
    """Architectures that the library can't load."""
    name, told = case.architecture, known()
    if not name or told.runs(name):
        return None
    version = f"llama-cpp-python {told.versions['llama-cpp-python']}"
    return f"llama.cpp ({version}) does not know the architecture {name}{told.spelled(name)}."


def not_from_left_to_right(case: Case) -> bool:
    """Whether the model, in whatever format, has an encoder or is a diffusion model."""
    kind = case.facts.model_type.lower().replace("_", "-")
    return case.facts.encoder or kind in ENCODERS | DIFFUSION


def other_ways(case: Case) -> str | None:
    """What the runtime refuses after loading it."""
    name = case.architecture
    if not is_gguf(case) or name not in ENCODERS | DIFFUSION:
        return None
    kind = "has an encoder" if name in ENCODERS else "is a diffusion model"
    return f"{name} {kind}; llama.cpp runs decoders alone here."


def unable_pooling(case: Case) -> str | None:
    """Vectors and scores that llama.cpp would not make as the model means them."""
    facts = case.facts
    if not is_gguf(case) or not facts.pools:
        return None
    if not facts.pooling:
        return f"the GGUF does not say how a text's vectors become one ({case.architecture}.pooling_type)."
    if facts.task is Task.RERANK and not keeps_nothing(facts) and not (facts.asked and case.architecture in ASKED):
        return (
            f"llama.cpp has no scores of {case.architecture} here; it scores by encoders, and by Qwen3's rerankers with"
            " the template (tokenizer.chat_template.rerank) that llama.cpp's own converter writes."
        )
    if facts.task is Task.RERANK and facts.typed_pairs:
        return (
            "the model tells the second text of a pair by its token type, which llama.cpp leaves out: scores would be "
            "others than the model's."
        )
    return None


def keeps_nothing(facts: ModelFacts) -> bool:
    """Whether the library makes no cache for it (llama-model.cpp, `create_memory`)."""
    return facts.architecture in WITHOUT_CACHE


RULES: tuple[Rule, ...] = (not_gguf, unknown_architecture, other_ways, unable_pooling)
