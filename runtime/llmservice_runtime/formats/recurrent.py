"""State of recurrent layers per sequence, from config.json: a convolution window and a state matrix.

`state_bytes` have four bytes per element, as llama.cpp (llama-hparams.cpp) and Transformers' kernels keep both;
`mixer_bytes` the types that a model has for them, as vLLM 0.32 does (mamba_utils.py).
"""

from __future__ import annotations

from llmservice_runtime.formats.config import Config

ELEMENT_BYTES = 4
_STATED = ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")
_WIDE = ("nemotron_h", "rwkv")
"""Beginnings of model types whose states have 32 bits unless the configuration says otherwise; windows have 16."""


def state_bytes(config: Config) -> int:
    """Bytes per sequence and layer."""
    return ELEMENT_BYTES * sum(_elements(config))


def mixer_bytes(config: Config) -> int:
    """The same in the types that the model has for them."""
    window, state = _elements(config)
    stated = config.text(*_STATED)
    wide = config.text("model_type").startswith(_WIDE) or isinstance(config.get("linear_attn_config"), dict)
    return 2 * window + (4 if stated == "float32" or (not stated and wide) else 2) * state


def _elements(config: Config) -> tuple[int, int]:
    """Of the convolution's window, and of the state."""
    if config.text("model_type").startswith("rwkv"):
        return _rwkv(config)
    if window := config.integer("conv_L_cache"):
        return config.hidden * max(0, window - 1), 0
    if config.integer("linear_num_value_heads") or config.text("model_type") == "olmo_hybrid":
        return _delta_net(config)
    linear = config.get("linear_attn_config")
    if isinstance(linear, dict):
        return _kda(Config(linear, config.name))
    if not config.integer(*_STATE) and config.heads:
        dim = config.integer("head_dim") or config.hidden // config.heads
        return 0, config.heads * dim * dim  # lightning attention: one matrix per head
    inner, state, groups = _inner(config), config.integer(*_STATE), config.integer(*_GROUPS)
    window = mamba_window(inner, state, config.integer(*_KERNEL, default=4), groups)
    return window, inner * state


def short_convolution(config: Config, channels: int) -> int:
    """Bytes of the window of a convolution over keys and values (Inkling), per sequence and layer; 0 without one."""
    return ELEMENT_BYTES * channels * max(0, config.integer("sconv_kernel_size") - 1)


def mamba_elements(inner: int, state: int, kernel: int, groups: int) -> int:
    """Mamba: the convolution's window, and inner * state."""
    return mamba_window(inner, state, kernel, groups) + inner * state


def mamba_window(inner: int, state: int, kernel: int, groups: int) -> int:
    """(kernel - 1) columns of the convolution over inner + 2 * groups * state channels."""
    return max(0, kernel - 1) * (inner + 2 * groups * state)


_STATE = ("mamba_d_state", "state_size", "ssm_state_size", "d_state")
_KERNEL = ("mamba_d_conv", "conv_kernel", "d_conv")
_GROUPS = ("mamba_n_groups", "mamba_ngroups", "n_groups")
_MAMBA_HEADS = ("mamba_n_heads", "n_mamba_heads", "mamba_num_heads")
_MAMBA_DIM = ("mamba_d_head", "mamba_headdim", "mamba_head_dim")


def _inner(config: Config) -> int:
    """Channels of the mixer: stated, heads times their size, or the expansion of the hidden size."""
    heads = config.integer(*_MAMBA_HEADS) * config.integer(*_MAMBA_DIM)
    stated = config.integer("mamba_d_ssm", "d_inner") or heads
    if not stated and config.text("model_type").startswith("mamba"):
        stated = config.integer("intermediate_size")
    return stated or config.integer("mamba_expand", "expand", default=2) * config.hidden


def _delta_net(config: Config) -> tuple[int, int]:
    """Gated delta net of Qwen3-Next; OLMo's derives its sizes where they are left out (OlmoHybridConfig)."""
    heads = config.integer("linear_num_key_heads") or config.heads
    dim = config.integer("linear_key_head_dim") or 3 * config.hidden // (4 * max(1, heads))
    values = config.integer("linear_num_value_heads") or config.heads
    values *= config.integer("linear_value_head_dim") or 2 * dim
    kernel = config.integer("linear_conv_kernel_dim", default=4)
    return max(0, kernel - 1) * (2 * heads * dim + values), values * dim


def _kda(config: Config) -> tuple[int, int]:
    """Kimi's delta attention: convolutions of q, k and v, and one square matrix per head."""
    heads, dim = config.integer("num_heads"), config.integer("head_dim")
    return heads * dim * 3 * max(0, config.integer("short_conv_kernel_size", default=4) - 1), heads * dim * dim


def _rwkv(config: Config) -> tuple[int, int]:
    """RWKV: two shifted tokens, and one square matrix per head."""
    head = config.integer("head_dim", "head_size", default=64)
    return config.hidden * 2, config.hidden * head
