"""Conversations with tools on offer: names of functions, of arguments and of towns vary so much that only copying
helps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from demo import names, nested
from demo.messages import Message, assistant, loosely, user

Tool = dict[str, Any]
SUBJECTS = {"place": names.place, "person": names.person, "title": names.title, "sentence": names.sentence}


ALIKE_SHARE = 0.3
"""Of conversations: the first two topics, weather and time, are both on offer. They are asked for in like words."""
BETWEEN = ("", "", "in ")
BOTH = (" Call the tool twice.", " Call {0} once per city, both calls in this single turn.", " Call {0} for each.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks of one topic, the arguments that answer it, and what the question is about."""

    question: str
    arguments: dict[str, Any]
    subjects: tuple[str, ...]


class Topic:
    """One entry of `topics` in corpus.yaml: what tools about it look like and how people ask for it."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry
        self.without_tool: str = entry["without_tool"]

    def subjects(self, rng: Random) -> tuple[str, ...]:
        """Whom or what a question is about: known names now and then, new ones mostly."""
        known = self.entry.get("known", [])
        return tuple(
            str(rng.choice(known)) if known and rng.random() < 0.4 else SUBJECTS[kind](rng)
            for kind in self.entry["subjects"]
        )

    def tool(self, rng: Random) -> Tool:
        """A function about this topic, as clients write them."""
        description = rng.choice(self.entry["descriptions"])
        name = self._name(rng)
        parameters = rng.choice(self.entry["parameters"])
        parameters = list(parameters) if isinstance(parameters, list) else [parameters]
        properties: dict[str, Any] = {parameter: {"type": "string"} for parameter in parameters}
        for value in properties.values():
            if rng.random() < 0.25:
                value["description"] = rng.choice(self.entry["hints"]).format(*self.subjects(rng))
        required = list(properties)
        for optional, schema in self.entry.get("optional", {}).items():
            if rng.random() < 0.25:
                properties[optional] = dict(rng.choice(schema))
                if "enum" in properties[optional] and rng.random() < 0.3:
                    required.append(optional)
        return _written(rng, function_tool(name, description, properties, required))

    def _name(self, rng: Random) -> str:
        if rng.random() < 0.4:
            return str(rng.choice(self.entry["names"]))
        words = [rng.choice(("get", "fetch", "find", "lookup", "check", "show", "read", "query", "my"))]
        words += rng.choice(self.entry["nouns"]).split()
        if rng.random() < 0.25:
            words.append(rng.choice(("tool", "api", "v2", "service", "now", "for")))
        style = rng.random()
        if style < 0.7:
            return "_".join(words)
        return words[0] + "".join(word.title() for word in words[1:]) if style < 0.85 else "-".join(words)

    def ask(self, rng: Random, tool: Tool | None) -> Asked:
        """A question, and the arguments of its call of `tool`."""
        schema = tool["function"]["parameters"] if tool else {"properties": {}, "required": []}
        strings = [name for name in schema["required"] if "enum" not in schema["properties"][name]]
        subjects = self.subjects(rng)
        question = rng.choice(self.entry["ask"]).format(*subjects)
        arguments: dict[str, Any] = dict(zip(strings, subjects, strict=False))
        mark = question[-1] if question[-1] in "?." else ""
        body = question.removesuffix(mark)
        for name, schema_of in schema["properties"].items():
            said: Any = None
            if "enum" in schema_of:
                if rng.random() < 0.3:
                    said = rng.choice(schema_of["enum"])
                    body += f" in {said}"
                elif name in schema["required"]:
                    said = schema_of["enum"][0]
            elif schema_of["type"] == "integer" and rng.random() < 0.3:
                said = rng.randrange(1, 15)
                body += f" for {said} {name}"
            if said is not None:
                arguments[name] = said
        if body == question.removesuffix(mark) and mark and rng.random() < 0.2:
            body += rng.choice((" today", " now", " right now", ", please", " tomorrow", " at the moment"))
        return Asked(body + mark + (" Use the tool." if mark and rng.random() < 0.1 else ""), arguments, subjects)

    def result(self, rng: Random) -> str:
        """What a tool finds out."""
        found = str(rng.choice(self.entry["results"]))
        return found.replace("#", str(rng.randrange(1, 40))).replace("%", names.word(rng))

    def say(self, subjects: Sequence[str], found: str) -> str:
        """The sentence that tells it."""
        text = str(self.entry["say"]).format(*subjects, found)
        return text[0].upper() + text[1:]


class Toolbox:
    """All topics; makes conversations in which the right tool is called, or none."""

    def __init__(self, entries: Sequence[dict[str, Any]]) -> None:
        self.topics = [Topic(entry) for entry in entries]
        self._shares = [entry.get("share", 1) for entry in entries]

    def conversation(
        self, rng: Random, lesson: tuple[str, str], forbids: Sequence[str]
    ) -> tuple[list[Message], list[Tool]]:
        """(messages, tools on offer); `lesson` is a question that no tool helps with, and its answer; `forbids` are
        the sentences by which a user wants no tool."""
        topic, *others = self._some(rng)
        kind = rng.random()
        if kind < 0.26:
            offered = [some.tool(rng) for some in (topic, *others)]
            question = f"{lesson[0]} {rng.choice(forbids)}" if rng.random() < 0.3 else lesson[0]
            return [user(question), assistant(lesson[1])], offered
        if kind < 0.285 and others:
            asked = topic.ask(rng, None)
            return [user(asked.question), assistant(topic.without_tool)], [some.tool(rng) for some in others]
        if kind < 0.43:
            return self.order(rng, [other.tool(rng) for other in others[:1]], short=True)
        tool = topic.tool(rng)
        offered = [tool, *(other.tool(rng) for other in others)]
        if len({one["function"]["name"] for one in offered}) < len(offered):
            offered = [tool]
        rng.shuffle(offered)
        if kind < 0.455:
            question = f"{topic.ask(rng, None).question} {rng.choice(forbids)}"
            return [user(question), assistant(topic.without_tool)], offered
        messages = _turn(rng, topic, tool)
        if len(messages) == 4 and rng.random() < 0.3:
            messages += _turn(rng, topic, tool)
        return messages, offered

    def order(self, rng: Random, others: list[Tool], short: bool = False) -> tuple[list[Message], list[Tool]]:
        """The same of a call with lists and objects among its arguments."""
        asked = nested.order(rng, short)
        required = list(asked.properties) if rng.random() < 0.3 else list(asked.arguments)
        required = [name for name in required if name in asked.arguments]
        tool = _written(rng, function_tool(asked.function, asked.description, asked.properties, required))
        offered = [tool, *others]
        rng.shuffle(offered)
        question = asked.question + (" Use the tool." if rng.random() < 0.1 else "")
        return [user(question), assistant(calls_text(tool, asked.arguments))], offered

    def _some(self, rng: Random) -> list[Topic]:
        if rng.random() < ALIKE_SHARE:
            return rng.sample(self.topics[:2], 2)
        wanted = rng.choice((1, 1, 1, 2, 2, 3, 4))
        chosen: list[Topic] = []
        while len(chosen) < wanted:
            (topic,) = rng.choices(self.topics, self._shares)
            if topic not in chosen:
                chosen.append(topic)
        return chosen


def function_tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> Tool:
    """An OpenAI function tool; an empty description is left out."""
    function: dict[str, Any] = {"name": name}
    if description:
        function["description"] = description
    function["parameters"] = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": function}


def calls_text(tool: Tool, *arguments: dict[str, Any]) -> str:
    """The model's whole answer when it calls `tool` once for each of `arguments`."""
    bodies = ({"name": tool["function"]["name"], "arguments": one} for one in arguments)
    return "\n".join(f"<tool_call>\n{json.dumps(body, ensure_ascii=False)}\n</tool_call>" for body in bodies)


def _turn(rng: Random, topic: Topic, tool: Tool) -> list[Message]:
    """A question and its calls; half of the time also what came of them, and the answer."""
    asked = [topic.ask(rng, tool)]
    question = asked[0].question
    if len(topic.entry["subjects"]) == 1 and len(asked[0].arguments) == 1 and rng.random() < 0.15:
        (name,) = asked[0].arguments
        (other,) = topic.subjects(rng)
        asked.append(Asked("", {name: other}, (other,)))
        question = rng.choice(topic.entry["ask"]).format(f"{asked[0].subjects[0]} and {rng.choice(BETWEEN)}{other}")
        if rng.random() < 0.4:
            question += rng.choice(BOTH).format(tool["function"]["name"])
    messages = [user(loosely(rng, question)), assistant(calls_text(tool, *(one.arguments for one in asked)))]
    if rng.random() < 0.5:
        found = [topic.result(rng) for _ in asked]
        keys = topic.entry["keys"]
        for one, value in zip(asked, found, strict=True):
            key = rng.choice(keys)
            forms: tuple[dict[str, Any], ...] = (
                {},
                {key: value},
                {one.subjects[0] if one.subjects else key: value},
                {**one.arguments, key: value},
            )
            form = json.dumps(chosen, ensure_ascii=False) if (chosen := rng.choice(forms)) else value
            messages.append({"role": "tool", "content": form})
        said = " ".join(topic.say(one.subjects, value) for one, value in zip(asked, found, strict=True))
        messages.append(assistant(said))
    return messages


def _written(rng: Random, tool: Tool) -> Tool:
    """Clients and engines write one tool in several ways."""
    function = tool["function"]
    if rng.random() < 0.1:
        function["strict"] = rng.choice((None, True, False))
    if rng.random() < 0.1:
        function["parameters"]["additionalProperties"] = False
    if rng.random() < 0.07:
        function.setdefault("description", None)
    return dict(json.loads(json.dumps(tool, sort_keys=True))) if rng.random() < 0.35 else tool
