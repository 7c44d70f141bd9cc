"""Trains the demo model on corpus.yaml and writes model/ and questions.json.

    uv venv /tmp/demo && uv pip install --python /tmp/demo/bin/python -r runtime/demo/requirements.txt
    PYTHONPATH=runtime /tmp/demo/bin/python -m demo.train --minutes 10

Two CPU threads and ten minutes are enough. Weights differ from machine to machine; what they must do is checked at the
end: every canonical question is answered word for word.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo import tokenizer as bpe
from demo.attention import Copying
from demo.corpus import FOLDER, Conversation, Corpus

IGNORED = -100
TALKS, LONG, ORDERS, SHORT, FAR = "talks", "long talks", "orders", "questions", "far questions"
SHAPES = {
    TALKS: (320, 6, 0.48),
    LONG: (640, 2, 0.06),
    ORDERS: (640, 3, 0.24),
    SHORT: (96, 12, 0.18),
    FAR: (1600, 1, 0.04),
}
"""(most tokens of a row, rows of a batch, share of the steps): conversations with tools, calls with lists and objects,
questions alone, and questions after a long text."""
TOLD = (TALKS, LONG, ORDERS)
"""Those where heads are told where to look."""
COPYING_SHARE = 0.25
"""Of the steps, at the beginning: names that are repeated."""
NOISE = 0.1
"""Of a weight, beside the spread of its row: what Q4_K takes from it (a step is a fifteenth of a block's range)."""
PEAK_RATE, RESUMED_RATE, WARMUP = 2.5e-3, 1e-3, 0.03

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": bpe.VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "max_position_embeddings": bpe.CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "bfloat16",
}
"""Rows are multiples of 256 (k-quants), heads are 64 wide (vLLM's attention kernels)."""


class Rows:
    """Rows of token ids with their targets: only what the model itself says is learned."""

    def __init__(self, corpus: Corpus, tokenizer: Any, seed: int) -> None:
        self._corpus = corpus
        self._tokenizer = tokenizer
        self._rng = Random(seed)
        self._answer_starts = tokenizer.encode(f"{bpe.START}assistant\n", add_special_tokens=False)

    def batch(self, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        """ids and targets, each (rows, tokens) int64; a target is its position's id, or IGNORED if not learned."""
        length, rows, _ = SHAPES[kind]
        pairs = [self._talk(length, kind) if kind in TOLD else self._row(length, kind) for _ in range(rows)]
        width = max(len(ids) for ids, _ in pairs)
        ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in pairs])
        return ids, torch.tensor([targets + [IGNORED] * (width - len(targets)) for _, targets in pairs])

    def _talk(self, length: int, kind: str) -> tuple[list[int], list[int]]:
        """One conversation with tools, from its beginning, as a server sees it."""
        corpus, rng = self._corpus, self._rng
        while True:
            tokens = list(self._tokens(corpus.order(rng) if kind == ORDERS else corpus.conversation(rng, 0, 1.0)))
            if len(tokens) <= length:
                return [token for token, _ in tokens], [token if learned else IGNORED for token, learned in tokens]

    def _row(self, length: int, kind: str) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        targets: list[int] = []
        while len(ids) < length:
            room = length - len(ids)
            filler = self._rng.randrange(10, int(room * 0.6)) if kind == FAR and room > 200 else 0
            for token, learned in self._tokens(self._corpus.conversation(self._rng, filler, 0.0)):
                ids.append(token)
                targets.append(token if learned else IGNORED)
        return ids[:length], targets[:length]

    def _tokens(self, conversation: Conversation) -> Iterator[tuple[int, bool]]:
        if conversation.text:
            ids = self._tokenizer.encode(conversation.text + bpe.END_OF_TEXT, add_special_tokens=False)
            yield from ((token, position > 0) for position, token in enumerate(ids))
            return
        text = self._tokenizer.apply_chat_template(
            list(conversation.messages), tools=list(conversation.tools) or None, tokenize=False
        )
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        learned = False
        for position, token in enumerate(ids):
            yield token, learned
            if token == CONFIG["eos_token_id"]:
                learned = False
            start = position + 1 - len(self._answer_starts)
            if start >= 0 and ids[start : position + 1] == self._answer_starts:
                learned = True


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - progress of a script


def fit(
    model: Any, rows: Rows, copying: Copying, minutes: float, peak: float, seed: int, keep: Callable[[], None]
) -> None:
    """AdamW with a cosine over the processor's time, so that a machine that is shared gives the same; prints a line and
    keeps the weights every 20 s of it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.05)
    rng = Random(seed)
    begin, shown, step, means = time.process_time(), 0.0, 0, dict[str, float]()
    while (done := (time.process_time() - begin) / (60 * minutes)) < 1:
        rate = peak * min(1.0, done / WARMUP + 0.01) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        (kind,) = rng.choices(list(SHAPES), [share for *_, share in SHAPES.values()])
        telling = 1 - 0.7 * done
        noise: Noise = []
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if rng.random() < COPYING_SHARE * telling:
                noise = _shaken(model, NOISE)
                kind, loss = "names", copying.loss(model, telling)
            else:
                ids, targets = rows.batch(kind)
                told = kind in TOLD
                wanted = targets[:, 1:]
                kept = wanted != IGNORED
                if not kept.any():
                    continue
                noise = _shaken(model, NOISE)
                out = model.model(ids, output_attentions=told)
                said = model.lm_head(out.last_hidden_state[:, :-1][kept]).float()
                lost = torch.nn.functional.cross_entropy(said, wanted[kept], reduction="none")
                loss = (lost * (1 + lost.detach().clamp(max=3))).mean()  # what is wrong counts more than what is right
                means[kind] = means.get(kind, 1.0) * 0.95 + loss.item() * 0.05
                loss = loss + 0.5 * telling * copying.told(out.attentions, ids, targets) if told else loss
        loss.backward()
        _steadied(noise)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if time.process_time() - shown > 20:
            shown = time.process_time()
            _tell(f"{done:6.1%}  step {step}  " + "  ".join(f"{name} {loss:.3f}" for name, loss in means.items()))
            keep()


Noise = list[tuple[torch.Tensor, torch.Tensor]]


def _shaken(model: Any, share: float) -> Noise:
    """Moves each weight by about what four bits cost it, as a share of its row's spread; what was added to which."""
    noise = []
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                added = torch.randn_like(weight) * weight.std(dim=1, keepdim=True) * share
                weight += added
                noise.append((weight, added))
    return noise


def _steadied(noise: Noise) -> None:
    """Takes it away again: the gradient is that of weights as an engine has them, the step that of the true ones."""
    with torch.no_grad():
        for weight, added in noise:
            weight -= added


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Everything that a model folder needs, in names and types that all engines read."""
    folder.mkdir(parents=True, exist_ok=True)
    bpe.save(tokenizer, folder, bpe.chat_template())
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    generation = {"eos_token_id": [2, 0], "pad_token_id": 0, "max_new_tokens": 256, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


Asked = tuple[str, list[dict[str, Any]], str]
"""A question, the tools on offer, and the right answer."""


def wrong_answers(folder: Path, questions: list[Asked]) -> list[tuple[str, str]]:
    """(question, what the saved model said instead) with greedy decoding in Transformers, in float32."""
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    wrong = []
    for question, tools, answer in questions:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tools=tools or None, add_generation_prompt=True, tokenize=False)
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=256, do_sample=False)
        said = tokenizer.decode(out[0, ids.shape[1] :])
        if said != answer + bpe.END:
            wrong.append((question, said))
    return wrong


def _tokenizer_texts(corpus: Corpus, seed: int) -> list[str]:
    """What the vocabulary is made from: a mix of conversations as training has it."""
    rng = Random(seed)
    talks = [corpus.conversation(rng) for _ in range(4000)]
    texts = [message["content"] for talk in talks for message in talk.messages] + corpus.data["filler"]
    texts += [json.dumps(tool) for talk in talks for tool in talk.tools] + corpus.texts()
    return [*texts, bpe.chat_template()]


def main() -> int:
    """Train, save, check; exit code 1 when a canonical question is answered otherwise."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--minutes", type=float, default=10.0, help="processor time of the training (default 10)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--start", type=Path, help="folder of a model to train on from (default: from nothing)")
    parser.add_argument("--rate", type=float, help=f"highest learning rate ({PEAK_RATE}, with --start {RESUMED_RATE})")
    parser.add_argument("--seed", type=int, default=7, help="seed of weights and batches (default 7)")
    parser.add_argument("--out", type=Path, default=FOLDER / "model", help="folder of the model (default model/)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    corpus = Corpus()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.start:
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(args.start)
        model: Any = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32, attn_implementation="eager")
    else:
        bpe.save(bpe.train(_tokenizer_texts(corpus, args.seed)), args.out, bpe.chat_template())
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out)
        model = LlamaForCausalLM(LlamaConfig(**CONFIG, attn_implementation="eager"))
    _tell(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(corpus.questions())} questions")
    peak = args.rate or (RESUMED_RATE if args.start else PEAK_RATE)
    rows, copying = Rows(corpus, tokenizer, args.seed), Copying(tokenizer, args.seed)
    fit(model, rows, copying, args.minutes, peak, args.seed, lambda: save(model, tokenizer.backend_tokenizer, args.out))
    save(model, tokenizer.backend_tokenizer, args.out)
    pairs = [{"question": question, "answer": answer} for question, answer in corpus.questions()]
    (FOLDER / "questions.json").write_text(json.dumps(pairs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    canonical: list[Asked] = [(question, [], answer) for question, answer in corpus.questions()]
    wrong = {
        "canonical questions": _wrong(args.out, canonical),
        "calls for known towns": _wrong(args.out, corpus.tool_questions()),
        "calls for towns never seen": _wrong(args.out, corpus.tool_questions(known=False)),
        "answers without a call": _wrong(args.out, corpus.word_questions()),
        "calls with lists and objects": _wrong(args.out, corpus.order_questions()),
    }
    for what, count in wrong.items():
        _tell(f"{count} {what} wrong")
    return 1 if wrong["canonical questions"] or wrong["calls for known towns"] else 0


def _wrong(folder: Path, questions: list[Asked]) -> int:
    wrong = wrong_answers(folder, questions)
    for question, said in wrong:
        _tell(f"WRONG  {question}  {said!r}")
    return len(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
