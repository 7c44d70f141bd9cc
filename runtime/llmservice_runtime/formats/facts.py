"""Model facts: what headers say about a model. A value; everything that plans takes it and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from llmservice_runtime.contract.plain import plain

WORD = 120
"""Characters of a name in a header that are kept."""


class ModelFormat(StrEnum):
    """How the weights are stored."""

    GGUF = "GGUF"
    SAFETENSORS = "Safetensors"
    PICKLE = "Pickle"
    MISTRAL = "Mistral"


class Task(StrEnum):
    """What a model answers."""

    CHAT = "Chat"
    COMPLETION = "Completion"
    EMBEDDING = "Embedding"
    RERANK = "Rerank"


class LayerKind(StrEnum):
    """What a layer keeps per sequence."""

    FULL = "Full"
    """K and V of every token."""
    SLIDING = "Sliding"
    """K and V of the last `window` tokens."""
    MLA = "MLA"
    """Compressed latents per token, replicated across tensor-parallel ranks (`kv_heads` of them, v_dim 0)."""
    RECURRENT = "Recurrent"
    """A constant state (Mamba, linear attention): `state_bytes` per sequence, nothing per token."""
    NONE = "None"
    """Nothing at all (shared KV, MLP-only layers)."""


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """`count` layers that keep the same things. Dimensions in elements, `state_bytes` in bytes per sequence and layer.

    An attention layer with `state_bytes` has a recurrent mixer or an encoder's output beside it (Falcon-H1, Whisper)
    and keeps both. `index_bytes` are an indexer's keys per token, on every rank and whatever type the cache has.
    `tokens_per_state`: tokens that one state stands for (DeepSeek V4). `mixer_bytes` is what a recurrent mixer's state
    takes in the types that the model has for it, where `state_bytes` have 32 bits an element; 0 = not told, or none.
    `window` of layers that see every token is one that the configuration states and only some engines know.
    """

    kind: LayerKind
    count: int
    kv_heads: int = 0
    k_dim: int = 0
    v_dim: int = 0
    window: int = 0
    state_bytes: int = 0
    index_bytes: int = 0
    tokens_per_state: int = 1
    mixer_bytes: int = 0


class WidthKind(StrEnum):
    """What a width belongs to."""

    ATTENTION = "Attention"
    """The input of the output projection."""
    DENSE = "Dense"
    """A feed-forward block that every token passes."""
    EXPERT = "Expert"
    """One expert."""
    HEADS = "Heads"
    """A number of heads or channels."""
    GROUPS = "Groups"
    """Groups of heads of a state, which a single one is copied of."""
    TOWER = "Tower"
    """What sees or hears."""


@dataclass(frozen=True, slots=True)
class Width:
    """A size that is divided among GPUs which share every layer. `name` is how config.json calls it."""

    name: str
    size: int
    kind: WidthKind


@dataclass(frozen=True, slots=True)
class Quantization:
    """How weights are quantized. `method` is the table's word: `gptq`, `awq`, `fp8`, `gguf`, ...

    `name` is what people say (`Q4_K_M`, `GPTQ-Int4`, `FP8`); `bits` is exact bits per weight where headers give tensor
    bytes, else nominal. `scheme` is the sub-format (`nvfp4-pack-quantized`, `nf4`, `W8A8`). `kv_cache` is the type that
    the checkpoint wants its KV cache in (`FP8`, `NVFP4`), empty = the model's. `stated` are `key=word` of the
    configuration that engines have lists for (`activation_scheme=static`).
    """

    method: str
    name: str
    bits: float
    group_size: int | None = None
    symmetric: bool | None = None
    desc_act: bool | None = None
    scheme: str | None = None
    kv_cache: str = ""
    stated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Words of headers are shown."""
        for word in ("method", "name"):
            object.__setattr__(self, word, plain(getattr(self, word))[:WORD])
        object.__setattr__(self, "scheme", self.scheme and plain(self.scheme)[:WORD])


@dataclass(frozen=True, slots=True)
class Vision:
    """What sees the pictures of a chat: an encoder of patches, and what makes tokens of them."""

    kind: str
    """GGUF's `clip.projector_type`; config.json's `model_type` of the encoder."""
    image_size: int
    """Side of the picture that it sees, or of one tile; 0 = not stated."""
    patch_size: int
    merge: int
    """Patches in a row, and rows of them, that become one token; 0 = not stated."""
    hidden_size: int
    feed_forward: int
    heads: int
    file: str = ""
    """Where it has a file of its own, which lies beside the model (GGUF's mmproj); empty = it is in the weights."""
    weight_bytes: int = 0
    """Of that file's tensors."""

    def __post_init__(self) -> None:
        """Words of headers are shown."""
        object.__setattr__(self, "kind", plain(self.kind)[:WORD])


@dataclass(frozen=True, slots=True)
class Reads:
    """Bytes of the weights that are read to compute a token, as they are stored."""

    layers: int
    """Of all layers, what every token passes."""
    output: int
    """The matrix that makes tokens of vectors; the embeddings where they are that too."""
    experts: int = 0
    """All experts of all layers, of which each token passes..."""
    chosen: int = 0
    """...so many in a layer."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the headers of one model say. Sizes in bytes, lengths in tokens."""

    format: ModelFormat
    architecture: str
    """GGUF `general.architecture` or the first of config.json's `architectures`."""
    model_type: str
    """config.json's `model_type`; the architecture for GGUF."""
    task: Task
    quantization: Quantization | None
    dtype: str
    """Of unquantized tensors: F32, F16, BF16, ..."""
    parameters: int
    context_tokens: int
    """Longest context the model was trained for; 0 = the headers do not say."""
    layers: tuple[LayerGroup, ...]
    hidden_size: int
    attention_heads: int
    vocab_size: int
    weight_bytes: int
    """Exact sum of tensor bytes of the files that will be loaded."""
    layer_weight_bytes: tuple[int, ...]
    """Per block, for partial offload; empty where names do not tell."""
    files: tuple[str, ...]
    """The files an engine needs, first the one it is pointed at (GGUF: the first shard)."""
    file_bytes: int
    """What is downloaded."""
    has_chat_template: bool
    has_tokenizer: bool
    mixture_experts: int = 0
    remote_code: bool = False
    """config.json has auto_map: loading runs code of the repository."""
    encoder: bool = False
    """Whether an encoder reads the input, and a decoder writes the answer (T5, BART, Whisper)."""
    decoder: bool = False
    """Whether config.json says `is_decoder`: what else reads in both directions then writes text (BERT)."""
    widths: tuple[Width, ...] = ()
    """What tensor parallelism divides; empty where headers do not tell."""
    other_architectures: tuple[str, ...] = ()
    """What else config.json's `architectures` names, in its order."""
    rope_types: tuple[str, ...] = ()
    """Types of RoPE that config.json states; empty = none, or a GGUF."""
    pooling: str = ""
    """Of a model that embeds or reranks how one vector is made of a text's (Mean, CLS, Last, Rank); empty = the files
    don't say."""
    unpooled: str = ""
    """What of that nobody here does, as a sentence; empty = nothing."""
    typed_pairs: bool = False
    """Whether the second text of a pair has a token type of its own."""
    projected: bool = False
    """Whether vectors pass layers behind the pooling."""
    asked: bool = False
    """Of a reranker, whether it is a decoder that is asked by a template and says yes or no."""
    abilities: tuple[str, ...] | None = None
    """What the chat template's text says (`contract.template_text`); None = none was read, which says nothing."""
    vision: Vision | None = None
    """What sees pictures; None = the model reads text alone."""
    reads: Reads | None = None
    """What a token reads of the weights; None = the headers don't tell."""
    notes: tuple[str, ...] = field(default=())
    """Sentences for the explanation: what was guessed, repaired or ambiguous."""

    def __post_init__(self) -> None:
        """Words of headers are shown."""
        for word in ("architecture", "model_type", "dtype", "pooling"):
            object.__setattr__(self, word, plain(getattr(self, word))[:WORD])
        object.__setattr__(self, "unpooled", plain(self.unpooled))
        object.__setattr__(self, "notes", tuple(map(plain, self.notes)))

    @property
    def pools(self) -> bool:
        """Whether it answers with vectors or scores."""
        return self.task in (Task.EMBEDDING, Task.RERANK)

    @property
    def layer_count(self) -> int:
        """All layers of all groups."""
        return sum(group.count for group in self.layers)

    @property
    def kv_known(self) -> bool:
        """Whether the headers tell what every layer keeps."""
        attention = [group for group in self.layers if group.kind not in (LayerKind.NONE, LayerKind.RECURRENT)]
        return bool(self.layers) and all(group.kv_heads and group.k_dim for group in attention)
