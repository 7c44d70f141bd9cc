"""Runs in the engine's environment: models that embed or rerank with random weights, and what Transformers makes of
texts by each.

`python pooled_kinds.py FOLDER [MODEL]` writes FOLDER/KIND of every kind (and takes MODEL, a folder, as one more), and
FOLDER/references.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

TEXTS = (
    "the cat sleeps on the red mat",
    "a storm breaks over the cold sea",
    "markets fall after the bank raises rates",
    "she bakes bread",
    "nobody in town knows why old ships rust so fast, or whether rain will ever wash their names from these walls",
)
PAIRS = tuple((query, document) for query in TEXTS[:3] for document in TEXTS[1:])
PROMPT = "query: "
COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 130,
    "pad_token_id": 1,
    "initializer_range": 0.14,
}


def words() -> list[str]:
    """Of the texts, and letters for all others."""
    found = sorted({word for text in (*TEXTS, PROMPT.replace(":", " :")) for word in text.split()})
    return [*found, *(letter for letter in "abcdefghijklmnopqrstuvwxyz:" if letter not in found)]


def word_piece() -> Tokenizer:
    """As BERT's; the second text of a pair has the type 1."""
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *words(), *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    tokenizer = Tokenizer(models.WordPiece({text: number for number, text in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)  # what a file says for a pipeline is nothing for a server
    tokenizer.enable_padding(length=8, pad_id=1, pad_token="[PAD]")
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-RoBERTa's."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [(text, 0.0) for text in special]
    pieces += [(f"▁{word}", -1.0 - number / 10) for number, word in enumerate(words())]
    pieces += [(letter, -20.0 - number) for number, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz:")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def byte_level() -> Tokenizer:
    """As Qwen3-Embedding's: the end token follows every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {text: number for number, text in enumerate([*alphabet, "th", "the", "Ġthe", "<|end|>"])}
    tokenizer = Tokenizer(models.BPE(vocab, [("t", "h"), ("th", "e"), ("Ġ", "the")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|end|>"])
    end = vocab["<|end|>"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", pair="$A $B <|end|>", special_tokens=[("<|end|>", end)]
    )
    return tokenizer


HEADS = {"num_key_value_heads": 1, "head_dim": 32}
KINDS: dict[str, tuple[str, Any, dict[str, Any], str]] = {
    "bert-mean": ("bert", word_piece, {}, "mean_tokens"),
    "bert-cls": ("bert", word_piece, {}, "cls_token"),
    "xlmr-cls": ("xlm-roberta", unigram, {"type_vocab_size": 1}, "cls_token"),
    "qwen3-last": ("qwen3", byte_level, HEADS, "lasttoken"),
    "bert-dense": ("bert", word_piece, {}, "mean_tokens"),
    "xlmr-cross": ("xlm-roberta", unigram, {"type_vocab_size": 1, "num_labels": 1}, ""),
    "bert-cross": ("bert", word_piece, {"num_labels": 1}, ""),
    "qwen3-asked": ("qwen3", byte_level, {**HEADS, "max_position_embeddings": 400}, ""),
}
"""Kind -> model_type, tokenizer, what its configuration has of its own, pooling (empty: it makes scores)."""
AGAIN = {"bert-mean": 1}
"""Kinds that were drawn again: of the first weights two texts were alike."""
ASKED = "qwen3-asked"
QUESTION = (
    "Does it fit?<|end|>Query: {{ messages[0].content }}\nDocument: {{ messages[1].content }}<|end|>"
    "{% if add_generation_prompt %}Answer: {% endif %}"
)


def make(folder: Path, kind: str) -> None:
    """A folder as sentence-transformers writes it."""
    model_type, tokenizer, own, pooling = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizer()
    torch.manual_seed(sum(kind.encode()) + AGAIN.get(kind, 0))
    fields = {**COMMON, "vocab_size": made.get_vocab_size(), **own}
    if model_type == "qwen3":
        fields |= {"pad_token_id": fields["vocab_size"] - 1, "eos_token_id": fields["vocab_size"] - 1}
        fields |= {"bos_token_id": None, "tie_word_embeddings": True}
    config = transformers.AutoConfig.for_model(model_type, **fields)
    kinds = AutoModel if pooling else AutoModelForCausalLM if kind == ASKED else AutoModelForSequenceClassification
    model = kinds.from_config(config).eval()
    _make_telling(model)
    if kind == ASKED:
        model.get_input_embeddings().weight.data *= 0.5  # of what it says neither is certain
    model.save_pretrained(folder)
    if kind == "qwen3-last":  # as the real ones are: a writer's weights, of which the base is used
        said = json.loads((folder / "config.json").read_text())
        said |= {"architectures": ["Qwen3ForCausalLM"], "matryoshka_dimensions": [32, 16]}
        (folder / "config.json").write_text(json.dumps(said))
        weights = {f"model.{name}": weight.contiguous() for name, weight in model.state_dict().items()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    made.save(str(folder / "tokenizer.json"))
    texts = {token.content for token in made.get_added_tokens_decoder().values()}
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"bos_token": "<s>", "eos_token": "</s>"} if "<s>" in texts else {}
    names = {name: text for name, text in names.items() if text in texts}
    names |= {"eos_token": "<|end|>", "pad_token": "<|end|>"} if "<|end|>" in texts else {}
    names |= {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"} if "<pad>" in texts else {}
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    if pooling:
        _sentence_transformers(folder, pooling, normalize=kind != "xlmr-cls", dense=kind == "bert-dense")
    elif kind == ASKED:
        _reranker(folder, made)


def _make_telling(model: torch.nn.Module) -> None:
    """Tokens of a text differ, and attend to few others each: then vectors of texts differ, and pooling matters."""
    for name, weight in model.named_parameters():
        if "bias" in name or "norm" in name.lower():
            torch.nn.init.normal_(weight, float("bias" not in name), 0.1)
        elif "query" in name or "key" in name or "q_proj" in name or "k_proj" in name:
            torch.nn.init.normal_(weight, 0, 0.4)
        elif "embed" in name or "classifier" in name:
            torch.nn.init.normal_(weight, 0, 0.4 if "position" in name or "type" in name else 1.0)


def _modules(folder: Path, *parts: tuple[str, str]) -> None:
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path, _ in parts:
        (folder / path).mkdir(exist_ok=True)


def _sentence_transformers(folder: Path, pooling: str, *, normalize: bool, dense: bool) -> None:
    layer = [("2_Dense", "Dense")] if dense else []
    last = [("3_Normalize", "Normalize")] if normalize else []
    _modules(folder, ("", "Transformer"), ("1_Pooling", "Pooling"), *layer, *last)
    modes = {f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "lasttoken")}
    said = {"word_embedding_dimension": COMMON["hidden_size"], **modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    prompts = {"prompts": {"query": PROMPT, "document": ""}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    if dense:
        sizes = {"in_features": COMMON["hidden_size"], "out_features": 48, "bias": True}
        activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(sizes | activation))
        weights = {"linear.weight": torch.randn(48, COMMON["hidden_size"]) / 8, "linear.bias": torch.randn(48) / 4}
        save_file(weights, folder / "2_Dense" / "model.safetensors")


def _reranker(folder: Path, tokenizer: Tokenizer) -> None:
    _modules(folder, ("", "Transformer"), ("1_LogitScore", "LogitScore"))
    said = {"true_token_id": tokenizer.token_to_id("y"), "false_token_id": tokenizer.token_to_id("n")}
    (folder / "1_LogitScore" / "config.json").write_text(json.dumps(said))
    (folder / "chat_template.jinja").write_text(QUESTION)
    opened = {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}}
    (folder / "sentence_bert_config.json").write_text(json.dumps(opened))


def pooled(states: torch.Tensor, how: str) -> torch.Tensor:
    """Of one text's vectors (tokens, width) one."""
    return {"mean_tokens": states.mean(0), "cls_token": states[0], "lasttoken": states[-1]}[how]


def references(folder: Path, pooling: str, texts: tuple[str, ...] = TEXTS) -> dict[str, Any]:
    """What it makes of each text, alone: tokens, and the vectors by every pooling, not normalized."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if (folder / "1_LogitScore").exists():
        return {"pairs": PAIRS, "scores": asked(folder, tokenizer)}
    if not pooling:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        scores = []
        for pair in PAIRS:
            encoded = tokenizer.encode(*pair)
            types = {"token_type_ids": torch.tensor([encoded.type_ids])} if model.config.type_vocab_size > 1 else {}
            logits = model(input_ids=torch.tensor([encoded.ids]), **types).logits
            scores.append(float(torch.sigmoid(logits)[0, 0]))
        return {"pairs": PAIRS, "scores": scores}
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    layer = torch.nn.Identity()
    if (folder / "2_Dense").exists():
        weights = load_file(folder / "2_Dense" / "model.safetensors")
        layer = lambda found: torch.tanh(found @ weights["linear.weight"].T + weights["linear.bias"])  # noqa: E731
    found = []
    for text in (*texts, *(PROMPT + text for text in texts)):
        ids = tokenizer.encode(text).ids
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        vectors = {how: layer(pooled(states, how)).tolist() for how in ("mean_tokens", "cls_token", "lasttoken")}
        found.append({"text": text, "ids": ids, "vectors": vectors})
    return {"pooling": pooling, "texts": found[: len(texts)], "prompted": found[len(texts) :]}


def asked(folder: Path, tokenizer: Tokenizer) -> list[float]:
    """How likely the model says yes, of yes and no."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    scores = []
    for query, document in PAIRS:
        text = f"Does it fit?<|end|>Query: {query}\nDocument: {document}<|end|>Answer: "
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        yes, no = (logits[tokenizer.token_to_id(word)] for word in "yn")
        scores.append(float(torch.sigmoid(yes - no)))
    return scores


def everything(folder: Path, real: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kind, made and asked."""
    for kind, (*_, pooling) in KINDS.items():
        make(folder / kind, kind)
        yield kind, references(folder / kind, pooling)
    if real is not None:
        yield "minilm", references(real, "mean_tokens")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with torch.inference_mode():
        told = dict(everything(target, Path(sys.argv[2]) if len(sys.argv) > 2 else None))
    (target / "references.json").write_text(json.dumps(told))
