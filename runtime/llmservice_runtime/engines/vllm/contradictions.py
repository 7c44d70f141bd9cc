"""Arguments that vLLM would take and a plan can't: what others decide, what model or device do not allow."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.engines.base.case import Case, sm
from llmservice_runtime.engines.vllm import kv_cache
from llmservice_runtime.engines.vllm.options import CONTEXT_KEYS, FULL, SHARES, VllmOptions
from llmservice_runtime.engines.vllm.owned import OWNED, TRUST
from llmservice_runtime.engines.vllm.rules import PLATFORM
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.formats.classes import NESTED
from llmservice_runtime.formats.facts import LayerKind, ModelFacts
from llmservice_runtime.machine.machine import Device

HARMLESS: Mapping[str, tuple[object, ...]] = {
    "--runner": ("auto", "generate"), "--convert": ("auto", "none"), "--nnodes": (1,), "--node-rank": (0,),
    "--decode-context-parallel-size": (1,), "--prefill-context-parallel-size": (1,), "--trust-remote-code": (False,),
    "--skip-tokenizer-init": (False,), "--tokens-only": (False,), "--config-format": ("auto",),
    "--data-parallel-external-lb": (False,), "--data-parallel-hybrid-lb": (False,), "--enable-elastic-ep": (False,),
    "--enable-ssl-refresh": (False,),
}  # fmt: skip
"""Values that say what is the case anyway."""
SAME_METHOD = {"awq-marlin": "awq", "gptq-marlin": "gptq", "auto-awq": "awq", "auto-gptq": "gptq", "moe-wna16": ""}
LOADED = frozenset({"auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "runai_streamer", "mistral"})
"""Load formats that read a model's folder as it is."""
BOUND_TO_MODEL = frozenset({
    "architectures", "model_type", "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "num_experts", "num_local_experts", "n_routed_experts",
    "moe_intermediate_size", "quantization_config",
})  # fmt: skip
"""Keys of config.json that were planned with."""
WEIGHTLESS = frozenset({
    *NESTED, "rope_theta", "rope_type", "partial_rotary_factor", "num_experts_per_tok", "hidden_act",
    "hidden_activation", "rms_norm_eps", "layer_norm_eps", "initializer_range", "attention_dropout", "use_cache",
    "logit_scale", "final_logit_softcapping", "attn_logit_softcapping", "routed_scaling_factor", "norm_topk_prob",
    "bos_token_id", "eos_token_id", "pad_token_id", "name_or_path", "transformers_version",
})  # fmt: skip
"""Keys of config.json that change answers, and nothing of what a model takes."""
NATIVE_FP8 = 89
CHUNKED = "llama4"
"""Beginning of model types whose layers see chunks, which no argument about windows changes."""
NEWEST: Mapping[str, int] = {"nvfp4": 80, "nvfp4_4over6": 100, "nvfp4_ds_mla": 100}
"""Types of a KV cache -> lowest capability, as the kernels say while they start (flashinfer.py, flashmla_sparse.py;
latents in FP8: triton_mla.py)."""


def check(case: Case, options: VllmOptions) -> None:
    """UserError names the first argument that contradicts the plan, the model or the device."""
    for reason, remedy in _contradictions(case, options):
        raise UserError(f"engine.args: {reason}.", remedy)


def _contradictions(case: Case, options: VllmOptions) -> Iterator[tuple[str, str]]:
    for name, argument in options.given.items():
        harmless = () if name == TRUST and case.loading.remote_code else HARMLESS.get(name, ())
        if name in OWNED and argument.value not in harmless:
            why, remedy = OWNED[name]
            yield f"{argument} contradicts the plan: {why}", remedy
    yield from _code(case, options)
    yield from _lengths(options)
    yield from _steps(case, options)
    yield from _windows(case.facts, options)
    yield from _parsers(options)
    yield from _load_format(options)
    yield from _types(case, options)
    yield from _cache(case, options)
    yield from _method(case, options)
    yield from _sharing(case, options)
    yield from _overrides(options)


def _code(case: Case, options: VllmOptions) -> Iterator[tuple[str, str]]:
    """Whose code it is that a model's layers were planned by."""
    asked, lent = options.value("--model-impl"), known().borrows(case.architectures)
    if asked not in (None, "auto", "transformers" if lent else "vllm"):
        ours = "Transformers' code, as vLLM has none for it" if lent else "vLLM's own code"
        yield f"--model-impl={asked} contradicts the plan, which is for {ours}", "Leave it out."


def _lengths(options: VllmOptions) -> Iterator[tuple[str, str]]:
    """Numbers that the parser takes and the engine then does not start with."""
    for name in ("--max-model-len", "--kv-cache-memory-bytes"):
        size = options.value(name)
        if size is not None and size < 1 and not (name == "--max-model-len" and size == -1):
            yield f"{options.given[name]} is not at least 1", f"Correct it, or leave {name} out."


def _steps(case: Case, options: VllmOptions) -> Iterator[tuple[str, str]]:
    """One step holds a token of every sequence, and whole prompts where they are not cut (scheduler.py)."""
    step, sequences = options.step, options.value("--max-num-seqs")
    if step is None:
        return
    said = options.given["--max-num-batched-tokens"]
    if sequences and step < sequences:
        yield f"{said} is less than {options.given['--max-num-seqs']}", f"Set it to at least {sequences}."
    longest = options.asked.context_tokens or case.facts.context_tokens
    if options.whole_prompts and step < longest:
        yield (
            f"{said} is less than a prompt of {longest:,} tokens, which --no-enable-chunked-prefill takes at once",
            f"Leave one of them out, or add --max-model-len={step}.",
        )


def _windows(facts: ModelFacts, options: VllmOptions) -> Iterator[tuple[str, str]]:
    """What becomes of layers that slide (config/model.py: _get_and_verify_max_len), and of recurrent ones beside
    attention (kv_cache_utils.py: unify_hybrid_kv_cache_specs)."""
    window = min((group.window for group in facts.layers if group.kind is LayerKind.SLIDING), default=0)
    chunked = facts.model_type.startswith(CHUNKED)
    longest = options.asked.context_tokens or facts.context_tokens
    if options.value("--disable-sliding-window") and not chunked and 0 < window < longest:
        yield (
            f"--disable-sliding-window contradicts a context of {longest:,} tokens: without its window vLLM runs the "
            f"model up to the {window:,} tokens of it",
            f"Leave it out, or add --max-model-len={window}.",
        )
    kinds = {group.kind for group in facts.layers}
    if options.whole_windows and LayerKind.RECURRENT in kinds and len(kinds - {LayerKind.NONE}) > 1:
        yield (
            "--disable-hybrid-kv-cache-manager contradicts the model, which has recurrent layers beside attention",
            "Leave it out.",
        )


def _parsers(options: VllmOptions) -> Iterator[tuple[str, str]]:
    """vLLM looks at their names when it starts. A plug-in of the user's may bring others."""
    for name, kind in (("--tool-call-parser", "tool_call"), ("--reasoning-parser", "reasoning")):
        chosen, names = options.value(name), known().parsers[kind]
        plugin = name.replace("-call-parser", "-parser") + "-plugin"
        if chosen and chosen not in names and not options.value(plugin):
            near = difflib.get_close_matches(chosen, names, n=3) or names
            yield (
                f"{name}={chosen} is no parser of vLLM {known().versions['vllm']}",
                f"Leave it out: both are read as the chat template writes them. Or use {', '.join(near)}.",
            )


def _load_format(options: VllmOptions) -> Iterator[tuple[str, str]]:
    if (form := options.value("--load-format")) == "dummy":
        yield "--load-format=dummy would answer with random weights", "Leave it out."
    elif form not in (None, *LOADED):
        yield f"--load-format={form} reads other files than the model's", "Leave it out."


def _types(case: Case, options: VllmOptions) -> Iterator[tuple[str, str]]:
    kind = options.value("--dtype")
    if kind in FULL and (case.facts.quantization or options.online or case.loading.quantization):
        name = case.facts.quantization.name if case.facts.quantization else options.online or case.loading.quantization
        yield f"--dtype={kind} contradicts the weights: {name} is computed in 16 bits", "Leave --dtype out."
    if kind == "bfloat16" and case.on_nvidia and case.capability < 80:
        yield f"--dtype=bfloat16 contradicts the device: {case.where} has no bf16", "Use --dtype=float16."
    if kind in ("float16", "half") and case.facts.model_type in known().no_float16:
        yield (
            f"--dtype={kind} contradicts the model: {case.facts.model_type} models overflow fp16",
            "Leave --dtype out.",
        )


def _cache(case: Case, options: VllmOptions) -> Iterator[tuple[str, str]]:
    """Types and blocks of the KV cache for which the device has no attention of the model's kind."""
    asked, block = options.value("--kv-cache-dtype") or "auto", options.value("--block-size")
    kernels = known().kv_caches[PLATFORM[case.device]].get(kept := _kept(case.facts), {})
    kind = {"heads": "attention"}.get(kept, "attention to latents (MLA)")
    types = sorted({name for kernel in kernels.values() for name in kernel.types} & {*_choices()} - {"auto"})
    if not kernels or (asked == "auto" and block is None):
        return
    floor = NEWEST.get(asked, 0) if kept == "heads" or not str(asked).startswith("fp8") else NATIVE_FP8
    if not any(kernel.takes(asked, None) for kernel in kernels.values()):
        some = f"takes {', '.join(types)}" if types else "keeps the model's own type"
        yield (
            f"{options.given['--kv-cache-dtype']} contradicts the plan: vLLM's {kind} on {case.where} {some}",
            "Use one of them, or leave it out." if types else "Leave it out.",
        )
    elif case.on_nvidia and case.capability < floor:
        yield (
            f"{options.given['--kv-cache-dtype']} contradicts the device: {kind} needs compute capability "
            f"{sm(floor)} for it in vLLM, and {case.where} is older",
            "Leave it out.",
        )
    elif not any(kernel.takes(asked, block) for kernel in kernels.values()):
        sizes = {min(kernel.blocks) for kernel in kernels.values() if kernel.takes(asked, None)}
        least = sorted(size for size in sizes if not any(size % less == 0 for less in sizes - {size}))
        yield (
            f"{options.given['--block-size']} contradicts the plan: vLLM's {kind} on {case.where} has blocks of a "
            f"multiple of {' or '.join(map(str, least))} tokens",
            "Use one, or leave --block-size out.",
        )


def _choices() -> tuple[str | int, ...]:
    return known().options["--kv-cache-dtype"].choices


def _kept(facts: ModelFacts) -> str:
    """As capabilities name what a layer keeps; empty = of a kind that brings its own attention."""
    latents = [group for group in kv_cache.kept(facts) if group.kind is LayerKind.MLA]
    if any(group.tokens_per_state > 1 for group in latents):
        return ""
    return "sparse" if any(group.index_bytes for group in latents) else "latents" if latents else "heads"


def _method(case: Case, options: VllmOptions) -> Iterator[tuple[str, str]]:
    """--quantization of a checkpoint that has another, or a method that checkpoints have of one that has none."""
    if (asked := options.value("--quantization")) in (None, ""):
        return
    if wanted := case.loading.quantization:
        yield f"--quantization={asked} says anew what engine.loadQuantization ({wanted}) says", "Leave one of them out."
    quantization, method = case.facts.quantization, str(asked).lower().replace("_", "-")
    told = known()
    if method not in told.methods and asked not in told.online:
        some = ", ".join(sorted({*told.methods, *told.online}))
        yield f"--quantization={asked} is no method of vLLM's", f"Use one of {some}, or leave it out."
    elif quantization is not None and not _same(method, case.method):
        yield (
            f"--quantization={asked} contradicts the model, whose weights are {quantization.name}",
            "Leave --quantization out: it is read from the model.",
        )
    elif quantization is None and asked not in told.online:
        yield (
            f"--quantization={asked} contradicts the model, whose weights are {case.facts.dtype}",
            f"Use a version of the model in {asked}, or convert while loading: {', '.join(sorted(told.online))}.",
        )


def _same(asked: str, method: str) -> bool:
    alike = SAME_METHOD.get(asked, asked)
    return alike == method or (not alike and method in ("awq", "gptq")) or (asked[:8] == method[:8] == "modelopt")


def _sharing(case: Case, options: VllmOptions) -> Iterator[tuple[str, str]]:
    if options.value("--enable-expert-parallel") and not case.facts.mixture_experts:
        yield "--enable-expert-parallel contradicts the model, which has no experts", "Leave it out."
    shares = [options.given[name] for name in SHARES if name in options.given and options.given[name].value > 1]
    if shares and case.device is Device.CPU:
        yield f"{shares[0]} contradicts the device: on the CPU nothing is shared", "Leave it out."


def _overrides(options: VllmOptions) -> Iterator[tuple[str, str]]:
    if isinstance(options.value("--hf-overrides"), str):
        yield "--hf-overrides as a function can't be planned with", "Give a JSON object."
    if bound := sorted(BOUND_TO_MODEL & options.overridden):
        yield f"--hf-overrides contradicts the model: {bound[0]} is read from its files", f"Leave {bound[0]} out."
    if others := sorted(options.overridden - WEIGHTLESS - CONTEXT_KEYS):
        yield (
            f"--hf-overrides changes {others[0]}, and what the model takes is planned from its files",
            f"Leave {others[0]} out, or change config.json.",
        )
    if options.lifts_context and options.asked.context_tokens is None:
        keys = " and ".join(sorted(CONTEXT_KEYS & options.overridden))
        yield f"--hf-overrides changes {keys}, so how long a context may be is not known", "Add --max-model-len."
