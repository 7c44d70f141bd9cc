"""How many tokens vLLM makes of a chat: of pictures nobody else knows."""

from __future__ import annotations

from typing import Any

from llmservice_runtime.engines.vllm.serve.served import Body, Count

SAME = ("model", "messages", "add_special_tokens", "add_generation_prompt", "continue_final_message",
        "chat_template_kwargs")  # fmt: skip


def counting(state: Any) -> Count:
    """By the ServingTokenization in vLLM's state, which lays a prompt out as its chats do."""
    from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest, TokenizeResponse

    async def count(body: Body) -> int:
        asked = TokenizeChatRequest.model_validate({name: body[name] for name in SAME if name in body})
        found = await state.serving_tokenization.create_tokenize(asked, None)
        return int(found.count) if isinstance(found, TokenizeResponse) else 0  # vLLM says itself what is wrong with it

    return count
