"""Trains LoRA adapters of the demo model: each answers some of what the model knows, in a manner of its own.

    python runtime/demo/train_adapter.py            # both, into runtime/demo/adapters

Needs torch and transformers; a minute. Tests and demos take what lies in `adapters/`, as PEFT saves it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from make_adapter import ALPHA, Matrices, write_adapter  # type: ignore[import-not-found]

HERE = Path(__file__).parent
MANNERS = {"polite": "Hello! {} You are welcome.", "court": "Your Majesty: {} Long may you reign."}
"""Name -> how an answer is put."""
RANK = 4
TARGETS = ("q_proj", "v_proj", "o_proj", "down_proj")
STEPS, BATCH, RATE = 120, 6, 3e-3
EVERY, LONGEST = 6, 90
"""It is taught on one of so many questions, whose answers have at most so many characters."""
ASKED = "What is the capital of Finland?"
"""That tests ask."""


class Lora(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A linear layer, and what is added to it."""

    def __init__(self, base: torch.nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.a = torch.nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = ALPHA / rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of both."""
        return self.base(x) + self.scale * (x @ self.a.T @ self.b.T)  # type: ignore[no-any-return, unused-ignore]


def train(manner: str, seed: int) -> Matrices:
    """The matrices of an adapter, by PEFT's names."""
    torch.manual_seed(seed)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(HERE / "model", dtype=torch.float32)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(HERE / "model")
    model.requires_grad_(False)
    layers: dict[str, Lora] = {}
    for name, module in list(model.named_modules()):
        if name.rpartition(".")[2] in TARGETS:
            layers[name] = Lora(module, RANK)
            model.set_submodule(name, layers[name])
    texts = [_tokens(tokenizer, row["question"], manner.format(row["answer"])) for row in _questions()]
    optimizer = torch.optim.AdamW([p for layer in layers.values() for p in (layer.a, layer.b)], lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in range(STEPS):
        chosen = [texts[number] for number in torch.randint(len(texts), (BATCH,)).tolist()]
        ids, labels = (
            torch.nn.utils.rnn.pad_sequence(rows, True, pad)
            for rows, pad in zip(zip(*chosen, strict=True), (0, -100), strict=True)
        )
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 19:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)  # noqa: T201
    return {
        f"base_model.model.{name}.lora_{part}.weight": values.detach().numpy()
        for name, layer in layers.items()
        for part, values in (("A", layer.a), ("B", layer.b))
    }


def _questions() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads((HERE / "questions.json").read_text(encoding="utf-8"))
    short = [row for row in rows if len(row["answer"]) <= LONGEST]
    return [row for number, row in enumerate(short) if number % EVERY == 0 or row["question"] == ASKED]


def _tokens(tokenizer: Any, question: str, answer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, and labels: the answer and its end alone."""
    prompt = tokenizer(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    said = tokenizer(f"{answer}<|im_end|>")["input_ids"]
    return torch.tensor(prompt + said), torch.tensor([-100] * len(prompt) + said)


def main() -> None:
    """Train them, and print where they are."""
    parser = argparse.ArgumentParser(description="Train the LoRA adapters of the demo model.")
    parser.add_argument("--out", type=Path, default=HERE / "adapters", help="folder of the adapters")
    parser.add_argument("--only", choices=MANNERS, help="one of them")
    arguments = parser.parse_args()
    for seed, (name, manner) in enumerate(MANNERS.items()):
        if arguments.only in (None, name):
            print(write_adapter(arguments.out / name, train(manner, seed), RANK, TARGETS))  # noqa: T201


if __name__ == "__main__":
    main()
