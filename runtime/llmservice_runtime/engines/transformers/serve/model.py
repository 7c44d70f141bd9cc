"""Loads a checkpoint and its tokenizer; what can go wrong becomes a failure class and a sentence."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.base.tensors import weight_lines
from llmservice_runtime.engines.transformers.arguments import SMALL_WEIGHTS, EngineArgs
from llmservice_runtime.engines.transformers.serve.quantize import load_options
from llmservice_runtime.engines.transformers.serve.tokenizer import HfTokenizer
from llmservice_runtime.engines.transformers.serve.trim import trim

log = logging.getLogger(__name__)


class LoadedModel:
    """A model and its tokenizer. `close` lets both go, once no step runs."""

    def __init__(self, model: Any, tokenizer: HfTokenizer, folder: Path) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._folder = folder

    def held(self) -> list[HeldLine]:
        """What its weights have of memory."""
        return list(weight_lines((*self.model.parameters(), *self.model.buffers()), self._folder))

    def close(self) -> None:
        """Let the model go."""
        self.model = None


def load_model(
    settings: RuntimeSettings,
    args: EngineArgs,
    progress: Callable[[float], None],
    kinds: Any = transformers.AutoModelForCausalLM,
) -> LoadedModel:
    """Load `settings.model_path`. UserError carries the class (ModelDamaged, OutOfMemory...)."""
    folder = Path(settings.model_path)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"There is no config.json in {folder}.",
            "Check the path: Transformers reads a folder with config.json, tokenizer files and safetensors.",
            FailureClass.MODEL_NOT_FOUND,
        )
    _require_defaults(folder)
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    transformers.logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a line for every matrix of every step
    trust = settings.trust_remote_code
    with _explained(folder, trust):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    with _explained(folder, trust, "the tokenizer in "):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
    with _explained(folder, trust):
        if config.is_encoder_decoder:
            raise UserError(
                f"{folder} is an encoder-decoder model; this engine generates text from left to right.",
                "Use a chat or completion model.",
                FailureClass.UNSUPPORTED_FORMAT,
            )
        with _told(progress):
            model, info = kinds.from_pretrained(
                folder,
                config=config,
                trust_remote_code=trust,
                dtype=_dtype(config, args.dtype, small=_small(folder, config, settings)),
                device_map=_devices(),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                **load_options(settings.load_quantization, config),
                **_bare(kinds, config),
            )
    _require_all(info, folder)
    model.eval()
    model.requires_grad_(False)
    trim(model, converted=bool(settings.load_quantization))
    log.info("%s in %s on %s", type(model).__name__, str(model.dtype).removeprefix("torch."), model.device)
    return LoadedModel(model, _tokenizer(tokenizer, model, folder), folder)


def _bare(kinds: Any, config: Any) -> dict[str, Any]:
    """Without the layer that BERT and its kin were trained with for another purpose: many checkpoints have none."""
    if kinds is not transformers.AutoModel or type(config) not in transformers.MODEL_MAPPING:
        return {}
    takes = inspect.signature(transformers.MODEL_MAPPING[type(config)].__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}


def _require_defaults(folder: Path) -> None:
    """Of generation_config.json Transformers leaves out what it can't read, in silence: tokens that end an answer."""
    path = folder / "generation_config.json"
    try:
        json.loads(path.read_bytes() if path.is_file() else b"{}")
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON: {error}.",
            "Download the files again and compare their sizes or checksums.",
            FailureClass.MODEL_DAMAGED,
        ) from error


def _small(folder: Path, config: Any, settings: RuntimeSettings) -> bool:
    """Whether its weights are few, and not quantized."""
    quantized = settings.load_quantization or getattr(config, "quantization_config", None) is not None
    return not quantized and sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= SMALL_WEIGHTS


def _dtype(config: Any, wanted: str, *, small: bool) -> torch.dtype:
    """The checkpoint's own type; float32 for a `small` one on a CPU.

    A CPU computes no 16-bit floats of ten bits of fraction fast: bfloat16 stands in.
    """
    if wanted != "auto":
        return getattr(torch, wanted)
    text = config.get_text_config()
    stored = getattr(text, "dtype", None) or getattr(config, "dtype", None) or torch.float32
    stored = getattr(torch, stored) if isinstance(stored, str) else stored
    if small and not torch.cuda.is_available():
        return torch.float32
    if stored is torch.float16 and not torch.cuda.is_available():
        return torch.bfloat16
    return stored if stored in (torch.float16, torch.bfloat16) else torch.float32


def _devices() -> Any:
    """All GPUs, with layers each, where there are some."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return None if not count else {"": 0} if count == 1 else "auto"


@contextmanager
def _told(progress: Callable[[float], None]) -> Iterator[None]:
    """Transformers' progress bars, told to us instead of a terminal."""
    hook = transformers.utils.logging.set_tqdm_hook
    before = hook(lambda factory, args, kwargs: _Bar(progress, *args, **kwargs))
    try:
        yield
    finally:
        hook(before)


class _Bar:
    """What Transformers uses of tqdm."""

    def __init__(
        self, progress: Callable[[float], None], iterable: Iterable[Any] = (), *args: Any, **kwargs: Any
    ) -> None:
        self._progress = progress
        self._items = iterable
        total = kwargs.get("total")
        self._total = total if total is not None else len(iterable) if isinstance(iterable, Sized) else 0
        self._done = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update(1)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self._done += n
        if self._total:
            self._progress(min(1.0, self._done / self._total))

    def close(self) -> None:
        """Nothing is drawn."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@contextmanager
def _explained(folder: Path, trust: bool, part: str = "") -> Iterator[None]:
    """What loading raises, as a UserError. `part`: of what is in the folder, in words before its name."""
    try:
        yield
    except UserError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        gpu = isinstance(error, torch.OutOfMemoryError)
        raise UserError(
            f"The weights in {folder} don't fit: {_first(error)}.",
            "Use a smaller quantization, or a machine with more memory.",
            FailureClass.OUT_OF_GPU_MEMORY if gpu else FailureClass.OUT_OF_MEMORY,
        ) from error
    except ImportError as error:
        raise UserError(
            f"Loading {folder} needs a package that the Transformers environment lacks: {_first(error)}.",
            "Use a version of the model in another quantization.",
            FailureClass.UNSUPPORTED_FORMAT,
        ) from error
    except Exception as error:
        raise _load_error(folder, error, trust, part) from error


def _load_error(folder: Path, error: Exception, trust: bool, part: str) -> UserError:
    said = _first(error)
    lower = f"{type(error).__name__}: {error}".lower()
    if "trust_remote_code" in lower and not trust:
        return UserError(
            f"The model in {folder} brings code of its own, which is not run.",
            "Use a model that Transformers has code for.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    if "does not recognize this architecture" in lower or "unrecognized configuration class" in lower:
        return UserError(
            f"Transformers {transformers.__version__} can't load {folder}: {said}.",
            "This Transformers does not know the model; use a newer engine.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    if "backend tokenizer" in lower:
        return UserError(
            f"There is no tokenizer in {folder} that Transformers reads.",
            "Download the files again: tokenizer.json, or what one is made from (tokenizer.model; vocab.json and"
            " merges.txt), belongs beside config.json.",
            FailureClass.MODEL_DAMAGED,
        )
    if "needed for" in lower and "gpu" in lower:
        return UserError(
            f"Transformers can't load {folder} here: {said}.",
            "Use a machine with a GPU, or another quantization of the model.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    if "out of memory" in lower or "can't allocate memory" in lower or "defaultcpuallocator" in lower:
        return UserError(
            f"The weights in {folder} don't fit: {said}.",
            "Use a smaller quantization, or a machine with more memory.",
            FailureClass.OUT_OF_MEMORY,
        )
    return UserError(
        f"Transformers can't load {part}{folder}: {said}.",
        "Download the files again and compare their sizes or checksums.",
        FailureClass.MODEL_DAMAGED,
    )


def _first(error: BaseException) -> str:
    """The first line of what it says, with the next one where that is a heading; of what was not meant to be read
    (`'added_tokens'`) what it is, too."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    said = " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".:")
    bare = not said or isinstance(error, LookupError | AttributeError | TypeError)
    return ": ".join(filter(None, (type(error).__name__ if bare else "", said)))


def _require_all(info: Any, folder: Path) -> None:
    """Transformers fills what a checkpoint lacks with random numbers, and says so in a warning only."""
    missing = sorted(info.get("missing_keys") or ())
    mismatched = sorted(str(item[0]) for item in info.get("mismatched_keys") or ())
    for what, names in (("lacks", missing), ("has in another shape", mismatched)):
        if names:
            raise UserError(
                f"The checkpoint in {folder} {what} {len(names)} tensors of the model, the first is {names[0]}.",
                "Download the files again; all shards of the same revision must be there.",
                FailureClass.MODEL_DAMAGED,
            )


def _tokenizer(tokenizer: Any, model: Any, folder: Path) -> HfTokenizer:
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"The tokenizer in {folder} has no tokenizer.json that this engine can read.",
            "Convert it: AutoTokenizer.from_pretrained(...).save_pretrained(...) writes one for most models.",
            FailureClass.UNSUPPORTED_FORMAT,
        )
    ends: set[int] = set()
    for source in (getattr(model, "generation_config", None), model.config.get_text_config(), model.config):
        found = getattr(source, "eos_token_id", None)
        ends |= {int(token) for token in (found if isinstance(found, list | tuple) else [found]) if token is not None}
    head = model.get_output_embeddings()
    width = getattr(head, "out_features", None) or model.config.get_text_config().vocab_size
    return HfTokenizer(tokenizer, int(width), frozenset(ends))
