"""Nothing that is shown moves a cursor, fakes a line or turns the direction of reading."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.contract.logs import PlainFormatter
from llmservice_runtime.contract.plain import plain, plain_lines, plain_output, raw
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat, Quantization, Task

EVIL = "\x1b]0;pwned\x07\x1b[31mEvil\x1b[0m\r\nFakeLine\x9b2J\u202etxt\u2028\ud800\x7f"
ANY = st.text(st.characters(codec=None, categories=None), max_size=40)


def unfit(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_what_is_written_instead() -> None:
    assert plain(EVIL) == r"\u001b]0;pwned\u0007Evil FakeLine\u009b2J\u202etxt \ud800\u007f"
    assert plain("\U000e0041") == r"\udb40\udc41"
    assert plain("größer 模型 🙂 a\xa0b") == "größer 模型 🙂 a\xa0b"
    assert plain_lines("a\n\tb\r\n") == "a\n\tb\\u000d\n"


@given(ANY)
def test_any_text_becomes_one_line(text: str) -> None:
    shown = plain(text)
    assert not unfit(shown)
    assert plain(shown) == shown


@given(ANY)
def test_json_stays_json_with_its_meaning(text: str) -> None:
    body = json.dumps({"a": text}, ensure_ascii=False)
    assert json.loads(plain_lines(body)) == json.loads(body)


@given(ANY)
def test_errors_records_and_facts_hold_nothing_else(text: str) -> None:
    error = UserError(text, text, details=[text])
    assert not unfit(error.reason.replace("\n", "", 1) + error.remedy)
    record = FailureRecord(FailureClass.CRASHED, text, text, "Loading")
    assert not unfit(record.message + record.remedy)
    quantization = Quantization(text, text, 4, scheme=text)
    sizes = (1, 1, (), 1, 1, 1, 1, ())
    files = ("\x1b.gguf",)
    facts = ModelFacts(
        ModelFormat.GGUF, text, text, Task.CHAT, quantization, text, *sizes, files, 1, True, True, notes=(text,)
    )
    words = [facts.architecture, facts.model_type, facts.dtype, *facts.notes]
    assert facts.quantization is not None
    words += [facts.quantization.name, facts.quantization.method, facts.quantization.scheme or ""]
    assert not unfit("".join(words))
    assert facts.files == files  # what is opened keeps its name


def test_what_is_printed_is_fit_for_the_terminal_and_its_encoding() -> None:
    bytes_out, out = io.BytesIO(), io.StringIO()
    narrow = io.TextIOWrapper(bytes_out, encoding="ascii", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(narrow), plain_output():
        print("line", EVIL)
        print("×", file=sys.stderr)
        assert raw(sys.stdout) is out
        with plain_output():
            assert raw(sys.stdout) is out
    assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", out.getvalue()) is None
    assert bytes_out.getvalue() == b"\\xd7\n"


def test_a_log_line_is_one_line() -> None:
    formatter = PlainFormatter("%(levelname)s %(message)s")
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "said %s", (EVIL,), sys.exc_info())
    first, *rest = formatter.format(record).split("\n")
    assert first == f"ERROR said {plain(EVIL)}"
    assert rest[0].startswith("Traceback")
    assert not unfit("".join(rest))
