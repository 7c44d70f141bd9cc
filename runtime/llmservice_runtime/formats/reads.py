"""What a token reads of the weights, by the names of the tensors. What is not surely read is not counted: how fast
memory lets a model write follows from it, and is then an upper bound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llmservice_runtime.formats.config import EXPERTS, Config
from llmservice_runtime.formats.facts import LayerGroup, Reads
from llmservice_runtime.formats.tensors import LAYER, OTHER_TOWER, Tensor

CHOSEN = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_top_k", "moe_topk",
    "num_selected_experts", "moe_k", "n_activated_experts", "num_activated_experts", "moe_num_active_primary_experts",
)  # fmt: skip
"""How configurations call the experts that a token passes in a layer."""
_ANY_LESS = ("zero_expert_num",)
"""Of models some of whose experts compute nothing: a token may pass fewer."""
_EXPERT = re.compile(r"(?:^|\.)experts?\.|_(?:ch)?exps\.|\.ffn_(?:gate|up|down)\.\d+\.")
_OUTPUT = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\.")
_EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:embed_tokens|token_embd|wte|tok_embeddings|word_embeddings|embed_in|embeddings?)\."
)


def reads(tensors: Iterable[Tensor], layers: Sequence[LayerGroup], experts: int, chosen: int) -> Reads | None:
    """`experts` of each layer that has some, of which a token passes `chosen`; None where names or numbers don't tell.

    Rows of embeddings are looked up; towers and layers beyond the model's (which guess ahead) are not passed. Layers of
    two names are of a tower that nobody knows here.
    """
    stacks: set[str] = set()
    count, always, routed, output, embeddings = sum(group.count for group in layers), 0, 0, 0, 0
    for tensor in tensors:
        layer = LAYER.search(tensor.name)
        if OTHER_TOWER.search(tensor.name, 0, layer.start() + 1 if layer else len(tensor.name)):
            continue
        if layer is None:
            output += tensor.nbytes if _OUTPUT.search(tensor.name) else 0
            embeddings += tensor.nbytes if _EMBEDDINGS.search(tensor.name) else 0
            continue
        if int(layer[1][:9]) >= count:
            continue
        stacks.add(tensor.name[: layer.start(1)])
        if _EXPERT.search(tensor.name, layer.end() - 1):
            routed += tensor.nbytes
        else:
            always += tensor.nbytes
    if len(stacks) > 1 or not always or bool(routed) != bool(experts) or (experts and not 0 < chosen <= experts):
        return None
    return Reads(always, output or embeddings, routed, chosen if experts else 0)


def chosen_experts(config: Config) -> int:
    """Experts that a token passes in a layer; 0 = not told, or not the same number everywhere."""
    found = next((value for key in CHOSEN if (value := config.get(key)) is not None), 0)
    differ = any(config.items_of(key) for key in EXPERTS) or any(config.get(key) for key in _ANY_LESS)
    return found if type(found) is int and not differ else 0
