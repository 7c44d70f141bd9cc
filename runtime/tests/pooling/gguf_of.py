"""A GGUF of a model that embeds or reranks, from its folder for Transformers: BERT, XLM-RoBERTa or Qwen3.

python runtime/tests/pooling/gguf_of.py FOLDER FILE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "classifier": "cls.output",
    "classifier.dense": "cls",
    "classifier.out_proj": "cls.output",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
QUESTION = {
    "{{ messages[0].content }}": "{query}",
    "{{ messages[1].content }}": "{document}",
    "{% if add_generation_prompt %}": "",
    "{% endif %}": "",
}
POOLINGS = {
    "pooling_mode_mean_tokens": gguf.PoolingType.MEAN,
    "pooling_mode_cls_token": gguf.PoolingType.CLS,
    "pooling_mode_lasttoken": gguf.PoolingType.LAST,
}


def write(folder: Path, path: Path) -> Path:
    """Write `path` with the weights and the tokenizer of `folder`, all in 32 bits."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "qwen3" if config["model_type"] == "qwen3" else "bert")
    offset = config["pad_token_id"] + 1 if config["model_type"] == "xlm-roberta" else 0
    writer.add_context_length(config["max_position_embeddings"] - offset)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_pooling_type(_pooling(folder))
    if config["model_type"] == "qwen3":
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])
    else:
        writer.add_layer_norm_eps(config["layer_norm_eps"])
        writer.add_causal_attention(False)
        writer.add_token_type_count(config["type_vocab_size"])
    if score := _read(folder / "1_LogitScore" / "config.json"):
        writer.add_classifier_output_labels(["yes", "no"])
        question = (folder / "chat_template.jinja").read_text()
        for old, new in QUESTION.items():
            question = question.replace(old, new)
        writer.add_chat_template([{"name": "rerank", "template": question}])
        head = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
        writer.add_tensor("cls.output.weight", head[[score["true_token_id"], score["false_token_id"]]])
    _tokenizer(writer, json.loads((folder / "tokenizer.json").read_text()))
    for name, values in _tensors(folder):
        if name == "position_embd.weight":
            values = values[offset:]
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def _pooling(folder: Path) -> gguf.PoolingType:
    file = folder / "1_Pooling" / "config.json"
    if not file.exists():  # a reranker
        return gguf.PoolingType.RANK
    said = json.loads(file.read_text())
    return next(kind for name, kind in POOLINGS.items() if said.get(name))


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """What llama.cpp has; BERT's own pooler is for its pre-training."""
    for name, values in load_file(folder / "model.safetensors").items():
        name = name.removeprefix("roberta.").removeprefix("bert.").removeprefix("model.")
        part, _, kind = name.rpartition(".")
        if part.startswith("pooler") or kind == "position_ids":
            continue
        for prefix in ("encoder.layer.", "layers."):
            if part.startswith(prefix):
                number, _, rest = part.removeprefix(prefix).partition(".")
                yield f"blk.{number}.{NAMES[rest]}.{kind}", values
                break
        else:
            yield f"{NAMES[part]}.{kind}", values


def _tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any]) -> None:
    kind = tokenizer["model"]["type"]
    special = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    if kind == "Unigram":
        pieces = [(text, score) for text, score in tokenizer["model"]["vocab"]]
    else:
        vocab = tokenizer["model"]["vocab"] | special
        pieces = [(text, 0.0) for text, _ in sorted(vocab.items(), key=lambda item: item[1])]
    texts = [text for text, _ in pieces]
    types = [gguf.TokenType.CONTROL if text in special else gguf.TokenType.NORMAL for text in texts]
    if kind == "WordPiece":
        texts = [text if text in special else text[2:] if text.startswith("##") else f"▁{text}" for text in texts]
        writer.add_tokenizer_model("bert")
        writer.add_tokenizer_pre("jina-v2-en")
        writer.add_unk_token_id(special["[UNK]"])
        writer.add_sep_token_id(special["[SEP]"])
        writer.add_pad_token_id(special["[PAD]"])
        writer.add_bos_token_id(special["[CLS]"])
        writer.add_mask_token_id(special["[MASK]"])
    elif kind == "Unigram":
        types[special["<unk>"]] = gguf.TokenType.UNKNOWN
        writer.add_tokenizer_model("t5")
        writer.add_token_scores([score for _, score in pieces])
        writer.add_add_space_prefix(True)
        writer.add_remove_extra_whitespaces(True)
        writer.add_bos_token_id(special["<s>"])
        writer.add_eos_token_id(special["</s>"])
        writer.add_sep_token_id(special["</s>"])
        writer.add_unk_token_id(special["<unk>"])
        writer.add_pad_token_id(special["<pad>"])
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(True)
        writer.add_add_sep_token(True)
    else:
        (end,) = special.values()
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
        writer.add_eos_token_id(end)
        writer.add_bos_token_id(end)
        writer.add_pad_token_id(end)
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(True)
    writer.add_token_list(texts)
    writer.add_token_types(types)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
