"""Chat templates: as transformers renders them, and never beyond their bounds."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from llmservice_runtime.openai.messages import normalise
from llmservice_runtime.openai.requests.chat import Message, Tool
from llmservice_runtime.openai.templates import ChatTemplate, TemplateError, many
from llmservice_runtime.wire.errors import ApiError

USER = [{"role": "user", "content": "Hi <b>"}]


def test_what_templates_of_models_use() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{%- for m in messages %}\n    {%- if loop.first %}[{{ m['content'] | trim }}]{% endif %}\n"
        "{%- endfor %}{{ {'a': '<é>'} | tojson }}{% generation %}{{ strftime_now('%Y')[:2] }}{% endgeneration %}"
        "{% for i in range(5) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ extra }}",
        bos_token="<s>",
    )
    assert template.render(USER, kwargs={"extra": "!"}) == '<s>[Hi <b>]{"a": "<é>"}2001!'


def test_blocks_are_trimmed() -> None:
    template = ChatTemplate("  {% if true %}\nx\n  {% endif %}\ny")
    assert template.render(USER) == "x\ny"


def test_a_template_may_refuse() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(TemplateError, match="Roles must alternate"):
        template.render(USER)


PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TRIMS = PLAIN.replace("m.content", "m.content | trim")
THINKS = PLAIN.replace(
    "{{ m.content }}",
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}{{ m.content }}",
)


def continued(source: str, *messages: dict[str, Any]) -> str:
    return ChatTemplate(source).render(messages, add_generation_prompt=False, continue_final_message=True)


@pytest.mark.parametrize(
    "content",
    [
        "Hello",
        "<",
        "|",
        "im",
        ">",
        "_",
        "assistant",
        "user",
        "<|im_end|>",
        "The answer is: ",
        "a\n",
        " a",
        "",
        " ",
        "\n\n",
        "TAG",
    ],
)
def test_continue_final_message_ends_where_the_content_ends(content: str) -> None:
    said = {"role": "assistant", "content": content}
    head = "<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n"
    assert continued(PLAIN, *USER, said) == head + content
    assert continued(TRIMS, *USER, said) == (head + content.strip()).rstrip()
    assert continued(PLAIN, said, *USER, said).endswith(head + content), "also when it was said before"


def test_continue_final_message_goes_on_thinking_when_nothing_else_was_said() -> None:
    thought = {"role": "assistant", "content": "", "reasoning_content": "Let me see"}
    assert continued(THINKS, *USER, thought).endswith("assistant\n<think>\nLet me see")
    assert continued(THINKS, *USER, {**thought, "content": "So"}).endswith("\n</think>\nSo")


def test_continue_final_message_takes_parts_of_text() -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two <"}]
    said = normalise([Message(role="assistant", content=parts)], ChatTemplate(PLAIN))
    assert continued(PLAIN, *USER, *said).endswith("assistant\nOne\ntwo <")


def test_continue_final_message_that_the_template_leaves_out_is_refused() -> None:
    with pytest.raises(TemplateError, match="continue_final_message"):
        continued("{% for m in messages %}{{ m.content[:3] }}{% endfor %}", {"role": "assistant", "content": "Hello"})


def test_continue_final_message_that_loses_its_thinking_is_refused() -> None:
    last = "{% for m in messages %}{{ m.role }}: {{ m.content.split('</think>')[-1] }}{% endfor %}"
    said = {"role": "assistant", "content": "<think>a</think>b"}
    with pytest.raises(TemplateError, match="leaves out a part"):
        continued(last, *USER, said)
    assert continued(last, *USER, {**said, "content": "b"}).endswith("assistant: b")
    apart = "{% for m in messages %}{{ m.content.replace('</think>', '\n</think>\n\n') }}{% endfor %}"
    assert continued(apart, said) == "<think>a\n</think>\n\nb", "white space may be the template's"


def test_tools_and_documents_are_known_by_name() -> None:
    assert ChatTemplate("{% if tools %}{{ tools | tojson }}{% endif %}").takes_tools
    assert not ChatTemplate("{% set tools = [] %}{{ tools }}").takes_tools
    assert not ChatTemplate("no tools here").takes_tools


@pytest.mark.parametrize("source", ["{% if %}", "{{ x | no_such_filter }}", "{% for %}", "{{ " * 5000])
def test_a_template_that_does_not_compile(source: str) -> None:
    with pytest.raises(TemplateError, match="does not compile"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**9 }}",
        "{{ 9 ** 9 ** 99 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ ''.__class__.__mro__ }}{{ messages.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].content.nothing.more }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i %}{% endfor %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s=['x']) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s=1) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s | tojson }}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s | replace('x', 'xx') %}{% endfor %}",
        "{{ 'x' | center(10**10) }}{{ 'x'.ljust(10**10) }}",
        "{{ '%010000000000d' % 1 }}{{ '{:>10000000000}'.format(1) }}",
        "{{ [1] | batch(10**10, 1) | list }}",
        "{{ range(10**9) | list }}{{ lipsum(n=10**9) }}",
        "{% macro a(n) %}{{ b(n) }}{% endmacro %}{% macro b(n) %}{% for i in range(9) %}{{ a(n + 1) }}{% endfor %}"
        "{% endmacro %}{{ a(0) }}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{{ ('a' * 30 ~ '!') | urlize }}{{ 'x' | indent(10**10) }}",
        "{{ (10**8 * 10**8) ** 64 ** 8 }}",
    ],
)
def test_hostile_templates_end_soon(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmservice_runtime.openai.templates.MAX_SECONDS", 1.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with pytest.raises(TemplateError):
        ChatTemplate(source).render(USER)
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB: here nothing grew
    assert ChatTemplate("{{ messages[0].content }}").render(USER) == "Hi <b>"


def normal(template: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    return normalise([Message.model_validate(message) for message in messages], ChatTemplate(template))


def test_content_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert normal("x", {"role": "user", "content": parts}) == [{"role": "user", "content": "a\nb"}]


def test_an_image_is_refused_by_its_place() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:"}}
    with pytest.raises(ApiError) as caught:
        normal("x", {"role": "user", "content": [{"type": "text", "text": "a"}, part]})
    assert caught.value.param == "messages.0.content.1"
    assert "image_url" in caught.value.message


def test_tool_calls_of_earlier_turns_reach_the_template_as_objects() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    (plain,) = normal("x", message)
    assert plain["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert plain["content"] == ""
    (plain,) = normal("{% if message['content'] is none %}{% endif %}", message)
    assert plain["content"] is None


@pytest.mark.parametrize("arguments", ["{", "[" * 5000, "9" * 5000])
def test_arguments_of_an_earlier_call_that_are_no_json(arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(ApiError) as caught:
        normal("x", {"role": "assistant", "content": None, "tool_calls": [call]})
    assert caught.value.status == 400 and caught.value.param == "messages.0.tool_calls"


def test_developer_is_system_where_the_template_does_not_know_it() -> None:
    assert normal("x", {"role": "developer", "content": "a"})[0]["role"] == "system"
    assert (
        normal("{% if role == 'developer' %}{% endif %}", {"role": "developer", "content": "a"})[0]["role"]
        == "developer"
    )


def test_all_that_a_template_reads_makes_a_prompt_long() -> None:
    message = Message.model_validate({"role": "user", "content": "Hi"})
    tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": ["x" * 1000] * 100}}}
    assert not many([[message] * 100, [Tool.model_validate(tool | {"function": {"name": "f"}})], None, {"x": 1}])
    assert many([[message] * 3000])
    assert many([[message], [Tool.model_validate(tool)]])
    assert many([[message], None, [{"text": ["x"] * 10_000}]])
