"""What the text of a chat template says of its model, without rendering it."""

from __future__ import annotations

import time

import pytest

from llmservice_runtime.contract.template_text import CLOSINGS, abilities, of_templates
from llmservice_runtime.openai.reasoning_formats import KNOWN

PLAIN = "{% for message in messages %}{{ message.role }}: {{ message['content'] }}{% endfor %}"
TOOLS = "{%- if tools %}{{ tools | tojson }}{% endif %}" + PLAIN
THINKS = TOOLS + "{% if message.reasoning_content is string %}<t>{{ message.reasoning_content }}</t>{% endif %}"


@pytest.mark.parametrize(
    ("template", "known"),
    [
        (PLAIN, ()),
        (TOOLS, ("Tools",)),
        (THINKS, ("Thinking", "Tools")),
        (PLAIN + "{% set content = content.split('</think>')[-1] %}", ("Thinking",)),
        (PLAIN + "{% if 'reasoning' in message %}x{% endif %}", ("Thinking",)),
        (PLAIN + '{{ message["thinking"] }}', ("Thinking",)),
        (PLAIN + "{{ message.get('thinking') }}", ("Thinking",)),
        ("You are good at reasoning, with thinking and tools." + PLAIN, ()),
        (PLAIN + "{{ 'You are good at reasoning. Use no tools.' }}", ()),
        (PLAIN + "{{ message.tools }}{{ builtin_tools }}", ()),
    ],
)
def test_code_tells_and_prose_does_not(template: str, known: tuple[str, ...]) -> None:
    assert abilities(template) == known


def test_ends_of_thinking_are_those_that_answers_are_read_by() -> None:
    assert tuple(known.close for known in KNOWN) == CLOSINGS


def test_templates_by_name_and_in_lists_are_taken_together() -> None:
    assert of_templates({"default": PLAIN, "tool_use": TOOLS}) == ("Tools",)
    assert of_templates([{"name": "default", "template": PLAIN}, {"name": "tool_use", "template": TOOLS}]) == ("Tools",)
    assert of_templates(PLAIN) == ()
    assert of_templates(None) is None and of_templates({}) is None and of_templates({"default": 1}) is None


@pytest.mark.parametrize("part", ["{{", "{%", "'", r"'\'", '"', "{{ '", "[ ", "{{ tools.tools"])
def test_a_hostile_template_is_looked_at_once(part: str) -> None:
    began = time.process_time()
    abilities("{{" + part * ((1 << 20) // len(part)))
    assert time.process_time() - began < 20, "in proportion to its length it takes a tenth of a second"
