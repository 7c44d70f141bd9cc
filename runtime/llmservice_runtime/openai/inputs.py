"""From texts of a request to what a pooling model computes: tokens, checked one by one, errors with their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from llmservice_runtime.openai.encoding import encode
from llmservice_runtime.protocol.engine import Served, Tokenizer
from llmservice_runtime.wire.errors import ApiError, bad_request, cut


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens that a tokenizer puts around a text."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.before) + len(self.after)


def frame_of(tokenizer: Tokenizer) -> Frame:
    """Found out by a text with them and without, once."""
    if tokenizer not in _frames:
        _frames[tokenizer] = _found(tokenizer)
    return _frames[tokenizer]


def _found(tokenizer: Tokenizer) -> Frame:
    inner = tokenizer.encode("a", add_special=False, parse_special=False)
    whole = tokenizer.encode("a", add_special=True, parse_special=False)
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return Frame(tuple(whole[:start]), tuple(whole[start + len(inner) :]))
    return Frame((), ())


_frames: WeakKeyDictionary[Tokenizer, Frame] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Bound:
    """How long a text may be. `asked`: `truncate_prompt_tokens` of the request; None = a longer one is refused."""

    context_tokens: int
    asked: int | None

    @property
    def most(self) -> int:
        """Tokens, special ones included."""
        return min(self.context_tokens, self.asked) if self.asked and self.asked > 0 else self.context_tokens

    @property
    def cuts(self) -> bool:
        """Whether what is longer is cut off, at its end."""
        return self.asked is not None and self.asked != 0


async def text_tokens(served: Served, text: str, bound: Bound, field: str, special: int, prompt: str = "") -> list[int]:
    """Tokens of a text behind its prompt, without special ones, of which there will be `special`; ApiError 400 that
    names its place in the request where it is empty or too long."""
    if not text:
        raise bad_request(f"`{field}` is an empty text, which says nothing. Leave it out.", field)
    text = prompt + text
    if bound.cuts:
        text = shortened(text, served.tokenizer, bound.most)
    try:
        tokens = await encode(served.tokenizer, text, False, context_tokens=bound.context_tokens, field=field)
    except ApiError as error:
        raise _too_long(bound.context_tokens, "more than that", field) from error
    room = bound.most - special
    if len(tokens) <= room:
        return tokens
    if not bound.cuts:
        raise _too_long(bound.context_tokens, f"{len(tokens) + special}", field)
    check_room(bound, field, special)
    return tokens[:room]


def check_room(bound: Bound, field: str, others: int) -> None:
    """ApiError 400 where `others`, tokens that are not the text's, leave none of it."""
    if bound.cuts and bound.most <= others:
        message = f"`truncate_prompt_tokens` is {bound.asked}, and special tokens and what comes before `{field}` have"
        raise bad_request(f"{message} {others}. Ask for more.", "truncate_prompt_tokens")


def shortened(text: str, tokenizer: Tokenizer, tokens: int) -> str:
    """So much of a text as has more tokens than that for certain: no other tokenizes megabytes to keep a page."""
    most = tokens * LONGEST_TOKEN
    return text if len(text) <= most else text[:most]


LONGEST_TOKEN = 128
"""Characters; blanks in a row and rulers are single tokens of some models."""


def given_tokens(served: Served, tokens: Sequence[int], bound: Bound, field: str) -> list[int]:
    """Token ids as the client sent them, special ones included; ApiError 400 as of `text_tokens`."""
    if not tokens:
        raise bad_request(f"`{field}` has no tokens, which say nothing. Leave it out.", field)
    wrong = next((token for token in tokens if not 0 <= token < served.vocab_size), None)
    if wrong is not None:
        said = f"`{field}` has token id {cut(str(wrong))}; this model's ids are 0 to {served.vocab_size - 1}."
        raise bad_request(said, field)
    if len(tokens) <= bound.most:
        return list(tokens)
    if not bound.cuts:
        raise _too_long(bound.context_tokens, str(len(tokens)), field)
    return list(tokens[: bound.most])


def _too_long(context_tokens: int, tokens: str, field: str) -> ApiError:
    return bad_request(
        f"This model's context is {context_tokens} tokens, and `{field}` has {tokens}. Shorten it, or set"
        " `truncate_prompt_tokens` (-1 = to the context): what is beyond is then cut off.",
        field,
        "context_length_exceeded",
    )
