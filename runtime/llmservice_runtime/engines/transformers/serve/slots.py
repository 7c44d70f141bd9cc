"""Keys and values of all answers: one pair of tensors a layer, (slots, capacity, heads, width); and attention on them.

A model runs on tokens of many answers as if they were one text. What tells them apart is here: each layer's keys and
values go to the slots of their answers, and each answer attends to its own slot. No copies, no masks over strangers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from llmservice_runtime.batching.kvcache import Copy, Op, Trim
from llmservice_runtime.engines.transformers.serve.lazy import LazyTensor
from llmservice_runtime.engines.transformers.serve.step import Chunk, Run, Step

NAME = "llmservice_slots"
"""The attention's name in Transformers."""
KNOWN = frozenset(
    {"scaling", "dropout", "sliding_window", "softcap", "s_aux", "is_causal", "position_ids", "use_cache", "cache"}
)
"""What models pass to attention that is honoured here, or changes nothing."""


class UnfitModelError(Exception):
    """The model's attention has something that is not known here; the message says what."""


class Slots:
    """The memory of one model, in place of Transformers' cache. `windows`: of each layer, 0 = all; layers beyond: all.

    `begin` says what the next pass computes. Tensors are made when a layer first stores something.
    """

    def __init__(self, slots: int, capacity: int, windows: Sequence[int] = ()) -> None:
        self.slots = slots
        self.capacity = capacity
        self._windows = tuple(windows)
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._memory: list[LazyTensor] = []
        self._layer = 0
        self._step: Step | None = None
        self._masks: dict[Any, torch.Tensor] = {}
        self._places: dict[torch.device, torch.Tensor] = {}

    def begin(self, step: Step) -> None:
        """What the next pass computes."""
        self._step = step
        self._masks.clear()
        self._places.clear()

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values, of all layers that a pass has come by."""
        return sum(m.tensor[0, 0].numel() * m.tensor.itemsize for m in self._memory)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All that was made."""
        return [memory.tensor for memory in self._memory]

    # What Transformers asks of a cache.

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep keys and values (1, heads, rows, width) of a pass; they are given back as they are."""
        assert self._step is not None
        self._layer = layer_idx
        kept = self._layers.get(layer_idx)
        if kept is None:
            kept = self._layers[layer_idx] = (self._make(keys), self._make(values))
        places = self._places.get(keys.device)
        if places is None:
            places = torch.from_numpy(self._step.places).to(keys.device, torch.int64)
            self._places[keys.device] = places
        for memory, new in zip(kept, (keys, values), strict=True):
            memory.view(-1, *memory.shape[2:]).index_copy_(0, places, new[0].transpose(0, 1))
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions are always given: a pass has no one length."""
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return 0

    @property
    def is_compileable(self) -> bool:
        return False

    def _make(self, like: torch.Tensor) -> torch.Tensor:
        shape = (self.slots, self.capacity, like.shape[1], like.shape[3])
        # Zeros: what an answer does not hold yet is read by its neighbours' pass, and must be numbers.
        self._memory.append(LazyTensor(shape, like.dtype, like.device))
        return self._memory[-1].tensor

    # What batching asks of a memory.

    def apply(self, ops: Iterable[Op]) -> None:
        """See batching's Memory. A part that is cut stays until it is written over; a whole slot is emptied."""
        with torch.inference_mode():
            for op in ops:
                for memory in self._memory:
                    if isinstance(op, Copy):
                        memory.tensor[op.target, : op.length] = memory.tensor[op.source, : op.length]
                    elif op.length == 0:
                        memory.empty(op.slot)

    def clear(self) -> None:
        """See batching's Memory."""
        self.apply(Trim(slot, 0) for slot in range(self.slots))

    # Attention.

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        sliding_window: int | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attention of a pass: queries (1, heads, rows, width) to (1, rows, heads, width of values)."""
        if attention_mask is not None:
            raise UnfitModelError("it brings a mask of its own")
        if unknown := _unknown(kwargs):
            raise UnfitModelError(f"its attention takes {unknown}")
        step, layer = self._step, self._layer
        assert step is not None
        window = sliding_window or (self._windows[layer] if layer < len(self._windows) else 0)
        keys, values = self._layers[layer]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        special = _Special(softcap, s_aux) if softcap is not None or s_aux is not None else None
        out = query.new_empty((step.rows, query.shape[1], values.shape[-1]))
        asked = _Asked(query, keys, values, window, scale, special, out)
        for run in step.runs:
            self._run(run, asked)
        for chunk in step.chunks:
            self._chunk(chunk, asked)
        return out.unsqueeze(0), None

    def _run(self, run: Run, asked: _Asked) -> None:
        """Slots with a row each. Heads that share keys are the rows of one query."""
        n, end = len(run.lengths), run.longest
        begin = max(0, end - asked.window) if asked.window and n == 1 else 0
        slots = slice(run.slot, run.slot + n)
        k, v = asked.keys[slots, begin:end].transpose(1, 2), asked.values[slots, begin:end].transpose(1, 2)
        q = asked.query[0, :, run.row : run.row + n].transpose(0, 1).reshape(n, k.shape[1], -1, asked.query.shape[-1])
        mask = None if n == 1 else self._lengths(run, asked.window, asked.query)
        got = asked.attention(q, k, v, mask)
        asked.out[run.row : run.row + n] = got.reshape(n, -1, v.shape[-1])

    def _chunk(self, chunk: Chunk, asked: _Asked) -> None:
        """Rows of one prompt behind what its slot holds."""
        end, window = chunk.past + chunk.tokens, asked.window
        begin = max(0, chunk.past + 1 - window) if window else 0
        k = asked.keys[chunk.slot : chunk.slot + 1, begin:end].transpose(1, 2)
        v = asked.values[chunk.slot : chunk.slot + 1, begin:end].transpose(1, 2)
        q = asked.query[:, :, chunk.row : chunk.row + chunk.tokens]
        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        if asked.special is None and not chunk.past and (not window or chunk.tokens <= window):
            got = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=asked.scale)
        else:
            got = asked.attention(q, k, v, self._causal(chunk, begin, window, asked.query), heads=1)
        asked.out[chunk.row : chunk.row + chunk.tokens] = got[0].transpose(0, 1)

    def _lengths(self, run: Run, window: int, like: torch.Tensor) -> torch.Tensor:
        """(n, 1, 1, longest): what is added to the scores of a run."""
        made = self._masks.get(at := (run.slot, window, like.device))
        if made is None:
            where = torch.arange(run.longest, device=like.device)
            lengths = torch.tensor(run.lengths, device=like.device)[:, None]
            seen = where < lengths
            if window:
                seen &= where >= lengths - window
            made = self._masks[at] = _barrier(seen[:, None, None], like.dtype)
        return made

    def _causal(self, chunk: Chunk, begin: int, window: int, like: torch.Tensor) -> torch.Tensor:
        """(1, 1, tokens, positions): what is added to the scores of a chunk."""
        made = self._masks.get(at := (chunk.slot, window, like.device, "chunk"))
        if made is None:
            where = torch.arange(begin, chunk.past + chunk.tokens, device=like.device)
            rows = torch.arange(chunk.past, chunk.past + chunk.tokens, device=like.device)[:, None]
            seen = where <= rows
            if window:
                seen &= where > rows - window
            made = self._masks[at] = _barrier(seen[None, None], like.dtype)
        return made


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a layer's attention is asked for, of all answers of a pass; `out` is what it has to fill."""

    query: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    window: int
    scale: float
    special: _Special | None
    out: torch.Tensor

    def attention(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, heads: int = 0
    ) -> torch.Tensor:
        """Of some rows. `heads` 1: a query's rows are positions; 0: they are heads that share keys."""
        if self.special is not None:
            return self.special.attention(q, k, v, mask, self.scale, heads)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)


class _Special:
    """Attention with scores that are capped (Gemma 2), or with sinks that take a part of the weight (gpt-oss)."""

    def __init__(self, softcap: float | None, sinks: torch.Tensor | None) -> None:
        self._softcap = softcap
        self._sinks = sinks

    def attention(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
        heads: int = 0,
    ) -> torch.Tensor:
        """As `_Asked.attention`."""
        scores = torch.matmul(q, k.transpose(2, 3)) * scale
        if self._softcap is not None:
            scores = torch.tanh(scores / self._softcap) * self._softcap
        if mask is not None:
            scores = scores + mask
        if self._sinks is None:
            return torch.matmul(scores.softmax(-1, dtype=torch.float32).to(q.dtype), v)
        shape = (1, q.shape[1], 1, 1) if heads else (1, q.shape[1], q.shape[2], 1)
        sinks = self._sinks.reshape(shape).expand(*scores.shape[:3], 1).to(scores.dtype)
        weights = torch.cat([scores, sinks], -1).softmax(-1, dtype=torch.float32)[..., :-1]
        return torch.matmul(weights.to(q.dtype), v)


def _barrier(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where seen, -inf elsewhere."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, float("-inf"))


def _unknown(kwargs: Mapping[str, Any]) -> str:
    """The first argument that means something which is not known here; empty = none."""
    said = (name for name, value in kwargs.items() if value is not None and value is not False)
    return next((name for name in said if name not in KNOWN), "")
