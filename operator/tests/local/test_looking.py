"""ps, logs and chat on one running instance."""

from __future__ import annotations

import json

import yaml
from machine_world import Here  # type: ignore[import-not-found]

from llmservice_api.v1alpha1 import LLMService


def test_one_broken_service_does_not_keep_the_other_from_serving(running: Here) -> None:
    assert "default/broken: failed (ModelNotFound)" in running.said
    assert "serving default/demo at http://127.0.0.1:" in running.said


def test_ps_shows_both_with_the_reason(running: Here) -> None:
    lines = running.run("ps").splitlines()
    assert lines[0].split() == ["NAME", "MODEL", "ENGINE", "READY", "URL", "STATUS"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert "0/1" in rows["default/broken"] and "ModelNotFound" in rows["default/broken"]
    assert "2/2" in rows["default/demo"] and rows["default/demo"].endswith("Ready")
    header = running.run("ps", "-o", "wide").splitlines()[0]
    assert "RESTARTS" in header and "MEMORY" in header and "LOADED" in header


def test_ps_gives_objects_of_the_api(running: Here) -> None:
    body = json.loads(running.run("ps", "-o", "json"))
    assert yaml.safe_load(running.run("ps", "-o", "yaml")) == body
    services = {item["metadata"]["name"]: LLMService.model_validate(item) for item in body["items"]}
    status = services["demo"].status
    assert status is not None and status.url is not None and status.url.endswith("/default/demo/v1")
    assert {item.type: item.status for item in status.conditions}["Ready"] == "True"
    broken = services["broken"].status
    assert broken is not None
    assert {item.type: item.reason for item in broken.conditions}["ModelResolved"] == "ModelNotFound"


def test_chat_reads_a_question_from_a_pipe_or_an_option(running: Here) -> None:
    assert running.run("chat", "demo", stdin="hello\n") == "word0 word1 word2 \n"
    assert running.run("chat", "default/demo", "--prompt", "hello") == "word0 word1 word2 \n"


def test_chat_says_what_is_wrong(running: Here) -> None:
    assert "there is no service `nobody`" in running.run("chat", "nobody", code=1)
    assert "ModelNotFound" in running.run("chat", "broken", "--prompt", "x", code=1)
    assert "there is no question" in running.run("chat", "demo", code=1)


def test_logs_of_each_replica(running: Here) -> None:
    assert "[0] supervisor: Loading" in running.run("logs", "demo")
    said = running.run("logs", "demo", "--replica", "1", "--tail", "1")
    assert said.startswith("supervisor: Ready on 127.0.0.1:") and said.count("\n") == 1
    assert "no replica 7" in running.run("logs", "demo", "--replica", "7", code=1)
    assert "no log of a service `x`" in running.run("logs", "x", code=1)


def test_snippets_name_the_service_and_the_address(running: Here) -> None:
    said = running.run("ps", "--snippets", "demo")
    assert running.snapshot()["url"] in said and '"default/demo"' in said and "curl -N" in said
