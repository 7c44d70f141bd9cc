"""What of spec.engine.args of vLLM counts for a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from llmservice_runtime.engines.vllm.arguments import Given, read, words
from llmservice_runtime.engines.vllm.kv_cache import ELEMENTS
from llmservice_runtime.engines.vllm.sharding import Sharing
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import Asked, Layout
from llmservice_runtime.estimate.overhead import GIB, UTILISATION
from llmservice_runtime.formats.classes import NESTED

FULL = frozenset({"float32", "float"})
"""Types of 32 bits."""
PLANNED = (
    "--max-model-len", "--max-num-seqs", "--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size",
    "--gpu-memory-utilization",
)  # fmt: skip
"""What a plan says itself, with the user's values where there are some."""
SHARES = PLANNED[2:5]
EXECUTOR = "--distributed-executor-backend"
SEQUENCES = 256
"""Decoded together where no argument says."""
ONLINE = {"FP8": "fp8_per_tensor"}
"""What weights can be made while they are loaded, in vLLM's words. One scale per tensor: before SM 8.9 Marlin computes
with such weights in 16 bits (quantization/online/fp8.py)."""
CONTEXT_KEYS = frozenset({
    "max_position_embeddings", "rope_scaling", "rope_parameters", "n_positions", "max_seq_len", "seq_length",
    "model_max_length", "max_sequence_length", "max_target_positions",
})  # fmt: skip
"""Keys of config.json from which vLLM takes the longest context."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """Arguments as values; None = not given."""

    given: Given = field(default_factory=dict)
    converted: str = ""
    """What engine.loadQuantization says, in vLLM's words; empty = nothing."""

    @property
    def asked(self) -> Asked:
        """What is left nothing to plan of. Of GPUs, what is not given is 1 as soon as one of the sizes is."""
        length = self.value("--max-model-len")
        sizes = [self.value(name) for name in SHARES]
        layout = Layout(*(size or 1 for size in sizes)) if any(sizes) else None
        shares = " ".join(str(self.given[name]) for name in SHARES if name in self.given)
        names = {"context_tokens": str(self.given.get("--max-model-len", "")), "layout": shares}
        sequences = self.value("--max-num-seqs")
        if sequences is None and self.step is not None and self.step < SEQUENCES:
            sequences = self.step  # each needs a token of a step
        return Asked(length if length != -1 else None, sequences, layout, names)

    @property
    def workers(self) -> int:
        """Processes that compute for the engine core on a CPU; 0 = it does so itself, as where nobody says how."""
        count = self.asked.layout.gpus if self.asked.layout else 1
        return count if count > 1 or EXECUTOR in self.given else 0

    @property
    def sharing(self) -> Sharing:
        """Whole experts, whole towers."""
        whole = bool(self.value("--language-model-only")) or self.value("--mm-encoder-tp-mode") == "data"
        return Sharing(bool(self.value("--enable-expert-parallel")), whole)

    @property
    def utilisation(self) -> float:
        """Share of a GPU."""
        return float(self.value("--gpu-memory-utilization") or UTILISATION)

    @property
    def cache_bytes(self) -> int | None:
        """Of the KV cache on each GPU."""
        size = self.value("--kv-cache-memory-bytes")
        return None if size is None else int(size)

    @property
    def element(self) -> Fraction | None:
        """Bytes of an element of the KV cache; None = the model says."""
        kind = self.value("--kv-cache-dtype") or "auto"
        if kind != "auto" and self.value("--kv-cache-dtype-skip-layers"):  # those keep the model's own, so all are so
            return Fraction(self.width)
        return None if kind == "auto" else ELEMENTS.get(kind.upper()) or Fraction(known().kv_types[kind])

    @property
    def width(self) -> int:
        """Bytes of an element of what is computed with."""
        return 4 if self.value("--dtype") in FULL else 2

    @property
    def page(self) -> int:
        """Tokens of a block of the KV cache."""
        return int(self.value("--block-size") or 16)

    @property
    def caches_prefixes(self) -> bool:
        """Whether what was computed of a prompt is kept for the next one that begins alike."""
        return self.value("--enable-prefix-caching") is not False

    @property
    def wide_states(self) -> bool:
        """Whether recurrent states are asked for in 32 bits."""
        return "float32" in (self.value("--mamba-ssm-cache-dtype"), self.value("--mamba-cache-dtype"))

    @property
    def whole_windows(self) -> bool:
        """Whether layers that slide keep every token, where others do."""
        return bool(self.value("--disable-hybrid-kv-cache-manager"))

    @property
    def guessed(self) -> int:
        """Tokens guessed ahead at a time, for each of which a recurrent mixer keeps a state."""
        stated = self.value("--speculative-config")
        tokens = stated.get("num_speculative_tokens") if isinstance(stated, dict) else None
        return max(0, int(self.value("--spec-tokens") or (tokens if type(tokens) is int else 0)))

    @property
    def offloaded(self) -> int:
        """Bytes of weights that each GPU leaves on the host."""
        return int(float(self.value("--cpu-offload-gb") or 0) * GIB)

    @property
    def step(self) -> int | None:
        """Tokens of one step."""
        tokens = self.value("--max-num-batched-tokens")
        return None if tokens is None else int(tokens)

    @property
    def whole_prompts(self) -> bool:
        """Whether one step must take a whole prompt."""
        return self.value("--enable-chunked-prefill") is False

    @property
    def online(self) -> str:
        """What 16-bit weights are converted to while loading; empty = they stay."""
        method = self.converted or str(self.value("--quantization") or "")
        return method if method in known().online else ""

    @property
    def adapters(self) -> tuple[int, int]:
        """How many LoRA adapters there is room for at a time, and their largest rank."""
        if not self.value("--enable-lora"):
            return 0, 0
        return int(self.value("--max-loras") or 1), int(self.value("--max-lora-rank") or 16)

    @property
    def cache_on_host(self) -> int:
        """Bytes of the host that the KV cache is moved to."""
        return int(float(self.value("--kv-offloading-size") or 0) * GIB)

    @property
    def drafts(self) -> bool:
        """Whether another model drafts tokens, whose size is not known."""
        stated = self.value("--speculative-config")
        return bool(self.value("--spec-model")) or (isinstance(stated, dict) and bool(stated.get("model")))

    @property
    def overridden(self) -> frozenset[str]:
        """Keys of config.json that --hf-overrides replaces, nested ones (text_config) too."""
        overrides = self.value("--hf-overrides")
        return frozenset(_keys(overrides)) if isinstance(overrides, dict) else frozenset()

    @property
    def lifts_context(self) -> bool:
        """Whether --hf-overrides says anew how long a context may be."""
        return not CONTEXT_KEYS.isdisjoint(self.overridden)

    @property
    def rest(self) -> tuple[str, ...]:
        """A command line of what a plan does not say itself."""
        return words({name: argument for name, argument in self.given.items() if name not in PLANNED})

    def value(self, name: str) -> Any:
        """Of an option by its long name."""
        return self.given[name].value if name in self.given else None


def _keys(value: dict[str, Any]) -> set[str]:
    """All keys, those of the language model's own part too (text_config)."""
    parts = (value[name] for name in NESTED if isinstance(value.get(name), dict))
    return set(value).union(*map(_keys, parts))


def vllm_options(args: Sequence[str]) -> VllmOptions:
    """Read them; UserError BadArgument names the one that vLLM would refuse."""
    return VllmOptions(read(args))
