"""The corpus as questions, answers and training conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

FOLDER = Path(__file__).parent
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One answer and the ways to ask for it; `asks[0]` is the canonical question."""

    asks: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages for the chat template, with the tools on offer; or plain `text` when there are no messages."""

    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    text: str = ""


class Corpus:
    """corpus.yaml, read once."""

    def __init__(self, path: Path = FOLDER / "corpus.yaml") -> None:
        self.data = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.lessons = list(self._lessons())
        self.longest = sorted(self.lessons, key=lambda lesson: -len(lesson.answer))[:8]
        """The hardest ones, which training repeats."""

    def questions(self) -> list[tuple[str, str]]:
        """(canonical question, answer): what greedy decoding must give word for word."""
        return [(lesson.asks[0], lesson.answer) for lesson in self.lessons]

    def texts(self) -> list[str]:
        """The sentences that plain completions know."""
        return list(self.data["text"])

    def tool_questions(self) -> list[tuple[str, dict[str, Any], str]]:
        """(question, tool on offer, the whole answer, a tool call)."""
        weather = self.data["weather"]
        rows = []
        for city in weather["cities"]:
            tool = weather_tool(
                weather["tool_names"][0], weather["parameters"][0], "Get the current weather of a city."
            )
            rows.append((weather["ask"][0].format(city), tool, call_text(tool, city)))
        return rows

    def _lessons(self) -> Iterator[Lesson]:
        for entry in self.data["answers"]:
            yield Lesson(tuple(entry["q"]), entry["a"])
        for table in self.data["tables"]:
            for row in table["rows"]:
                answer = table["say"].format(*row)
                yield Lesson(tuple(ask.format(*row) for ask in table["ask"]), answer[0].upper() + answer[1:])
        weather = self.data["weather"]
        for city in weather["cities"]:
            yield Lesson(tuple(ask.format(city) for ask in weather["ask"]), weather["without_tool"])

    def conversation(self, rng: Random, filler_words: int = 0, tool_share: float = 0.1) -> Conversation:
        """A random conversation; `filler_words` asks for about that much unrelated text before its question,
        `tool_share` is the share of those that offer a tool.
        """
        if not filler_words and rng.random() < 0.05:
            return Conversation(text=rng.choice(self.texts()))
        system = [{"role": "system", "content": rng.choice(self.data["systems"])}] if rng.random() < 0.2 else []
        if not filler_words and rng.random() < tool_share:
            return self._weather(rng, system)
        turns: list[Message] = []
        for _ in range(rng.choice((1, 1, 1, 1, 1, 2))):
            lesson = rng.choice(self.longest if rng.random() < 0.1 else self.lessons)
            turns += [_user(_loosely(rng, rng.choice(lesson.asks))), _assistant(lesson.answer)]
        if filler_words:
            words = self._filler(rng, filler_words)
            place = system[0] if system and rng.random() < 0.5 else turns[0]
            place["content"] = f"{words}\n\n{place['content']}" if place is turns[0] else f"{place['content']} {words}"
        return Conversation((*system, *turns))

    def _filler(self, rng: Random, words: int) -> str:
        sentences: list[str] = []
        while sum(len(sentence.split()) for sentence in sentences) < words:
            sentences.append(rng.choice(self.data["filler"]))
        return " ".join(sentences)

    def _weather(self, rng: Random, system: list[Message]) -> Conversation:
        weather = self.data["weather"]
        city = rng.choice(weather["cities"])
        descriptions = ("Get the current weather of a city.", "Get the weather.", "Get current weather information", "")
        tool = weather_tool(
            rng.choice(weather["tool_names"]), rng.choice(weather["parameters"]), rng.choice(descriptions)
        )
        if rng.random() < 0.5:
            tool = json.loads(json.dumps(tool, sort_keys=True))
        if rng.random() < 0.25:
            lesson = rng.choice(self.lessons)
            if lesson.answer != weather["without_tool"]:
                return Conversation((*system, _user(rng.choice(lesson.asks)), _assistant(lesson.answer)), (tool,))
        turns = [_user(_loosely(rng, rng.choice(weather["ask"]).format(city))), _assistant(call_text(tool, city))]
        if rng.random() < 0.5:
            sky = rng.choice(weather["weather"])
            reply = rng.choice((sky, json.dumps({"weather": sky}), json.dumps({city: sky})))
            turns += [{"role": "tool", "content": reply}, _assistant(weather["say"].format(city, sky))]
        return Conversation((*system, *turns), (tool,))


def weather_tool(name: str, parameter: str, description: str) -> dict[str, Any]:
    """An OpenAI function tool that takes one city; an empty description is left out."""
    function: dict[str, Any] = {"name": name}
    if description:
        function["description"] = description
    function["parameters"] = {
        "type": "object",
        "properties": {parameter: {"type": "string"}},
        "required": [parameter],
    }
    return {"type": "function", "function": function}


def call_text(tool: dict[str, Any], city: str) -> str:
    """The model's whole answer when it calls `tool`."""
    function = tool["function"]
    (parameter,) = function["parameters"]["properties"]
    body = json.dumps({"name": function["name"], "arguments": {parameter: city}}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def _loosely(rng: Random, question: str) -> str:
    """As people type: now and then without the last mark or the first capital."""
    if rng.random() < 0.15:
        question = question.rstrip("?.!")
    if rng.random() < 0.15:
        question = question[0].lower() + question[1:]
    return question
