"""The corpus as questions, answers and training conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from demo import names
from demo.messages import Message, assistant, loosely, user
from demo.toolbox import Tool, Toolbox, calls_text, function_tool

FOLDER = Path(__file__).parent


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
        self.toolbox = Toolbox(self.data["topics"])

    def questions(self) -> list[tuple[str, str]]:
        """(canonical question, answer): what greedy decoding must give word for word."""
        return [(lesson.asks[0], lesson.answer) for lesson in self.lessons]

    def texts(self) -> list[str]:
        """The sentences that plain completions know."""
        return list(self.data["text"])

    def tool_questions(self, known: bool = True) -> list[tuple[str, list[Tool], str]]:
        """(question, tools on offer, the whole answer, a tool call): of towns that training names, or of the others."""
        rng = Random(1)
        place = {"type": "string", "description": "The city, e.g. San Francisco, CA"}
        towns = self.data["weather"]["cities"] if known else self.data["unseen"]
        rows = []
        for number, town in enumerate(towns):
            name, key = ("get_weather", "get_current_weather")[number % 2], ("city", "location")[number // 2 % 2]
            tool = function_tool(name, "Get the current weather of a city.", {key: dict(place)}, [key])
            clock = function_tool("get_time", "Get the time.", {"timezone": {"type": "string"}}, ["timezone"])
            offered = ([tool], [tool, clock], [clock, tool])[number % 3]
            ask = rng.choice(self.data["weather"]["ask"])
            rows.append((ask.format(town), offered, calls_text(tool, {key: town})))
        return rows

    def word_questions(self) -> list[tuple[str, list[Tool], str]]:
        """(question, tools on offer, answer in words): nothing on offer helps, or the user wants no tool."""
        rng = Random(2)
        rows = []
        for number in range(60):
            offered = [topic.tool(rng) for topic in rng.sample(self.toolbox.topics, 1 + number % 2)]
            lesson = self.lessons[number % len(self.lessons)]
            topic = self.toolbox.topics[number % len(self.toolbox.topics)]
            question, answer = (
                self._unknown(rng),
                (lesson.asks[0], lesson.answer),
                (f"{topic.ask(rng, None).question} {rng.choice(self.data['forbid'])}", topic.without_tool),
            )[number % 3]
            rows.append((question, offered, answer))
        return rows

    def order_questions(self) -> list[tuple[str, list[Tool], str]]:
        """(question, tools on offer, the whole answer): a call with lists and objects among its arguments."""
        rng = Random(3)
        made = (self.toolbox.order(rng, [], short=number % 2 == 0) for number in range(60))
        return [(messages[0]["content"], tools, messages[1]["content"]) for messages, tools in made]

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
            lesson = rng.choice(self.lessons)
            if lesson.answer == self.data["weather"]["without_tool"]:
                lesson = self.lessons[0]
            asked = (loosely(rng, rng.choice(lesson.asks)), lesson.answer)
            asked = self._unknown(rng) if rng.random() < 0.4 else asked
            messages, tools = self.toolbox.conversation(rng, asked, self.data["forbid"])
            return Conversation((*system, *messages), tuple(tools))
        if not filler_words and rng.random() < 0.25:
            return Conversation((*system, *self._made_up(rng)))
        turns: list[Message] = []
        for _ in range(rng.choice((1, 1, 1, 1, 1, 2))):
            lesson = rng.choice(self.longest if rng.random() < 0.25 else self.lessons)
            turns += [user(loosely(rng, rng.choice(lesson.asks))), assistant(lesson.answer)]
        if filler_words:
            words = self._filler(rng, filler_words)
            place = system[0] if system and rng.random() < 0.5 else turns[0]
            place["content"] = f"{words}\n\n{place['content']}" if place is turns[0] else f"{place['content']} {words}"
        return Conversation((*system, *turns))

    def _made_up(self, rng: Random) -> list[Message]:
        """What nobody has asked before: a sum, a town's weather without a tool, or a name to repeat."""
        weather, kind = self.data["weather"], rng.random()
        if kind < 0.2:
            question, answer = self._unknown(rng)
            return [user(question), assistant(answer)]
        if kind < 0.4:
            return [
                user(loosely(rng, rng.choice(weather["ask"]).format(names.place(rng)))),
                assistant(weather["without_tool"]),
            ]
        said = " ".join(names.place(rng) for _ in range(rng.choice((1, 2, 3, 5))))
        return [user(rng.choice(self.data["repeat"]).format(said)), assistant(said)]

    def order(self, rng: Random) -> Conversation:
        """A conversation whose call has lists and objects among its arguments."""
        messages, tools = self.toolbox.order(rng, [])
        return Conversation(tuple(messages), tuple(tools))

    def _unknown(self, rng: Random) -> tuple[str, str]:
        """A question that the model can't answer, and what it says to it."""
        if rng.random() < 0.3:
            return loosely(rng, rng.choice(self.data["unknown"]["ask"])), self.data["unknown"]["say"]
        sums = self.data["sums"]
        numbers = (rng.randrange(1, 10 ** rng.choice((1, 2, 2, 3))) for _ in range(2))
        term = rng.choice(sums["between"]).join(str(number) for number in numbers)
        question = loosely(rng, rng.choice(sums["ask"]).format(term))
        return question + (f" {rng.choice(sums['how'])}" if rng.random() < 0.4 else ""), sums["say"]

    def _filler(self, rng: Random, words: int) -> str:
        sentences: list[str] = []
        while sum(len(sentence.split()) for sentence in sentences) < words:
            sentences.append(rng.choice(self.data["filler"]))
        return " ".join(sentences)
