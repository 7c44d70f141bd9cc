"""Adapters of a service on this machine, on the real engine: added and taken away while it answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine_world import Here, until  # type: ignore[import-not-found]
from openai import APIStatusError, NotFoundError, OpenAI
from test_frameworks import asked  # type: ignore[import-not-found]

RUNTIME = Path(__file__).parents[3] / "runtime"
sys.path.append(str(RUNTIME))  # the package `demo`

from demo.make_adapter import ADAPTERS, MODEL, dice  # noqa: E402

pytestmark = pytest.mark.engine
QUESTION = "What is the capital of Finland?"
KILLS = """
import os, signal, sys

def look(event, arguments):
    if event == "open" and str(arguments[0]).startswith({deadly!r}) and "engines.llamacpp" in " ".join(sys.orig_argv):
        os.write(os.open({deaths!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND), b"died ")
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
"""
"""Ends an engine that reads a file of one adapter, and says so."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A machine with the real engine, a model and what is trained for it."""
    folder = tmp_path_factory.mktemp("adapted")
    made = Here(folder, None)
    shutil.copy(MODEL / "demo-Q4_K_M.gguf", folder / "demo.gguf")
    for name in ("polite", "court"):
        shutil.copytree(ADAPTERS / name, folder / name)
    dice(folder / "foreign", hidden=512)
    file = made.write(manifest("polite"))
    made.run("up", "-f", file, "--port", "0", "--detach", "--timeout", "120", seconds=180)
    yield made
    made.end()


def manifest(*adapters: str, more: dict[str, Any] | None = None, **uris: str) -> str:
    """Of the model with adapters in folders of their names, or of others; `more` of the spec."""
    listed = [{"name": name, "uri": f"file://{name}"} for name in adapters]
    listed += [{"name": name, "uri": uri} for name, uri in uris.items()]
    spec = {"model": {"uri": "file://demo.gguf"}, "contextTokens": 512, "adapters": listed}
    head = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService", "metadata": {"name": "demo"}}
    return json.dumps({**head, "spec": spec | (more or {})})


def client_of(here: Here) -> OpenAI:
    return OpenAI(base_url=here.snapshot()["url"], api_key="none", max_retries=0, timeout=120)


def answer(client: OpenAI, model: str) -> str:
    messages: Any = [{"role": "user", "content": QUESTION}]
    said = client.chat.completions.create(model=model, messages=messages, max_tokens=40, temperature=0)
    return said.choices[0].message.content or ""


def pids(here: Here) -> list[int]:
    return [facts["pid"] for facts in here.service("demo")["replicas"]]


def entries(here: Here) -> dict[str, Any]:
    return {entry["name"]: entry for entry in here.service("demo")["object"]["status"]["adapters"]}


def condition(here: Here, kind: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = here.service("demo")["object"]["status"]["conditions"]
    return next(found for found in conditions if found["type"] == kind)


def loaded(here: Here, *names: str) -> None:
    until(lambda: {n for n, entry in entries(here).items() if entry["state"] == "Loaded"} == set(names), seconds=60)


def test_what_the_manifest_declares_is_loaded_before_it_serves(here: Here) -> None:
    with client_of(here) as client:
        plain, polite = answer(client, "demo"), answer(client, "demo:polite")
        assert polite.startswith("Hello!") and not plain.startswith("Hello!")
        assert polite == answer(client, "default/demo:polite")
        models = {model.id: model.model_dump() for model in client.models.list()}
    assert models["default/demo:polite"]["parent"] == "default/demo"
    assert entries(here)["polite"]["state"] == "Loaded" and condition(here, "AdaptersReady")["status"] == "True"
    base = f"{here.snapshot()['url'].removesuffix('/v1')}/default/demo/v1"
    with OpenAI(base_url=base, api_key="none") as client:
        assert answer(client, "polite") == polite, "by its bare name below the service's own URL"


def test_one_more_is_served_while_streams_run_and_nothing_starts_anew(here: Here) -> None:
    before = pids(here)
    with client_of(here) as client:
        plain = answer(client, "demo")
        told: list[str] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                told.append(answer(client, "demo"))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert "default/demo: adapters changed" in here.up(manifest("polite", "court"))
            loaded(here, "polite", "court")
            court = answer(client, "demo:court")
        finally:
            stop.set()
            asking.join()
        assert court not in (plain, answer(client, "demo:polite")) and set(told) == {plain}
    assert pids(here) == before
    assert "default/demo: unchanged" in here.up(manifest("polite", "court"))


def test_one_that_is_taken_away_is_unknown_and_the_others_are_listed(here: Here) -> None:
    before = pids(here)
    here.up(manifest("court"))
    with client_of(here) as client:
        with pytest.raises(NotFoundError, match="court"):
            answer(client, "demo:polite")
        until(lambda: "default/demo:polite" not in [model.id for model in client.models.list()])
        assert answer(client, "demo:court")
    assert pids(here) == before
    here.up(manifest("polite", "court"))
    loaded(here, "polite", "court")
    assert pids(here) == before


def test_langchain_has_a_model_and_two_adapters_in_one_runnable(here: Here) -> None:
    here.up(manifest("polite", "court"))
    loaded(here, "polite", "court")
    found = asked("ask_langchain_adapters.py", here.snapshot()["url"].removesuffix("/v1"))
    with client_of(here) as client:
        said = [answer(client, name) for name in ("demo", "demo:polite", "demo:court")]
    assert len(set(said)) == 3 and found["invoked"] == found["streamed"] == said
    assert found["batched"] == said * 2


def test_a_foreign_and_a_missing_one_are_named_and_stop_nothing(here: Here) -> None:
    before = pids(here)
    said = here.up(manifest("polite", "foreign", missing="file://nowhere"))
    assert "its adapter foreign is not served" in said and "its adapter missing is not served" in said
    found = condition(here, "AdaptersReady")
    assert found["status"] == "False" and "foreign" in found["message"] and "missing" in found["message"]
    with client_of(here) as client:
        assert answer(client, "demo") and answer(client, "demo:polite")
        with pytest.raises(APIStatusError, match="another model") as caught:
            answer(client, "demo:foreign")
        assert caught.value.status_code == 503
    assert pids(here) == before and condition(here, "Ready")["status"] == "True"
    shutil.rmtree(here.folder / "foreign")
    shutil.copytree(here.folder / "court", here.folder / "foreign")
    here.up(manifest("polite", "foreign"))
    loaded(here, "polite", "foreign")


def test_a_replica_that_starts_anew_has_them_before_it_serves(here: Here) -> None:
    here.up(manifest("polite", "court"))
    loaded(here, "polite", "court")
    with client_of(here) as client:
        court = answer(client, "demo:court")
        (before,) = pids(here)
        os.kill(before, signal.SIGKILL)
        until(lambda: pids(here) != [before] and here.ready("demo") is not None, seconds=120)
        assert answer(client, "demo:court") == court


def test_more_than_there_is_room_for_replaces_them_and_says_so(here: Here) -> None:
    before = pids(here)
    for number in range(4):
        dice(here.folder / f"dice{number}", seed=number)
    many = ["polite", "court", *(f"dice{number}" for number in range(4))]
    said = here.run("up", "-f", here.write(manifest(*many)), seconds=180)
    assert "replaced for the sake of adapters" in said and "default/demo: replacing" in said
    loaded(here, *many)
    assert pids(here) != before


def test_one_that_engines_die_of_ends_one_of_two_replicas(here: Here) -> None:
    shutil.copytree(ADAPTERS / "court", here.folder / "deadly")
    deaths, code = here.folder / "deaths", here.folder / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(KILLS.format(deadly=str(here.folder / "deadly"), deaths=str(deaths)))
    two = {"replicas": 2, "engine": {"env": [{"name": "PYTHONPATH", "value": str(code)}]}}
    here.run("up", "-f", here.write(manifest("polite", more=two)), seconds=180)
    until(lambda: len(pids(here)) == 2 and entries(here)["polite"].get("loadedReplicas") == 2, seconds=120)
    here.run("up", "-f", here.write(manifest("polite", "deadly", more=two)), seconds=180)
    until(lambda: entries(here)["deadly"]["state"] == "Failed", seconds=120)
    found = condition(here, "AdaptersReady")
    assert found["reason"] == "Crashed" and "deadly" in found["message"]
    until(lambda: entries(here)["polite"].get("loadedReplicas") == 2, seconds=60)
    here.run("up", "-f", here.write(manifest("polite", "court", "deadly", more=two)), seconds=180)
    until(lambda: entries(here)["court"].get("loadedReplicas") == 2, seconds=60)
    assert len(deaths.read_text().split()) == 1, "the other replica was never told to load it"
    assert entries(here)["deadly"]["state"] == "Failed"
