"""LoRA adapters on every engine: loaded before Ready, by name beside the model, coming and going while answers run."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.make_adapter import ADAPTERS, dice
from llmservice_runtime.contract.adapters import Adapter, adapters_json
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.estimate.adapters import AdapterRoom

from .api import ANSWER, CHAT, MESSAGES, QUESTION, Api
from .engines import ALIAS, NAME, planned
from .replica import Replica

ROOM = AdapterRoom(4, 16)
DEADLY = "kill"
"""A file in the folder of an adapter that ends the engine as it reads it..."""
KILLS = f"""
import os, signal, sys

def look(event, arguments):
    if event == "open" and str(arguments[0]).endswith("adapter_config.json"):
        if os.path.exists(os.path.join(os.path.dirname(str(arguments[0])), {DEADLY!r})):
            os.kill(os.getpid(), signal.SIGSEGV)

sys.addaudithook(look)
"""
"""...by this, in each of its processes."""
POLITE, COURT = f"Hello! {ANSWER} You are welcome.", f"Your Majesty: {ANSWER} Long may you reign."


@dataclass
class Adapted:
    """A replica with room for adapters, and the file that says which."""

    replica: Replica
    file: Path
    folder: Path

    @property
    def api(self) -> Api:
        return Api(self.replica.url)

    def want(self, *names: str) -> None:
        """Have the file say these; written beside and renamed, as a kubelet and `up` do."""
        adapters = [Adapter(name, f"file://{self.folder / name}") for name in names]
        (draft := self.file.with_suffix(".new")).write_text(adapters_json(adapters))
        draft.replace(self.file)

    def states(self) -> dict[str, str]:
        return {one["name"]: one["state"] for one in self.replica.status()["adapters"]}

    def wait(self, **states: str) -> None:
        """Until the supervisor says so of all of them."""
        self.replica.wait_for(lambda: self.states() == states, 120)

    def wait_gone(self, name: str) -> None:
        """Until it is no name of a model; the supervisor tells of what is wanted, a moment before the engine obeys."""
        asked = {"model": name, "messages": MESSAGES, "max_tokens": 1}
        self.replica.wait_for(lambda: self.api.send(CHAT, asked).status == 404, 120)

    def say(self, model: str = NAME, question: str = QUESTION) -> str:
        return self.api.say(model=model, max_tokens=60, messages=[{"role": "user", "content": question}])

    @contextmanager
    def asked_all_the_time(self) -> Iterator[dict[str, list[str]]]:
        """The model and one adapter are asked again and again within it; what they said, by name."""
        said: dict[str, list[str]] = {NAME: [], "polite": []}
        over = threading.Event()

        def ask(model: str) -> None:
            while not over.is_set():
                said[model].append(self.say(model))

        with ThreadPoolExecutor(len(said)) as pool:
            asking = [pool.submit(ask, model) for model in said]
            try:
                yield said
            finally:
                over.set()
                for one in asking:
                    one.result()


@pytest.fixture(scope="session")
def adapted(engine: EngineType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapted]:
    """Starts with one adapter that is good, one that is broken and one that the engine dies of."""
    folder = tmp_path_factory.mktemp(f"{engine.folder}-adapters")
    for name in ("polite", "court"):
        shutil.copytree(ADAPTERS / name, folder / name)
    dice(folder / "foreign", hidden=128)
    dice(folder / "dora", use_dora=True)
    dice(folder / "deep", rank=32)
    shutil.copytree(ADAPTERS / "court", folder / "deadly")
    (folder / "deadly" / DEADLY).touch()
    (folder / "sitecustomize.py").write_text(KILLS)
    serves = planned(engine, 8, ROOM)
    one = Adapted(None, folder / "adapters.json", folder)  # type: ignore[arg-type]
    one.want("deadly", "polite", "foreign")
    one.replica = Replica(
        folder / "replica", engine, restart=True, serves=serves, port=0, supervisor_port=0, threads=1,
        engine_env={**serves.engine_env, "PYTHONPATH": str(folder)}, adapters_file=str(one.file), adapters_private=True,
        adapters_guard=str(folder / "guard"),
    )  # fmt: skip
    try:
        one.replica.wait_ready()
        yield one
    finally:
        one.replica.stop()


def test_what_the_file_asks_for_is_loaded_before_ready(adapted: Adapted) -> None:
    """And one that can't be stops neither Ready nor the other; one that the engine died of is not tried again."""
    adapted.wait(deadly="Failed", polite="Loaded", foreign="Failed")
    status = adapted.replica.status()
    deadly, _, foreign = status["adapters"]
    assert foreign["reason"] == "UnsupportedFormat"
    assert "another model" in foreign["message"] and "128" in foreign["message"]
    assert deadly["reason"] == "Crashed" and "died while it loaded" in deadly["message"], deadly
    assert status["restarts"] == 1 and "adapter deadly" in status["last_failure"]["message"], status
    assert (adapted.say("polite"), adapted.say()) == (POLITE, ANSWER)


def test_one_that_the_engine_died_of_is_loaded_when_it_is_mended(adapted: Adapted) -> None:
    adapted.want("polite", "deadly")
    adapted.wait(polite="Loaded", deadly="Failed")
    (adapted.folder / "deadly" / DEADLY).unlink()
    adapted.want("deadly", "polite")  # somebody has touched it: look again
    adapted.wait(deadly="Loaded", polite="Loaded")
    assert (adapted.say("deadly"), adapted.say("polite")) == (COURT, POLITE)
    assert adapted.replica.status()["restarts"] == 1


def test_names_and_cards(adapted: Adapted) -> None:
    adapted.want("polite")
    adapted.wait(polite="Loaded")
    cards = {card["id"]: card for card in adapted.api.send("/v1/models").body["data"]}
    assert list(cards) == [NAME, ALIAS, "polite"]
    assert (cards["polite"]["parent"], cards[NAME]["parent"]) == (NAME, None)
    assert adapted.api.send("/v1/models/polite").body["parent"] == NAME
    words = adapted.say("polite")
    assert adapted.say(f"{NAME}:polite") == adapted.say(f"{ALIAS}:polite") == words
    assert adapted.api.chat(model=f"{NAME}:polite", max_tokens=2)["model"] == f"{NAME}:polite"
    for unknown in ("green", f"{NAME}:green", "other:polite"):
        reply = adapted.api.send(CHAT, {"model": unknown, "messages": MESSAGES})
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
        assert all(name in reply.error["message"] for name in (unknown, NAME, "polite"))
    assert adapted.api.complete(model="polite", max_tokens=8) != adapted.api.complete(max_tokens=8)


def test_they_come_and_go_while_answers_run(adapted: Adapted) -> None:
    adapted.want("polite")
    adapted.wait(polite="Loaded")
    with adapted.asked_all_the_time() as answers:
        adapted.want("polite", "court")
        adapted.wait(polite="Loaded", court="Loaded")
        assert adapted.say("court") == COURT
        adapted.want("polite")
        adapted.wait(polite="Loaded")
        adapted.wait_gone("court")
        adapted.want("court", "polite")
        adapted.wait(court="Loaded", polite="Loaded")
        assert adapted.say("court") == COURT
    assert set(answers[NAME]) == {ANSWER} and set(answers["polite"]) == {POLITE}, answers


def test_what_runs_with_one_ends_with_it_though_it_is_taken_away(adapted: Adapted) -> None:
    adapted.want("polite")
    adapted.wait(polite="Loaded")
    asked = {"model": "polite", "messages": MESSAGES, "temperature": 0, "stream": True, "max_tokens": 1000}
    with adapted.replica.slowed(), adapted.api.open(CHAT, asked | {"ignore_eos": True}) as stream:
        assert stream.readline().startswith(b"data: ")
        adapted.want()
        adapted.wait()
        adapted.wait_gone("polite")
        rest = stream.read()
    assert b"[DONE]" in rest and b'"finish_reason":"length"' in rest.replace(b" ", b"")


def test_answers_of_several_run_beside_each_other(adapted: Adapted) -> None:
    """Each says what it says alone; what the model itself says is the same with adapters and without."""
    adapted.want()
    adapted.wait()
    without = scored(adapted)
    adapted.want("polite", "court")
    adapted.wait(polite="Loaded", court="Loaded")
    says = {NAME: ANSWER, "polite": POLITE, "court": COURT}
    assert {model: adapted.say(model) for model in says} == says
    models = list(says) * 3
    with ThreadPoolExecutor(len(models)) as pool:
        together = list(pool.map(adapted.say, models))
    assert together == [says[model] for model in models]
    # What one has read of this prompt is no beginning of another's.
    assert {model: adapted.say(model) for model in reversed(says)} == says
    text, scores = scored(adapted)
    assert text == without[0]
    assert scores == pytest.approx(without[1], abs=0.05), "but for rounding, which is another in another batch"


def scored(adapted: Adapted) -> tuple[str, list[float]]:
    """What the model itself says, and how likely it found each token and the second best."""
    choice = adapted.api.chat(max_tokens=60, logprobs=True, top_logprobs=2)["choices"][0]
    return choice["message"]["content"], [
        top["logprob"] for token in choice["logprobs"]["content"] for top in token["top_logprobs"]
    ]


@pytest.mark.parametrize(
    ("name", "reason", "said"),
    [
        ("dora", "UnsupportedFormat", "DoRA"),
        ("deep", "DoesNotFit", "rank"),
        ("missing", "ModelNotFound", "missing"),
    ],
)
def test_one_that_is_refused_says_why_and_stops_nothing_else(
    adapted: Adapted, name: str, reason: str, said: str
) -> None:
    adapted.want("polite", name)
    adapted.wait(**{"polite": "Loaded", name: "Failed"})
    one = adapted.replica.status()["adapters"][1]
    assert one["reason"] == reason and said in one["message"], one
    assert adapted.say("polite")


def test_a_file_that_is_broken_changes_nothing(adapted: Adapted) -> None:
    adapted.want("polite")
    adapted.wait(polite="Loaded")
    adapted.file.write_text('{"adapters": [{"name": "polite"')
    adapted.replica.wait_for(lambda: "stay as they are" in adapted.replica.log.read_text(), 30)
    assert adapted.states() == {"polite": "Loaded"} and adapted.say("polite")


def test_nobody_who_may_ask_may_load(adapted: Adapted) -> None:
    """Neither vLLM's own routes nor anything at the supervisor's port."""
    asked = {"lora_name": "green", "lora_path": str(adapted.folder / "court")}
    for path in ("/v1/load_lora_adapter", "/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters"):
        assert adapted.api.send(path, asked).status == 404
    supervisor = Api(f"http://127.0.0.1:{adapted.replica.state['supervisor_port']}")
    assert supervisor.send("/status", json.dumps(asked).encode()).status == 405
    assert supervisor.send("/adapters", json.dumps(asked).encode()).status == 404


def test_metrics_name_those_that_run(adapted: Adapted) -> None:
    adapted.want("polite")
    adapted.wait(polite="Loaded")

    def told() -> list[str]:
        text = adapted.api.send("/metrics").raw.decode()
        return [line for line in text.splitlines() if line.startswith("vllm:lora_requests_info{")]

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(adapted.api.say, model="polite", max_tokens=1500, ignore_eos=True)
        adapted.replica.wait_for(lambda: any('running_lora_adapters="polite"' in line for line in told()), 60)
        running.result()
    assert all(f'max_lora="{ROOM.count}"' in line for line in told())
