"""The unit that a family's layers repeat where the configuration says nothing of them.

Letters: Full, Sliding, Recurrent, Parallel (attention beside a recurrent mixer; small: with a window), Indexed,
Compressed, None. They are those of the config classes of transformers; a test compares.
"""

from __future__ import annotations

WORDS = {
    "F": "full",
    "S": "sliding",
    "R": "recurrent",
    "P": "parallel",
    "p": "parallel sliding",
    "I": "indexed",
    "C": "compressed",
    "N": "none",
}

_FAMILIES = {
    "SF": "gemma2 vaultgemma gpt_oss step3p5",
    "SSSF": "cohere2 cohere2_moe olmo3 exaone4 exaone_moe afmoe llama4 dory muse_glimmer muse_spark",
    "SSSSF": "gemma3n kolibri1",
    "SSSSSF": "gemma3 gemma4 gemma4_unified diffusion_gemma embedding_gemma2 beam neomme mimo_v2_flash",
    "FSSS": "cwm granite_swa granitemoe_swa",
    "FSS": "modernbert modernbert-decoder",
    "SSF": "ultrabert",
    "SFSS": "flint",
    "SISS": "dots3_note",
    "RRRF": "qwen3_next qwen3_5 qwen3_5_moe olmo_hybrid",
    "RRRI": "qwen4_exp glm5_next",
    "RRRRRF": "bailing_hybrid",
    "FRRR": "kimi_linear",
    "FR": "minimax",
    "RSRFS": "lara_mini",
    "SRFR": "lfm3",
    "RRS": "recurrent_gemma",
    "R": "bamba granitemoehybrid mamba mamba2 falcon_mamba rwkv rwkv5 rwkv6 rwkv7 xlstm",
    "P": "falcon_h1 zaya",
    "pppppP": "inkling inkling2 inkling2_loop",
    "I": "deepseek_v32 glm_moe_dsa axk2 hy_v4 hy_v4_vl mistral_large4",
    "C": "deepseek_v4 deepseek_v41",
    "FN": "cosmos3_edge",
}
UNITS = {family: unit for unit, families in _FAMILIES.items() for family in families.split()}
"""Family -> unit."""

LAST_FULL = frozenset({"gemma4", "gemma4_unified", "diffusion_gemma", "embedding_gemma2"})
"""Families whose last layer sees every token, whatever is listed."""
_LAST = (*sorted(LAST_FULL), "beam", "neomme")
EXCEPTIONS: dict[str, dict[int, str]] = {
    **{family: {-1: "F"} for family in _LAST},
    "mimo_v2_flash": {0: "F"},
    "flint": {0: "F", -1: "F"},
    "dots3_note": {0: "I"},
    "kimi_linear": {0: "R"},
    "lfm3": {0: "R"},
}
"""Single layers that differ from the unit."""
BACKWARDS = frozenset({"muse_glimmer", "muse_spark"})
"""Families whose unit ends with the last layer."""
LATE_WINDOW = frozenset({
    "qwen2", "qwen3", "qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen3_omni_moe", "dots1", "deepseek_ocr2",
})  # fmt: skip
"""Families whose layers have a window from `max_window_layers` on, where `use_sliding_window` says so."""
UNIFORM_WINDOW = frozenset({"mistral", "mixtral", "starcoder2", "phi3", "ministral", "mistral3", "pixtral", "phimoe"})
"""Families whose `sliding_window` means every layer."""
