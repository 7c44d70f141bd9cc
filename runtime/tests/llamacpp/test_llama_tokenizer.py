"""Long texts: parts tokenize to what the whole does, and the work grows with the length alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import llama_cpp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.engines.llamacpp.serve.binding import initialise
from llmservice_runtime.engines.llamacpp.serve.tokenizer import LlamaTokenizer
from llmservice_runtime.generation.cuts import PART_BYTES, Cuts

pytestmark = pytest.mark.engine

DEMO = Path(__file__).parents[2] / "demo" / "model" / "demo-Q4_K_M.gguf"
WORDS = ["<a>", "<a><b>", "ab", "<b>", "><", "<|end|>", "\n\n", "\n\n\n", "<a", "é<", "aba", "<|endoftext|>"]
"""Special tokens that overlap, contain each other, and begin as another ends."""


@contextmanager
def opened(path: Path) -> Iterator[LlamaTokenizer]:
    initialise()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model
    try:
        yield LlamaTokenizer(model)
    finally:
        llama_cpp.llama_model_free(model)


@pytest.fixture(scope="module")
def demo() -> Iterator[LlamaTokenizer]:
    with opened(DEMO) as tokenizer:
        yield tokenizer


@pytest.fixture(scope="module", params=["phi-3", "other"])
def sentencepiece(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaTokenizer]:
    """A vocabulary of sentencepiece's kind; llama.cpp lets special tokens of a model named phi-3 strip what follows."""
    path = tmp_path_factory.mktemp("vocabulary") / "v.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(request.param)
    kind = gguf.TokenType
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁b"]
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256, *[kind.NORMAL] * 5]
    for number, word in enumerate(WORDS):
        tokens.append(word)
        kinds.append(kind.CONTROL if number % 2 else kind.USER_DEFINED)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_space_prefix(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with opened(path) as tokenizer:
        yield tokenizer


PIECES = st.sampled_from([*WORDS, " ", "\t ", "a", "b", "<", ">", "é", "\n", "</s>", "hello ", "<|end|>  "])


@given(
    pieces=st.lists(PIECES | st.sampled_from(["\n" * 7, "\n" * 20]), max_size=60),
    special=st.booleans(),
    add=st.booleans(),
    least=st.integers(0, 12),
)
def test_parts_tokenize_to_what_the_whole_does(
    sentencepiece: LlamaTokenizer, pieces: list[str], special: bool, add: bool, least: int
) -> None:
    data = "".join(pieces).encode()
    whole = sentencepiece._encode(data, add, special)
    cuts = sentencepiece._cuts if special else sentencepiece._plain_cuts
    parts = list(cuts.parts(data, least))
    assert b"".join(parts) == data
    got = [token for part in parts for token in sentencepiece._encode(part, False, special)]
    assert got == sentencepiece._encode(data, False, special)
    assert whole == ([1, *got, 2] if add else got)


@given(
    pieces=st.lists(st.sampled_from(["<|im_start|>", "<|im_end|>", "hi", "\n", " ", "user", "<|", "é"]), max_size=60)
)
def test_parts_of_a_byte_pair_vocabulary(demo: LlamaTokenizer, pieces: list[str]) -> None:
    data = "".join(pieces).encode()
    got = [token for part in demo._cuts.parts(data, 3) for token in demo._encode(part, False, True)]
    assert got == demo._encode(data, False, True)


@pytest.mark.parametrize(
    "text", ["<|im_start|>user\nhi<|im_end|>\n", "<|im_end|>", "<|im_start|><|im_end|>", "<|endoftext|>x"]
)
def test_a_text_of_special_tokens_is_tokenized_in_parts_of_one_size(
    demo: LlamaTokenizer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """What llama.cpp is given at once decides what it costs: the square of the special tokens in it."""
    sizes: list[int] = []
    native = llama_cpp.llama_tokenize

    def counting(vocab: object, data: bytes, length: int, *rest: object) -> int:
        sizes.append(length)
        return int(native(vocab, data, length, *rest))

    monkeypatch.setattr(llama_cpp, "llama_tokenize", counting)
    tokens = demo.encode(text * 40_000, add_special=False, parse_special=True)
    assert tokens == demo.encode(text, add_special=False, parse_special=True) * 40_000
    assert max(sizes) < PART_BYTES + 64


def test_a_run_of_one_character_is_cut_too(sentencepiece: LlamaTokenizer) -> None:
    data = b"a" + b"\n" * 100_000 + b"b"
    parts = list(sentencepiece._cuts.parts(data))
    assert b"".join(parts) == data
    assert sentencepiece._cuts.strips or max(map(len, parts)) < PART_BYTES + 8
    short = b"a" + b"\n" * 1_000 + b"b"
    got = [token for part in sentencepiece._cuts.parts(short, 50) for token in sentencepiece._encode(part, False, True)]
    assert got == sentencepiece._encode(short, False, True)


@given(pieces=st.lists(PIECES, max_size=20), times=st.integers(1, 50))
def test_a_text_has_as_many_tokens_as_its_length_says(
    demo: LlamaTokenizer, sentencepiece: LlamaTokenizer, pieces: list[str], times: int
) -> None:
    text = "".join(pieces) * times
    for tokenizer in (demo, sentencepiece):
        assert tokenizer.at_least(text) <= len(tokenizer.encode(text, add_special=False, parse_special=True))
    assert demo.at_least("a" * 1_000_000) > 10_000


def test_no_special_tokens_no_cuts() -> None:
    assert list(Cuts([]).parts(b"a" * 100, 10)) == [b"a" * 100]


def test_detokenizing_skips_what_is_no_token(demo: LlamaTokenizer) -> None:
    tokens = demo.encode("hello", add_special=False, parse_special=False)
    assert demo.decode([-1, *tokens, demo.vocab_size, 2**40]) == "hello"
