"""What config classes of Hugging Face's kind have where config.json says nothing: asked of the classes themselves.

For generators, in an environment that has the classes; it imports nothing of them. The answer is what
`formats.classes.ConfigClass` reads.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

SIZES = re.compile(
    r"(padded_)?vocab_size|hidden_size|((moe|shared_expert|expert_ffn|ffn)_)?(intermediate|hidden)_size|n_(embd|inner|layer|head|ctx)"
    r"|(num_)?((hidden|encoder|decoder)_)?layers|n_(layers|heads)|d_(model|ff|kv|head|inner)"
    r"|((num|encoder|decoder|n)_)?(attention_|key_value_|kv_|global_key_value_)?heads|num_attention_groups"
    r"|(global_|v_|qk_rope_|qk_nope_|attention_)?head_dim|head_size|kv_channels|(kv|q)_lora_rank"
    r"|multi_query\w*|new_decoder_architecture|alibi|is_encoder_decoder"
    r"|max_position_embeddings|n_positions|max_seq_len|seq_len(gth)?|model_max_length|max_target_positions"
    r"|max_seq(uence)?_length|original_max_position_embeddings"
    r"|_?sliding_window(_pattern)?|use_sliding_window|max_window_layers|attention_chunk_size|window_size|local_attention"
    r"|(num|n)_((local|routed|shared|global|group)_)?experts(_per_tok)?|moe_num_experts|num_kv_shared_layers|full_attention_interval"
    r"|attn_layer_(period|offset)|first_k_dense_replace"
    r"|(mamba|linear|ssm|swa|index|compress|kda|gdn|lightning|lru)_\w+|state_size|conv_(kernel|L_cache)|expand|n_groups"
)
"""Fields of a config that memory or the context length depend on."""
LAYER_TYPES = ("layer_types", "layers_block_type")
WHOLE = {"head_dim": "global_head_dim", "num_key_value_heads": "num_global_key_value_heads"}
"""A size of a layer -> what configurations call that of the layers which see every token."""
PLAIN = (bool, int, float, type(None))
COMMON = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "max_position_embeddings")
"""What engines ask a configuration for, whatever its fields are called."""
SAID = (("is_encoder_decoder", False),)
"""What nearly every class has."""
PROBED = {"hidden_size": 2, "num_attention_heads": 2, "num_hidden_layers": 2}
"""Sizes that others are derived from, and by how much they are changed to see which."""


def config_class(kind: Any) -> dict[str, Any]:
    """One class: `has` fields with their defaults, null where they are derived from others; `names` from the common
    or an old name of a field to the class's own; `layer_types` the unit that layers repeat; `part` the configuration
    nested in it that the language model is sized by: `at` this key, of the model_type `is` (whatever it says of itself
    where it is `fixed`), and what it has instead of its own class's defaults where it is `omitted` or `given`."""
    default = made(kind)
    names = {own: other for own, other in getattr(kind, "attribute_map", {}).items() if SIZES.fullmatch(own)}
    wanted = {name: value for name, value in _fields(kind) if _sized(name) or name in names.values()}
    plain = {name: value for name, value in wanted.items() if isinstance(value, PLAIN) and (name, value) not in SAID}
    told: dict[str, Any] = {"has": plain}
    if default is not None:
        names |= _old_names(kind, default)
        for common, own, value in _kept_as(kind, default, told["has"].keys() | names.keys()):
            names[common], told["has"][own] = own, value
        told["has"] |= _settled(kind, default, told["has"]) | _of_whole_layers(default)
        if pattern := unit(list(next((v for n in LAYER_TYPES if (v := getattr(default, n, None))), ()))):
            told["layer_types"] = pattern
        if part := _part(kind):
            told["part"] = part
    return told | ({"names": names} if names else {})


def made(kind: Any, **values: Any) -> Any:
    """An instance, all of whose attributes can be read; None where the class can't be made from these."""
    try:
        config = kind(**values)
        config.allow_global_per_layer_attribute_access = True
    except Exception:  # each class has errors of its own
        return None
    return config


def language_part(config: Any) -> Any:
    """The configuration that vLLM and Transformers take the language model's sizes from."""
    try:
        found = config.get_text_config()
    except Exception:  # a composition of several
        return config
    found.allow_global_per_layer_attribute_access = True
    return found


def unit(kinds: list[str]) -> list[str]:
    """The shortest beginning that the list repeats."""
    lengths = range(1, len(kinds) + 1)
    return next((kinds[:n] for n in lengths if all(kind == kinds[i % n] for i, kind in enumerate(kinds))), [])


def _fields(kind: Any) -> Iterator[tuple[str, Any]]:
    """Names with their defaults, the class's own last; what has none comes as some object that is never kept."""
    for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
        yield field.name, field.default
    for base in reversed(kind.__mro__):
        for name, parameter in inspect.signature(base.__init__).parameters.items() if "__init__" in vars(base) else ():
            yield name, parameter.default


def _sized(name: str) -> bool:
    return SIZES.fullmatch(name) is not None


def _settled(kind: Any, default: Any, has: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that the class fills in itself, as long as that does not depend on other sizes."""
    filled = {name: getattr(default, name, None) for name, value in has.items() if value is None}
    filled = {name: value for name, value in filled.items() if value is not None and isinstance(value, PLAIN)}
    for size, factor in PROBED.items() if filled else ():
        own = getattr(kind, "attribute_map", {}).get(size, size)
        given = getattr(default, own, None)
        other = made(kind, **{own: given * factor}) if isinstance(given, int) else None
        filled = {name: value for name, value in filled.items() if other and getattr(other, name, None) == value}
    return filled


def _of_whole_layers(default: Any) -> dict[str, int]:
    """What layers that see every token have otherwise than those that slide, as configurations call it: such a class
    writes it into its layers, and has no field for it (Gemma 4)."""
    kinds = next((found for name in LAYER_TYPES if (found := getattr(default, name, None))), ())
    if not getattr(default, "is_heterogeneous", False) or "full_attention" not in kinds:
        return {}
    whole = default.per_layer_config[list(kinds).index("full_attention")]
    first = default.per_layer_config[0]
    sizes = {name: (getattr(whole, own, None), getattr(first, own, None)) for own, name in WHOLE.items()}
    return {name: size for name, (size, other) in sizes.items() if size and size != other}


def _old_names(kind: Any, default: Any) -> dict[str, str]:
    """Names that the class still takes for a size, though it has no field of that name: found by trying them."""
    sizes = (6144, 2 * width) if isinstance(width := getattr(default, "hidden_size", 0), int) else (6144,)
    found = {}
    for name in sorted({word for method in _methods(kind) for word in _words(method)}):
        for size in sizes if not hasattr(default, name) and not name.startswith("rope") else ():
            tried = made(kind, **{name: size})
            took = [field for field, value in vars(tried).items() if value == size] if tried else []
            own = [field for field in took if _sized(field) and getattr(default, field, 0) != size]
            if len(own) == 1 and own != [name]:
                found[name] = own[0]
    return found


def _kept_as(kind: Any, default: Any, known: Collection[str]) -> Iterator[tuple[str, str, int]]:
    """Sizes that are no fields of the class: which field of a name of its own it sets each from, and that one's default
    (Moondream 3)."""
    fields = {name: value for name, value in _fields(kind) if type(value) is int and not _sized(name)}
    for common in COMMON:
        size = getattr(default, common, None)
        if type(size) is not int or size < 1 or common in known:
            continue
        for own in [name for name, value in fields.items() if value == size]:
            other = made(kind, **{own: 2 * size})
            if getattr(other, common, None) == 2 * size:
                yield common, own, size
                break


def _methods(kind: Any) -> Iterator[Any]:
    """How the class and those above it are made, but for the one of the library that all have in common."""
    for base in kind.__mro__[: max(1, [base.__name__ for base in kind.__mro__].index("PreTrainedConfig"))]:
        yield from filter(inspect.isfunction, map(vars(base).get, ("__init__", "__post_init__")))


def _words(method: Any) -> Iterator[str]:
    """Texts in the code that could be names of fields."""
    consts = inspect.unwrap(method).__code__.co_consts
    return (word for word in consts if isinstance(word, str) and word.isidentifier())


def part_of(kind: Any) -> tuple[str, Any]:
    """The key of the configuration nested in the class's default that leads to the language model, and that; an empty
    key where there is none."""
    default = made(kind)
    text = language_part(default)
    parts = {key: sub for key, sub in vars(default).items() if hasattr(sub, "get_text_config")} if default else {}
    leading = (key for key, sub in parts.items() if text is not default and language_part(sub) is text)
    key = next((key for key in leading if getattr(type(parts[key]), "model_type", "")), "")
    return key, parts.get(key)


def _part(kind: Any) -> dict[str, Any]:
    key, sub = part_of(kind)
    if not key:
        return {}
    bare = made(type(sub))
    told: dict[str, Any] = {"at": key, "is": type(sub).model_type}
    if getattr(kind, "sub_configs", {}).get(key) is type(sub):
        told["fixed"] = True
    given = made(kind, **{key: {"model_type": told["is"]}})
    for word, one in (("omitted", sub), ("given", getattr(given, key, None))):
        if isinstance(one, type(bare)) and (other := _differences(bare, one)):
            told[word] = other
    return told


def _differences(bare: Any, one: Any) -> dict[str, Any]:
    """What `one` was given, also where that is what the class would derive from its own sizes, and not from these."""
    mapped = getattr(type(bare), "attribute_map", {}).values()
    mine = {name: value for name, value in vars(one).items() if _sized(name) or name in mapped}
    mine = {name: value for name, value in mine.items() if isinstance(value, PLAIN) and not name.startswith("_")}
    changed = {name: value for name, value in mine.items() if value != getattr(bare, name, None)}
    derived = made(type(bare), **changed)
    return {
        name: value
        for name, value in mine.items()
        if name in changed or (derived is not None and value != getattr(derived, name, None))
    }
