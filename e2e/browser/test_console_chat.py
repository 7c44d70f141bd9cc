"""Chat in the console: an answer that streams and can be stopped, a service that wakes, two models side by side."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from typing import Any

import pytest
from playwright.sync_api import Error, Route, expect

from browser.conftest import Open, Seen, stream
from browser.served import trained_answer
from browser.test_console_services import LONG

QUESTION = "What is LLMService?"
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A picture of one point."""
OTHER = "What is GGUF?"


def talk(seen: Seen, name: str = "demo") -> None:
    """Begin a conversation with a service, from its row."""
    seen.go()
    seen.page.get_by_role("link", name=f"Chat with default/{name}").click()
    certain(seen)


def certain(seen: Seen) -> None:
    """Answers are always the likeliest ones, which the demo model was trained to give."""
    options = seen.page.get_by_role("button", name="Options")
    options.click()
    seen.page.get_by_label("Temperature").fill("0")
    options.click()


def test_an_answer_and_what_it_took(seen: Seen) -> None:
    talk(seen)
    seen.ask(QUESTION)
    answer = seen.page.get_by_role("region", name="default/demo")
    expect(answer).to_contain_text(trained_answer(QUESTION))
    expect(answer).to_contain_text("tokens/s")
    seen.shot("chat")
    seen.page.reload()
    expect(answer).to_contain_text(trained_answer(QUESTION))  # the browser kept it


def test_a_question_is_changed_and_asked_again(seen: Seen) -> None:
    talk(seen)
    seen.ask(QUESTION)
    answer = seen.page.get_by_role("region", name="default/demo")
    expect(answer).to_contain_text(trained_answer(QUESTION))
    answer.get_by_role("button", name="Retry").click()
    expect(answer.get_by_role("button", name="Retry")).to_be_visible()
    seen.page.get_by_role("button", name="Edit").click()
    seen.page.get_by_role("textbox", name="Edit").fill(OTHER)
    seen.page.get_by_role("article").get_by_role("button", name="Ask").click()
    expect(answer).to_contain_text(trained_answer(OTHER))
    expect(answer).not_to_contain_text(trained_answer(QUESTION))


def test_an_answer_by_a_schema_streams_until_it_is_stopped(seen: Seen) -> None:
    talk(seen)
    page = seen.page
    page.get_by_role("button", name="Options").click()
    page.get_by_label("Answer", exact=True).select_option("schema")
    page.get_by_label("Schema", exact=True).fill("[")
    expect(page.get_by_role("alert")).to_contain_text("no JSON schema")
    page.get_by_label("Schema", exact=True).fill(json.dumps({**LONG, "minItems": 2000, "maxItems": 2000}))
    seen.ask("Count.")
    answer = page.get_by_role("region", name="default/demo")
    expect(answer.locator(".markdown")).to_contain_text("[")
    page.get_by_role("button", name="Stop").click()
    expect(answer).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(answer.locator(".markdown")).to_contain_text("[")


def test_a_cold_service_wakes_while_one_looks(seen: Seen) -> None:
    seen.go()
    row = seen.page.get_by_role("listitem").filter(has_text="default/sleepy")
    expect(row).to_contain_text("Asleep")
    row.get_by_role("link", name="Chat with default/sleepy").click()
    certain(seen)
    seen.ask(QUESTION)
    answer = seen.page.get_by_role("region", name="default/sleepy")
    expect(answer).to_contain_text("default/sleepy wakes up")
    expect(answer.get_by_role("listitem").filter(has_text="Load")).to_be_visible()
    seen.shot("waking")
    expect(answer).to_contain_text(trained_answer(QUESTION))
    expect(answer).to_contain_text("woke up in")


def test_two_services_side_by_side(seen: Seen) -> None:
    talk(seen)
    seen.page.get_by_role("button", name="Compare").click()
    seen.page.get_by_label("Second model").select_option("default/busy")
    seen.ask(OTHER)
    for name in ("default/demo", "default/busy"):
        expect(seen.page.get_by_role("region", name=name)).to_contain_text(trained_answer(OTHER))
    seen.shot("compare")


@pytest.mark.parametrize(("button", "program"), [("curl", ["bash", "-euc"]), ("Python", [sys.executable, "-c"])])
def test_the_same_for_programs(open_page: Open, console: str, button: str, program: list[str]) -> None:
    seen = open_page(console, permissions=["clipboard-read", "clipboard-write"])
    talk(seen)
    seen.ask(QUESTION)
    seen.page.get_by_role("region", name="default/demo").get_by_role("button", name=button).click()
    expect(seen.page.get_by_role("button", name="Copied")).to_be_visible()
    written = seen.page.evaluate("navigator.clipboard.readText()")
    said = subprocess.run([*program, written], capture_output=True, text=True, timeout=60, check=True).stdout
    chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
    assert (text or said.strip()) == trained_answer(QUESTION)


def test_a_model_that_sees_is_shown_a_picture(seen: Seen) -> None:
    asked: list[dict[str, Any]] = []

    def services(route: Route) -> None:
        told = route.fetch().json()
        route.fulfill(json={**told, "services": [{**one, "pictures": True} for one in told["services"]]})

    def model(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        route.fulfill(body=stream({"content": "A dot."}), content_type="text/event-stream")

    seen.page.route("**/-/api/services", services)
    seen.page.route("**/v1/chat/completions", model)
    talk(seen)
    seen.page.get_by_label("Add pictures").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": DOT})
    expect(seen.page.get_by_role("img", name="Picture 1")).to_be_visible()
    seen.ask("What is it?")
    expect(seen.page.get_by_role("region", name="default/demo")).to_contain_text("A dot.")
    picture, text = asked[0]["messages"][-1]["content"]
    assert picture["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(DOT).decode()}"
    assert text == {"type": "text", "text": "What is it?"}
    expect(seen.page.get_by_role("log").get_by_role("img", name="Picture 1")).to_be_visible()


def test_reasoning_and_a_tool_whose_result_the_person_gives(seen: Seen) -> None:
    asked: list[dict[str, object]] = []
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
    calls = stream(
        {"role": "assistant", "content": "", "reasoning": "The weather, then."},
        {"tool_calls": [call]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Berlin"}'}}]},
    )

    def model(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        body = calls if len(asked) == 1 else stream({"content": "It rains."})
        route.fulfill(body=body, content_type="text/event-stream")

    seen.page.route("**/v1/chat/completions", model)
    talk(seen)
    seen.page.get_by_role("button", name="Options").click()
    seen.page.locator("summary", has_text="Tools").click()
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    seen.page.get_by_role("textbox", name="Tools").fill(json.dumps(tools))
    seen.ask("Does it rain in Berlin?")
    answer = seen.page.get_by_role("region", name="default/demo")
    expect(answer).to_contain_text("The weather, then.")
    answer.get_by_label("Result of weather").fill("rain")
    answer.get_by_role("button", name="Go on with this").click()
    expect(answer).to_contain_text("It rains.")
    assert asked[0]["tools"] == tools
    messages = asked[1]["messages"]
    assert isinstance(messages, list)
    assert messages[-1] == {"role": "tool", "tool_call_id": "c1", "content": "rain"}
    assert messages[-2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Berlin"}'}


def sees(seen: Seen, *names: str) -> None:
    """These services, and no others, take pictures."""

    def services(route: Route) -> None:
        told = route.fetch().json()
        route.fulfill(
            json={**told, "services": [{**one, "pictures": one["name"] in names} for one in told["services"]]}
        )

    seen.page.route("**/-/api/services", services)


def test_pictures_stay_when_the_model_is_changed(seen: Seen) -> None:
    sees(seen, "default/demo")
    talk(seen)
    seen.page.get_by_label("Add pictures").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": DOT})
    picture = seen.page.get_by_role("img", name="Picture 1")
    expect(picture).to_be_visible()
    seen.page.get_by_label("Model", exact=True).select_option("default/busy")
    expect(seen.page.get_by_text("takes no pictures")).to_be_visible()
    seen.ask("What is it?")  # which is not sent without its picture
    expect(picture).to_be_visible()
    expect(seen.page.get_by_role("article")).to_have_count(0)
    seen.page.get_by_label("Model", exact=True).select_option("default/demo")
    expect(seen.page.get_by_text("takes no pictures")).to_have_count(0)
    expect(seen.page.get_by_role("button", name="Ask")).to_be_enabled()


def test_of_two_quick_pastes_both_are_there(seen: Seen) -> None:
    sees(seen, "default/demo")
    talk(seen)
    paste = """async (data) => {
      const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
      for (const name of ['a.png', 'b.png']) {
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([bytes], name, { type: 'image/png' }));
        const event = new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true });
        document.querySelector('.composer textarea').dispatchEvent(event);
      }
    }"""
    seen.page.evaluate(paste, base64.b64encode(DOT).decode())
    for number in (1, 2):
        expect(seen.page.get_by_role("img", name=f"Picture {number}")).to_be_visible()


class Model:
    """In the place of the services' engines: answers with what was asked for, and while it is `shut` not at all."""

    def __init__(self, seen: Seen) -> None:
        self.asked: list[dict[str, Any]] = []
        self.shut = False
        self.waiting: list[Route] = []
        seen.page.route("**/v1/chat/completions", self._ask)

    def _ask(self, route: Route) -> None:
        self.asked.append(json.loads(route.request.post_data or ""))
        if self.shut:
            self.waiting.append(route)
        else:
            self._answer(route)

    def open(self) -> None:
        """Answer what waits, as far as somebody still does."""
        self.shut = False
        for route in self.waiting:
            with contextlib.suppress(Error):  # it was left
                self._answer(route)

    def _answer(self, route: Route) -> None:
        content = f"An answer of {json.loads(route.request.post_data or '')['model']}."
        route.fulfill(body=stream({"content": content}), content_type="text/event-stream")


def test_a_conversation_that_is_forgotten_while_it_is_answered_stays_forgotten(seen: Seen) -> None:
    model = Model(seen)
    model.shut = True
    talk(seen)
    seen.ask("Forget me.")
    kept = seen.page.get_by_role("navigation", name="Conversations").get_by_role("link", name="Forget me.")
    expect(kept).to_be_visible()
    seen.page.get_by_role("button", name="Delete “Forget me.”").click()
    expect(kept).to_have_count(0)
    model.open()
    seen.ask("Remember me.")
    expect(seen.page.get_by_text("An answer of default/demo.")).to_be_visible()
    expect(kept).to_have_count(0)
    seen.page.reload()
    expect(seen.page.get_by_role("link", name="Remember me.")).to_be_visible()
    expect(kept).to_have_count(0)


def test_who_comes_back_to_a_conversation_finds_its_answer_under_way(seen: Seen) -> None:
    model = Model(seen)
    model.shut = True
    talk(seen)
    seen.ask("Wait for me.")
    page = seen.page
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("link", name="New conversation").click()
    expect(page.get_by_text("Ask something.")).to_be_visible()
    page.get_by_role("link", name="Wait for me.").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    model.open()
    expect(page.get_by_text("An answer of default/demo.")).to_be_visible()


def test_what_was_typed_is_there_when_one_comes_back(seen: Seen) -> None:
    Model(seen)
    talk(seen)
    page, field = seen.page, seen.page.get_by_role("textbox", name="Ask a question")
    field.fill("Half a quest")
    page.get_by_role("link", name="Engines").click()
    page.get_by_role("link", name="Chat", exact=True).click()
    expect(field).to_have_value("Half a quest")
    seen.go()
    page.get_by_role("link", name="Chat with default/busy").click()
    expect(field).to_have_value("Half a quest")
    expect(page.get_by_label("Model", exact=True)).to_have_value("default/busy")
    seen.ask("A question.")
    expect(page.get_by_text("An answer of default/busy.")).to_be_visible()
    field.fill("And more")
    page.get_by_role("link", name="New conversation").click()
    expect(field).to_have_value("")
    page.get_by_role("link", name="A question.").click()
    expect(field).to_have_value("And more")


def test_a_model_that_was_closed_is_asked_again_by_its_answer(seen: Seen) -> None:
    Model(seen)
    talk(seen)
    page = seen.page
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("Second model").select_option("default/busy")
    seen.ask("Who?")
    second = page.get_by_role("region", name="default/busy")
    expect(second).to_contain_text("An answer of default/busy.")
    page.get_by_role("button", name="Only the first model").click()
    with page.expect_request("**/v1/chat/completions") as sent:
        second.get_by_role("button", name="Retry").click()
    assert json.loads(sent.value.post_data or "")["model"] == "default/busy"
    expect(second.get_by_role("button", name="Retry")).to_be_visible()
    page.reload()
    expect(second).to_contain_text("An answer of default/busy.")


def test_who_called_a_tool_goes_on_whatever_is_chosen_meanwhile(seen: Seen) -> None:
    asked: list[dict[str, Any]] = []
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}

    def model(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        body = stream({"tool_calls": [call]} if len(asked) == 1 else {"content": "It rains."})
        route.fulfill(body=body, content_type="text/event-stream")

    seen.page.route("**/v1/chat/completions", model)
    talk(seen)
    seen.ask("Does it rain?")
    answer = seen.page.get_by_role("region", name="default/demo")
    answer.get_by_label("Result of weather").fill("rain")
    seen.page.get_by_label("Model", exact=True).select_option("default/busy")
    answer.get_by_role("button", name="Go on with this").click()
    expect(answer).to_contain_text("It rains.")
    assert [body["model"] for body in asked] == ["default/demo", "default/demo"]
