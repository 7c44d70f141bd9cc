"""One answer on its way: its tokens, where they are computed, and what each new token makes of it."""

from __future__ import annotations

import codecs
from dataclasses import replace

import numpy as np

from llmservice_runtime.generation.arrays import Floats, Ints
from llmservice_runtime.generation.grammar import Matcher, Vocabulary
from llmservice_runtime.generation.positions import Positions
from llmservice_runtime.generation.sampler import Sampler, logprob_of
from llmservice_runtime.generation.shown import Shown
from llmservice_runtime.generation.stops import TextStream
from llmservice_runtime.generation.stream import Stream
from llmservice_runtime.openai.metrics import FinishedRequest
from llmservice_runtime.protocol.engine import Delta, FinishReason, GenerationRequest, TokenLogprob


class Answer:
    """State of one of the n answers of a request. Lives in the step thread; survives preemption whole.

    `tokens[:length]` are prompt and answer, the first `fed` of them are in `slot`'s memory (None = not running).
    """

    def __init__(
        self,
        request: GenerationRequest,
        index: int,
        stream: Stream,
        tokenizer: Vocabulary,
        context_tokens: int,
        matcher: Matcher | None,
        adapter: int = 0,
    ) -> None:
        params = request.params
        self.adapter = adapter
        """Number of the adapter that answers; 0 = the model itself."""
        self.batch = request.batch
        """It pauses for those that are not."""
        self.stream = stream
        self.index = index
        self.params = params
        self.prompt_length = len(request.prompt_tokens)
        self.limit = min(self.prompt_length + max(params.max_tokens, 0), context_tokens)
        self.tokens: Ints = np.empty(max(self.limit, self.prompt_length) + 1, np.int32)
        self.tokens[: self.prompt_length] = request.prompt_tokens
        self.length = self.prompt_length
        self.shown = Shown(request.pictures)
        self.fed = 0
        self.slot: int | None = None
        words = self.tokens[: self.length]
        words = words[words >= 0] if self.shown else words
        self.sampler = Sampler(params, index, words, tokenizer.vocab_size, sorted(tokenizer.end_tokens))
        self.matcher = matcher
        self.suspect = 0
        """It was in a step that failed: it computes by itself until so many of its tokens are in memory; 0 = no."""
        self.tried = 0
        """Number of the step that it last had for itself, or that failed."""
        self._failed = False
        self.scheduled: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.cached = 0
        self.prompt_logprobs: list[TokenLogprob | None] | None = [None] if request.prompt_logprobs else None
        self._tokenizer = tokenizer
        self._text = TextStream(params.stop, params.include_stop_str_in_output, params.stop_shield)
        self._positions = Positions()
        self._prompt_text = codecs.getincrementaldecoder("utf-8")("replace")
        if self.prompt_logprobs is not None:
            self._prompt_piece(0)

    @property
    def pending(self) -> int:
        """Tokens not computed yet."""
        return self.length - self.fed

    @property
    def generated(self) -> int:
        """Tokens of the answer so far."""
        return self.length - self.prompt_length

    def suspected(self, end: int) -> None:
        """A step that was to compute it up to `end` failed, and perhaps others are why. With others a second one may
        fail as well, so after that it computes by itself to its end."""
        self.suspect = len(self.tokens) if self._failed else end
        self._failed = True

    def note_prompt_row(self, position: int, row: Floats) -> None:
        """Logits after prompt token `position` say how likely the next prompt token was."""
        known = self.prompt_logprobs
        if known is not None and len(known) == position + 1 < self.prompt_length:
            token = int(self.tokens[position + 1])
            known.append(replace(self._scored(token, row), text=self._prompt_piece(position + 1)))

    def _prompt_piece(self, position: int) -> str:
        """What this token adds to the prompt's text as `echo` shows it: without special tokens."""
        token, last = int(self.tokens[position]), position + 1 == self.prompt_length
        piece = b"" if token in self._tokenizer.special_tokens else self._tokenizer.token_bytes(token)
        return self._prompt_text.decode(piece, last)

    def nothing_to_generate(self) -> Delta:
        """The only delta of an answer of no tokens (max_tokens 0: the prompt's logprobs were wanted)."""
        return self._first(Delta(self.index, "", [], finish_reason=FinishReason.LENGTH))

    def take(self, token: int, row: Floats, now: float) -> Delta:
        """Append the chosen token; the delta says what it added and whether it ended the answer."""
        params = self.params
        self.tokens[self.length] = token
        self.length += 1
        self.sampler.accept(token)
        delta = Delta(self.index, "", [token])
        if self.first is None:
            self._first(delta)
            self.first = now
        self.last = now
        written = self._judge(token, delta)
        ended, cut = delta.finish_reason is not None, self._text.stopped_by is not None
        if written and params.logprobs is not None:
            self._positions.add(self._scored(token, row), self._text.completed)
        if ended and not cut:
            delta.text += self._text.flush()
            self._positions.complete(self._text.completed)
        if not written and self.prompt_logprobs is not None:
            # With a scored prompt every token has its place, as the tools that score texts count them.
            self._positions.add(self._scored(token, row), "")
        if params.logprobs is not None:
            delta.logprobs = self._positions.shown(len(delta.text), self._text.open_ended)
            delta.logprobs += self._positions.rest(cut) if ended else []
        return delta

    def _scored(self, token: int, row: Floats) -> TokenLogprob:
        return logprob_of(row, token, self.params.logprobs or 0, self._tokenizer.token_bytes)

    def _first(self, delta: Delta) -> Delta:
        delta.cached_tokens = self.cached
        delta.prompt_logprobs = self.prompt_logprobs
        return delta

    def _judge(self, token: int, delta: Delta) -> bool:
        """Text and end of the answer; whether the token is part of the text (one that ends it or is hidden is not)."""
        params = self.params
        if token in params.stop_token_ids:
            delta.finish_reason, delta.stop_reason = FinishReason.STOP, token
            return False
        if token in self._tokenizer.end_tokens and not params.ignore_eos:
            delta.finish_reason = FinishReason.STOP
            return False
        special = params.skip_special_tokens and token in self._tokenizer.special_tokens
        piece = b"" if special else self._tokenizer.token_bytes(token)
        delta.text = self._text.push(piece, self.generated >= params.min_tokens)
        if self._text.stopped_by is not None:
            delta.finish_reason, delta.stop_reason = FinishReason.STOP, self._text.stopped_by
        elif self.matcher is not None and self.matcher.accept(token):
            delta.finish_reason = FinishReason.STOP
        elif self.length >= self.limit:
            delta.finish_reason = FinishReason.LENGTH
        return not special

    def record(self, reason: FinishReason, now: float) -> FinishedRequest:
        """What metrics keep of it."""
        return FinishedRequest(
            finish_reason=reason.value,
            prompt_tokens=self.prompt_length,
            generated_tokens=self.generated,
            arrived=self.stream.arrived,
            finished=now,
            scheduled=self.scheduled,
            first_token=self.first,
            last_token=self.last,
            batch=self.batch,
        )
