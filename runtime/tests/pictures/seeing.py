"""Models that see, of random weights: the demo model behind a random encoder, as a projector for llama.cpp and as a
LLaVA for Transformers and vLLM (the same numbers); behind Gemma 3's, whose tokens see each other both ways; and a
Qwen2-VL, with positions in three dimensions.

python runtime/tests/pictures/seeing.py FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors import deserialize
from safetensors.numpy import save_file

DEMO = Path(__file__).parents[2] / "demo" / "model"
SIDE, PATCH, WIDTH, HEADS, HIDDEN, BLOCKS, TEXT = 56, 14, 64, 2, 128, 3, 256
TOKENS = (SIDE // PATCH) ** 2
"""Of one picture of a LLaVA."""
LOUD = np.float32(16)
"""A picture is to change what a model says that was trained without any."""
IMAGE = 2048
"""The token that stands for pictures in the folder; the GGUF has none."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Arrays = dict[str, npt.NDArray[np.float32]]


def encoder() -> Arrays:
    """A CLIP encoder and LLaVA's two layers behind it, under Transformers' names."""
    random = np.random.default_rng(11)

    def some(*shape: int) -> npt.NDArray[np.float32]:
        return random.normal(0, 0.8 / np.sqrt(shape[-1]), shape).astype(np.float32)

    def norm(name: str) -> Arrays:
        return {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}

    tower = "vision_tower.vision_model"
    found: Arrays = {
        f"{tower}.embeddings.class_embedding": some(WIDTH),
        f"{tower}.embeddings.patch_embedding.weight": random.normal(0, 0.2, (WIDTH, 3, PATCH, PATCH)).astype(
            np.float32
        ),
        f"{tower}.embeddings.position_embedding.weight": some(TOKENS + 1, WIDTH),
        **norm(f"{tower}.pre_layrnorm"),
        **norm(f"{tower}.post_layernorm"),
        "multi_modal_projector.linear_1.weight": some(TEXT, WIDTH),
        "multi_modal_projector.linear_1.bias": some(TEXT),
        "multi_modal_projector.linear_2.weight": LOUD * some(TEXT, TEXT),
        "multi_modal_projector.linear_2.bias": some(TEXT),
    }
    for block in range(BLOCKS):
        place = f"{tower}.encoder.layers.{block}"
        found |= norm(f"{place}.layer_norm1") | norm(f"{place}.layer_norm2")
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= {
                f"{place}.self_attn.{name}.weight": some(WIDTH, WIDTH),
                f"{place}.self_attn.{name}.bias": some(WIDTH),
            }
        found |= {f"{place}.mlp.fc1.weight": some(HIDDEN, WIDTH), f"{place}.mlp.fc1.bias": some(HIDDEN)}
        found |= {f"{place}.mlp.fc2.weight": some(WIDTH, HIDDEN), f"{place}.mlp.fc2.bias": some(WIDTH)}
    return found


NAMES = {
    "embeddings.class_embedding": "v.class_embd",
    "embeddings.patch_embedding": "v.patch_embd",
    "embeddings.position_embedding": "v.position_embd",
    "pre_layrnorm": "v.pre_ln",
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "multi_modal_projector.linear_1": "mm.0",
    "multi_modal_projector.linear_2": "mm.2",
}


def named(name: str) -> str:
    """llama.cpp's name of a tensor; empty = it is not in a projector."""
    stem, _, kind = name.removeprefix("vision_tower.vision_model.").rpartition(".")
    if name.endswith("class_embedding"):
        return NAMES["embeddings.class_embedding"]
    if stem.startswith("encoder.layers."):
        _, _, block, part = stem.split(".", 3)
        return f"v.blk.{block}.{NAMES[part]}.{kind}"
    return f"{NAMES[stem]}.{kind}" if stem in NAMES else ""


def projector(path: Path, tensors: Mapping[str, npt.NDArray[np.float32]], **fields: Any) -> Path:
    """Write a projector of these tensors; `fields` change what its header says."""
    writer = gguf.GGUFWriter(path, "clip")
    said: dict[str, Any] = {
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.vision.image_size": SIDE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.embedding_length": WIDTH,
        "clip.vision.feed_forward_length": HIDDEN,
        "clip.vision.block_count": BLOCKS,
        "clip.vision.attention.head_count": HEADS,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.projection_dim": TEXT,
    }
    for key, value in (said | fields).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
    _close(writer)
    return path


def llava_projector(path: Path, **fields: Any) -> Path:
    """For the demo model. (The last block of the encoder is not looked at: LLaVA takes what comes before it.)"""
    tensors = {new: values for name, values in encoder().items() if (new := named(name))}
    return projector(path, tensors, **fields)


def gguf_folder(folder: Path, model: Path = DEMO / "demo-Q4_K_M.gguf") -> Path:
    """The demo model's GGUF (or another `model` of its numbers) with a projector beside it; the model's file."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, folder)
    llava_projector(folder / "mmproj-demo-f32.gguf")
    return folder / model.name


def llava_folder(folder: Path) -> Path:
    """The same as a folder for Transformers and vLLM, in 32 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: Arrays = encoder()
    for name, told in deserialize((DEMO / "model.safetensors").read_bytes()):  # type: ignore[no-untyped-call]
        halves = np.frombuffer(told["data"], np.uint16).astype(np.uint32) << 16  # bf16, which NumPy has not
        tensors[f"language_model.{name}"] = halves.view(np.float32).reshape(told["shape"])
    words = tensors["language_model.model.embed_tokens.weight"]
    tensors["language_model.model.embed_tokens.weight"] = np.concatenate([words, np.zeros((1, TEXT), np.float32)])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    text = json.loads((DEMO / "config.json").read_text()) | {"vocab_size": IMAGE + 1, "torch_dtype": "float32"}
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "projection_dim": TEXT,
    }
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": text,
        "vision_config": vision,
        "image_token_index": IMAGE,
        "image_seq_length": TOKENS,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
    tokenizer = json.loads((DEMO / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": IMAGE, "content": "<image>"})
    told = json.loads((DEMO / "tokenizer_config.json").read_text())
    told |= {"chat_template": TEMPLATE, "image_token": "<image>", "extra_special_tokens": {"image_token": "<image>"}}
    pixels = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": PATCH,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
        "image_token": "<image>",
    }
    for name, content in {
        "config.json": config,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": told,
        "preprocessor_config.json": pixels,
        "processor_config.json": processor,
        "generation_config.json": json.loads((DEMO / "generation_config.json").read_text()),
    }.items():
        (folder / name).write_text(json.dumps(content))
    return folder


SIDES = {"gemma3": 8 * PATCH, "qwen2vl_merger": 560}


def other_projector(path: Path, kind: str) -> Path:
    """Of the kind gemma3 (4 tokens, for the demo model) or qwen2vl_merger (as many as a picture asks for)."""
    random = np.random.default_rng(12)
    tensors: Arrays = {}

    def some(name: str, *shape: int, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = random.normal(0, 0.8 / np.sqrt(shape[-1]), shape).astype(np.float32)
        if bias:
            tensors[f"{name}.bias"] = random.normal(0, 0.3, shape[:1]).astype(np.float32)

    def norm(name: str, size: int = WIDTH, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = np.ones(size, np.float32)
        if bias:
            tensors[f"{name}.bias"] = np.zeros(size, np.float32)

    qwen = kind == "qwen2vl_merger"
    some("v.patch_embd", WIDTH, 3, PATCH, PATCH, bias=not qwen)
    norm("v.post_ln")
    for block in range(2):
        norm(f"v.blk.{block}.ln1")
        norm(f"v.blk.{block}.ln2")
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            some(f"v.blk.{block}.{name}", WIDTH, WIDTH)
        some(f"v.blk.{block}.ffn_up", HIDDEN, WIDTH)
        some(f"v.blk.{block}.ffn_down", WIDTH, HIDDEN)
    if qwen:
        tensors["v.patch_embd.weight.1"] = tensors["v.patch_embd.weight"][::-1]
        some("mm.0", 4 * WIDTH, 4 * WIDTH)
        some("mm.2", TEXT, 4 * WIDTH)
    else:
        some("v.position_embd", (SIDES[kind] // PATCH) ** 2, WIDTH, bias=False)
        some("mm.input_projection", WIDTH, TEXT, bias=False)
        norm("mm.soft_emb_norm", bias=False)
    fields = {"clip.projector_type": kind, "clip.vision.image_size": SIDES[kind], "clip.vision.block_count": 2}
    return projector(path, tensors, **fields, **({"clip.use_silu": False, "clip.use_gelu": True}))


def qwen2vl(path: Path) -> Path:
    """The language model of a Qwen2-VL, with the demo's tokenizer."""
    writer = gguf.GGUFWriter(path, "qwen2vl")
    writer.add_context_length(2048)
    writer.add_embedding_length(TEXT)
    writer.add_block_count(2)
    writer.add_feed_forward_length(2 * TEXT)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_sections([8, 12, 12, 0])
    reader = gguf.GGUFReader(DEMO / "demo-Q4_K_M.gguf")
    for key, value in reader.fields.items():
        if key.startswith("tokenizer."):
            kind = value.types[0]
            writer.add_key_value(key, value.contents(), kind, value.types[-1] if len(value.types) > 1 else None)
    random = np.random.default_rng(13)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (IMAGE, TEXT), "output_norm.weight": (TEXT,)}
    for block in range(2):
        for name, rows in (("attn_q", TEXT), ("attn_k", TEXT // 2), ("attn_v", TEXT // 2)):
            shapes |= {f"blk.{block}.{name}.weight": (rows, TEXT), f"blk.{block}.{name}.bias": (rows,)}
        shapes |= {f"blk.{block}.attn_output.weight": (TEXT, TEXT), f"blk.{block}.ffn_down.weight": (TEXT, 2 * TEXT)}
        shapes |= {f"blk.{block}.{name}.weight": (2 * TEXT, TEXT) for name in ("ffn_gate", "ffn_up")}
        shapes |= {f"blk.{block}.{name}.weight": (TEXT,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        one = name.endswith("norm.weight")
        values = np.ones(shape) if one else random.normal(0, 1.5 / np.sqrt(shape[-1]), shape)
        writer.add_tensor(name, values.astype(np.float32))
    _close(writer)
    return path


def kinds(folder: Path) -> dict[str, tuple[Path, str]]:
    """Kind -> (model, name of the projector beside it)."""
    demo = gguf_folder(folder)
    other_projector(folder / "mmproj-gemma3.gguf", "gemma3")
    other_projector(folder / "mmproj-qwen2vl.gguf", "qwen2vl_merger")
    return {
        "llava": (demo, "mmproj-demo-f32.gguf"),
        "gemma3": (demo, "mmproj-gemma3.gguf"),
        "qwen2vl": (qwen2vl(folder / "qwen2vl.gguf"), "mmproj-qwen2vl.gguf"),
    }


def _close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(gguf_folder(target / "gguf"), llava_folder(target / "llava"))
