"""What vLLM itself keeps of a sequence: its own models, made without memory, asked for the specs of their caches.

    make geometry        writes answers.json anew, in some ten minutes on two cores

Runs in vLLM's environment. Every model is a process of its own, forked once vLLM is imported: a class that fails or
hangs is told with its reason, and the others are asked. Devices that are not there are played: kernels are not run.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import math
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmservice_runtime.engines.vllm import generate, generate_classes
from tests.engines.geometry.stated import STATED

ANSWERS = Path(__file__).parent / "answers.json"
SECONDS = 150
"""For one model."""
AUTO = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
)
"""Transformers' tables that tell an architecture's model_type."""


def main() -> int:
    """Ask all, or those whose names are given; the others keep their answers."""
    os.environ.update(VLLM_PLUGINS="", HF_HUB_OFFLINE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
    generate.call_it_vllm()
    import vllm.engine.arg_utils  # noqa: F401  - what transformers asks of packages comes before their stand-ins

    generate_classes.ABSENT |= {"cutlass"}
    sys.meta_path.append(generate_classes.StandIns())
    play()
    told: dict[str, Any] = json.loads(ANSWERS.read_text(encoding="utf-8")) if sys.argv[1:] else {}
    models = told.get("models", {})
    for name, (architecture, config) in questions().items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            models[name] = {"architecture": architecture, "config": config, **asked(architecture, config)}
            print(name, models[name].get("failed", ""), flush=True)
    body = {"vllm": importlib.metadata.version("vllm").split("+")[0], "models": models}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(models[name])}" for name in sorted(models))
    ANSWERS.write_text(f'{{"vllm": {json.dumps(body["vllm"])}, "models": {{\n{lines}\n}}}}\n', encoding="utf-8")
    return 0


def questions() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name -> architecture and configuration: of every class that writes text, as its configuration's class has it,
    and those that are stated (whose configuration is code of a repository, or that no default shows)."""
    from transformers.models.auto import modeling_auto
    from vllm.model_executor.models import registry

    types: dict[str, str] = {}
    for table in AUTO:
        for model_type, names in getattr(modeling_auto, table).items():
            for name in [names] if isinstance(names, str) else names:
                types.setdefault(name, model_type)
    writers = {**registry._TEXT_GENERATION_MODELS, **registry._MULTIMODAL_MODELS}
    bare = {name: (name, {"model_type": types[name]}) for name in sorted(writers) if name in types}
    return {**bare, **STATED}


def asked(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a child process says."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            try:
                told = made(architecture, config, Path(folder))
            except BaseException as error:  # whatever a class raises is its answer
                told = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"}
            answer.write_text(json.dumps(told), encoding="utf-8")
            os._exit(0)
        os.waitpid(child, 0)
        found = answer.read_text(encoding="utf-8") if answer.exists() else '{"failed": "no answer in time"}'
        told = json.loads(found)
        assert isinstance(told, dict)
        return told


def made(architecture: str, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The longest context, and [count, kind, bytes, window] of equal layers: bytes of a token, or of a state."""
    import torch
    from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    know(config.get("model_type"))
    whole = {"architectures": [architecture], "torch_dtype": "bfloat16", **config}
    Path(folder, "config.json").write_text(json.dumps(whole), encoding="utf-8")
    engine = EngineArgs(
        model=str(folder), skip_tokenizer_init=True, load_format="dummy", enforce_eager=True, enable_prefix_caching=True
    )
    settings = engine.create_engine_config()
    with set_current_vllm_config(settings):
        store = f"file://{folder}/store"
        init_distributed_environment(1, 0, store, 0, "gloo")
        ensure_model_parallel_initialized(1, 1)
        with torch.device("meta"), set_default_torch_dtype(settings.model_config.dtype):
            model = initialize_model(vllm_config=settings)
        layers = get_layers_from_vllm_config(settings, AttentionLayerBase).values()
        own = [layer for layer in layers if not getattr(layer, "kv_sharing_target_layer_name", None)]
        specs = [spec for layer in own if (spec := layer.get_kv_cache_spec(settings)) is not None]
    counted = Counter(map(kept, specs))
    return {
        "class": type(model).__name__,
        "context": settings.model_config.max_model_len,
        "layers": [[count, *layer] for layer, count in counted.items()],
    }


def kept(spec: Any) -> tuple[str, float, int]:
    """Kind, bytes and window of one cache."""
    import torch

    kind = type(spec).__name__
    if kind == "MambaSpec":
        sizes = zip(spec.shapes, spec.dtypes, strict=True)
        return "state", sum(math.prod(shape) * torch.empty(0, dtype=kind).element_size() for shape, kind in sizes), 0
    page = getattr(spec, "real_page_size_bytes", None) or spec.page_size_bytes
    window = getattr(spec, "sliding_window", None) or getattr(spec, "attention_chunk_size", None) or 0
    return ("cross" if "Cross" in kind else "window" if window else "token"), page / spec.block_size, window


def know(model_type: Any) -> None:
    """A configuration that is code of a repository: what it states is all there is."""
    from transformers import CONFIG_MAPPING, PretrainedConfig
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    if model_type not in CONFIG_MAPPING and model_type not in _CONFIG_REGISTRY:
        _CONFIG_REGISTRY[model_type] = type("Stated", (PretrainedConfig,), {"model_type": model_type})


def play() -> None:
    """What models ask of a device, and of numbers that nobody made, while they are built."""
    import torch
    from vllm import triton_utils
    from vllm.model_executor.layers.fused_moe import config as experts
    from vllm.model_executor.models import registry
    from vllm.platforms.cpu import CpuPlatform
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    torch.set_num_threads(1)
    torch.cpu._is_avx512_bf16_supported = lambda: False  # states as GPUs keep them
    torch.cpu._is_amx_tile_supported = lambda: True  # without it latents have no prefix caching
    triton_utils.triton.set_allocator = lambda *of: None
    registry._run_in_subprocess = lambda ask: ask()  # this one is a process for the purpose
    for name, value in _NUMBERS.items():
        setattr(torch.Tensor, name, _on_meta(getattr(torch.Tensor, name), value))
    experts.current_platform = _Gpu(experts.current_platform)
    chosen, kernels = CpuPlatform.get_attn_backend_cls.__func__, CPUAttentionBackend.get_impl_cls()
    begun, wanted = kernels.__init__, inspect.signature(kernels.__init__).parameters
    kernels.__init__ = lambda self, *of, **named: begun(self, *of, **{k: v for k, v in named.items() if k in wanted})
    CPUAttentionBackend.supports_alibi_sqrt = classmethod(lambda cls: True)

    def backend(cls: Any, selected: Any, attn_selector_config: Any, num_heads: int | None = None) -> Any:
        latents = AttentionBackendEnum.CPU_MLA.get_path()
        return latents if attn_selector_config.use_sparse else chosen(cls, selected, attn_selector_config, num_heads)

    CpuPlatform.get_attn_backend_cls = classmethod(backend)


class _Gpu:
    """A platform that says of itself what models with experts want to hear."""

    def __init__(self, platform: Any) -> None:
        self._platform = platform

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)

    def is_cuda_alike(self) -> bool:
        """Their kernels are not run."""
        return True


_NUMBERS: Mapping[str, Any] = {
    "item": lambda self: 1, "tolist": lambda self: [1.0] * self.numel(), "__bool__": lambda self: True,
    "cpu": lambda self: self.new_ones(self.shape, device="cpu"),
    "__float__": lambda self: 1.0, "__int__": lambda self: 1, "__index__": lambda self: 1,
}  # fmt: skip
"""Of a tensor without memory."""


def _on_meta(real: Any, value: Any) -> Any:
    return lambda self, *args, **named: value(self) if self.device.type == "meta" else real(self, *args, **named)


if __name__ == "__main__":
    sys.exit(main())
