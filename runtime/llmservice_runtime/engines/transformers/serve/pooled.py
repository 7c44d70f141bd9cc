"""Vectors and scores by Transformers: one pass over texts side by side, padded, and what the model's files do then."""

from __future__ import annotations

import inspect
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.memory import HeldLine
from llmservice_runtime.contract.settings import RuntimeSettings
from llmservice_runtime.engines.transformers.arguments import EngineArgs
from llmservice_runtime.engines.transformers.memory import STEP_TOKENS
from llmservice_runtime.engines.transformers.serve.model import LoadedModel, load_model
from llmservice_runtime.engines.transformers.serve.tokenizer import HfTokenizer
from llmservice_runtime.formats.checkpoint import LAYER_FILES
from llmservice_runtime.formats.sentences import Answers, Dense, Sentences
from llmservice_runtime.pooling.files import Pairs, recipe_of, traits_of
from llmservice_runtime.protocol.pooling import PoolInput, Vector


class PooledTransformers:
    """A model and what is done with its vectors. See pooling.engine.PooledModel."""

    padded = True
    step_tokens = STEP_TOKENS

    def __init__(self, loaded: LoadedModel, recipe: Sentences, folder: Path, *, ranks: bool) -> None:
        self._loaded = loaded
        self._model = loaded.model
        self._recipe = recipe
        self._ranks = ranks
        self.tokenizer: HfTokenizer = loaded.tokenizer
        config = self._model.config.get_text_config()
        tokenizer = self.tokenizer
        self.traits = traits_of(config, recipe, tokenizer)
        self._layers = [_layer(folder, layer, self._model.device) for layer in recipe.dense]
        self._pairs = Pairs(partial(tokenizer.encode, add_special=False, parse_special=False), tokenizer.pair)
        takes = inspect.signature(self._model.forward).parameters
        self._typed = "token_type_ids" in takes and getattr(config, "type_vocab_size", 0) > 1
        self._options = {"use_cache": False} if "use_cache" in takes else {}

    def pair(self, query: Sequence[int], document: Sequence[int]) -> PoolInput:
        """As the tokenizer puts two texts together."""
        return self._pairs.joined(query, document)

    def compute(self, inputs: Sequence[PoolInput]) -> Sequence[Vector]:
        """See PooledModel."""
        with torch.inference_mode():
            return self._computed(inputs)

    def _computed(self, inputs: Sequence[PoolInput]) -> Sequence[Vector]:
        lengths = torch.tensor([len(given.tokens) for given in inputs])
        width = int(lengths.max())
        ids = torch.full((len(inputs), width), self.tokenizer.padding)
        types = torch.zeros_like(ids)
        for row, given in enumerate(inputs):
            ids[row, : len(given.tokens)] = torch.tensor(given.tokens)
            if given.second:
                types[row, given.second : len(given.tokens)] = 1
        mask = torch.arange(width)[None, :] < lengths[:, None]
        device = self._model.device
        more = {"token_type_ids": types.to(device)} if self._typed else {}
        run = self._model.base_model if self._recipe.answers else self._model
        out = run(input_ids=ids.to(device), attention_mask=mask.long().to(device), **more, **self._options)
        if self._recipe.answers:
            last = out.last_hidden_state[torch.arange(len(inputs), device=device), lengths.to(device) - 1]
            found = torch.sigmoid(self._said(last, self._recipe.answers))
        elif self._ranks:
            found = torch.sigmoid(out.logits[:, :1].float())
        else:
            found = self._pooled(out.last_hidden_state.float(), mask.to(device), lengths.to(device))
        return [array("f", row.numpy().tobytes()) for row in found.cpu().contiguous()]

    def _pooled(self, states: torch.Tensor, mask: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(texts, tokens, width) to (texts, width)."""
        if self._recipe.pooling == "Mean":
            found = (states * mask[:, :, None]).sum(1) / lengths[:, None]
        elif self._recipe.pooling == "CLS":
            found = states[:, 0]
        else:
            found = states[torch.arange(len(states), device=states.device), lengths - 1]
        for layer in self._layers:
            found = layer(found)
        return torch.nn.functional.normalize(found, dim=-1) if self._recipe.normalized else found

    def _said(self, last: torch.Tensor, answers: Answers) -> torch.Tensor:
        """(texts, width) of each text's last token to (texts, 1): how much likelier yes is than no."""
        logits = self._model.get_output_embeddings()(last).float()
        yes = logits[:, answers.yes, None]
        return yes if answers.no is None else yes - logits[:, answers.no, None]

    def held(self) -> Sequence[HeldLine]:
        """What its weights have."""
        return self._loaded.held()

    def close(self) -> None:
        """Let it go."""
        self._model = None
        self._loaded.close()


def _layer(folder: Path, layer: Dense, device: torch.device) -> torch.nn.Module:
    """A layer behind the pooling, in 32 bits. UserError ModelDamaged for weights that are not what it is said to be."""
    linear = torch.nn.Linear(layer.inputs, layer.outputs, layer.bias, dtype=torch.float32)
    path = next(file for name in LAYER_FILES if (file := folder / layer.folder / name).is_file())
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    try:
        linear.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise UserError(
            f"{path} is not the layer that its config.json describes: {error}.",
            "Download the files again and compare their sizes or checksums.",
            FailureClass.MODEL_DAMAGED,
        ) from error
    return torch.nn.Sequential(linear, getattr(torch.nn, layer.activation)()).to(device).requires_grad_(False)


def load_pooled(settings: RuntimeSettings, args: EngineArgs, progress: Callable[[float], None]) -> PooledTransformers:
    """Load `settings.model_path`. UserError carries the class (ModelDamaged, UnsupportedFormat...)."""
    ranks, folder = settings.task == "Rerank", Path(settings.model_path)
    recipe = recipe_of(folder, settings.task)
    kinds = transformers.AutoModelForSequenceClassification if ranks else transformers.AutoModel
    if recipe.answers:
        kinds = transformers.AutoModelForCausalLM
    loaded = load_model(settings, args, progress, kinds)
    return PooledTransformers(loaded, recipe, folder, ranks=ranks)
