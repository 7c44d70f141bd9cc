"""Models that Ollama keeps on this machine: listed as Ollama lists them, served where they lie, and never touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ollama_world import Store  # type: ignore[import-not-found]

from llmservice_cli.chat.modelfile import of_service, take_over
from llmservice_cli.chat.session import Session
from llmservice_cli.main import main
from llmservice_cli.ollama import links
from llmservice_cli.ollama.links import linked, mend, relinked, revision_at
from llmservice_cli.ollama.names import parse_name
from llmservice_cli.ollama.store import kept, stores
from llmservice_runtime.contract.errors import UserError

LIBRARY = "registry.ollama.ai/library"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store(tmp_path / "models")
    monkeypatch.setenv("OLLAMA_MODELS", str(made.folder))
    monkeypatch.setenv("LLMSERVICE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LLMSERVICE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return made


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("llama3.2:3b", "llama3.2:3b"),
        ("acme/tuned", "acme/tuned:latest"),
        ("hf.co/acme/tuned:Q4_K_M", "hf.co/acme/tuned:Q4_K_M"),
        ("registry.ollama.ai/library/a:b", "a:b"),
        ("a/b/c/d", None),
        ("", None),
        ("../../etc/passwd", None),
        ("a:b:c", None),
    ],
)
def test_names_are_those_of_ollama(written: str, shown: str | None) -> None:
    name = parse_name(written)
    assert (name.shown if name else None) == shown


def test_models_are_found_by_their_names_whatever_the_case(store: Store) -> None:
    store.keep(f"{LIBRARY}/llama3.2/3b", model=b"GGUF one")
    store.keep("registry.ollama.ai/acme/Tuned/latest", model=b"GGUF two")
    found = kept(stores())
    assert [model.name.shown for model in found.models] == ["acme/Tuned:latest", "llama3.2:3b"]
    for word, size in (("llama3.2:3b", 8), ("ACME/tuned", 8), ("Llama3.2:3B", 8)):
        model = found.named(word)
        assert model is not None and model.problem is None and model.size == size
    assert found.named("llama3.2") is None


def test_what_is_no_file_holds_nobody_up(store: Store) -> None:
    store.keep(f"{LIBRARY}/llama3.2/3b", model=b"GGUF one")
    os.mkfifo(store.path(f"{LIBRARY}/llama3.2/never"))
    assert [model.name.shown for model in kept(stores()).models] == ["llama3.2:3b"]


def test_a_blob_that_is_no_file_holds_nobody_up(store: Store) -> None:
    digests = store.keep(f"{LIBRARY}/pipe/latest", model=b"GGUF", system=b"You are a pipe.")
    for kind in digests:
        store.blob_path(digests[kind]).unlink()
        os.mkfifo(store.blob_path(digests[kind]))
    model = kept(stores()).named("pipe")
    assert model is not None and model.problem is not None and "is no file" in model.problem.reason
    assert model.text("system") == ""


def test_links_lead_to_the_blobs_and_follow_what_ollama_pulls(store: Store, tmp_path: Path) -> None:
    digests = store.keep(f"{LIBRARY}/seer/latest", model=b"GGUF one", projector=b"GGUF eye", license=b"free")
    before = store.listing()
    model = kept(stores()).named("seer")
    assert model is not None
    folder = linked(model, tmp_path / "cache")
    assert {path.name: path.readlink() for path in folder.iterdir()} == {
        "seer-latest.gguf": store.blob_path(digests["model"]),
        "mmproj-seer-latest.gguf": store.blob_path(digests["projector"]),
    }
    assert store.listing() == before
    newer = store.keep(f"{LIBRARY}/seer/latest", model=b"GGUF newer")
    model = kept(stores()).named("seer")
    assert model is not None and linked(model, tmp_path / "cache") == folder
    assert [path.readlink() for path in folder.iterdir()] == [store.blob_path(newer["model"])]
    assert not relinked(model, tmp_path / "cache")
    newest = store.keep(f"{LIBRARY}/seer/latest", model=b"GGUF newest")
    model = kept(stores()).named("seer")
    assert model is not None and relinked(model, tmp_path / "cache") and not relinked(model, tmp_path / "cache")
    assert [path.readlink() for path in folder.iterdir()] == [store.blob_path(newest["model"])]
    assert of_service(f"file://{folder}", tmp_path / "cache") == model
    store.blob_path(newest["model"]).unlink()
    assert not mend(folder), "Ollama has none now"
    last = store.keep(f"{LIBRARY}/seer/latest", model=b"GGUF last")
    assert mend(folder / "seer-latest.gguf") and not mend(folder) and not mend(tmp_path)
    assert [path.readlink() for path in folder.iterdir()] == [store.blob_path(last["model"])]
    assert of_service("file:///elsewhere", tmp_path / "cache") is None
    planned = revision_at(folder, tmp_path / "cache")
    entry: dict[str, Any] = {"object": {"spec": {"model": {"uri": f"file://{folder}"}}, "status": {}}}
    assert links.newer(entry, tmp_path / "cache") is None, "it is being planned"
    entry["object"]["status"] = {"model": {"resolvedRevision": planned}}
    assert links.newer(entry, tmp_path / "cache") is None
    store.keep(f"{LIBRARY}/seer/latest", model=b"GGUF last", projector=b"GGUF other eye")
    found = links.newer(entry, tmp_path / "cache")
    assert found is not None and found.name.shown == "seer:latest"
    store.blob_path(last["model"]).unlink()
    assert links.newer(entry, tmp_path / "cache") is None, "it can't be served"
    assert revision_at(tmp_path, tmp_path / "cache") == ""


def test_links_that_can_t_be_followed_stop_nothing(store: Store, tmp_path: Path) -> None:
    """As one into a folder that this user may not search; Path.exists of Python 3.11 raises for either."""
    elsewhere = tmp_path / "models-of-mine"
    elsewhere.mkdir()
    store.keep(f"{LIBRARY}/seer/latest", model=b"GGUF one")
    model = kept(stores()).named("seer")
    assert model is not None
    for folder in (elsewhere, linked(model, tmp_path / "cache")):
        (folder / "other.gguf").symlink_to("/" + "x" * 300)
        assert not mend(folder) and not mend(folder / "other.gguf")
    assert not mend(Path("model.gguf")) and not mend(Path("/m.gguf"))


def cut(store: Store) -> None:
    blob = store.blob_path(store.keep(f"{LIBRARY}/sick/latest", model=b"GGUF and so on")["model"])
    blob.write_bytes(blob.read_bytes()[:5])


def gone(store: Store) -> None:
    store.blob_path(store.keep(f"{LIBRARY}/sick/latest", model=b"GGUF")["model"]).unlink()


def garbage(store: Store) -> None:
    store.keep(f"{LIBRARY}/sick/latest", model=b"GGUF")
    store.path(f"{LIBRARY}/sick/latest").write_text('{"layers": [{"digest": "sha256:../../x"}]}')


def endless(store: Store) -> None:
    store.keep(f"{LIBRARY}/sick/latest", model=b"GGUF")
    store.path(f"{LIBRARY}/sick/latest").write_bytes(b"[" * (2 << 20))


@pytest.mark.parametrize(
    ("harm", "reason", "remedy"),
    [
        (cut, "has 5 bytes of 14", "ollama pull sick:latest"),
        (gone, "lacks its file", "ollama pull sick:latest"),
        (garbage, "manifest of sick:latest is damaged", "ollama pull sick:latest"),
        (endless, "manifest of sick:latest is damaged", "ollama pull sick:latest"),
        (
            lambda store: store.keep(f"{LIBRARY}/sick/latest", tensor=b"x"),
            "single tensors",
            "llmservice run OWNER/NAME",
        ),
        (
            lambda store: store.keep(f"{LIBRARY}/sick/latest", params=b"{}"),
            "no files here",
            "llmservice run OWNER/NAME",
        ),
        (
            lambda store: store.keep(f"{LIBRARY}/sick/latest", model=b"GGUF", adapter=b"GGUF"),
            "LoRA adapter that Ollama always adds",
            "spec.adapters",
        ),
    ],
)
def test_what_is_wrong_with_one_is_named_and_hides_no_other(
    store: Store, harm: Callable[[Store], object], reason: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(store)
    store.keep(f"{LIBRARY}/well/latest", model=b"GGUF well")
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert "well:latest" in said and "(can't be served)" in said and reason in said
    assert main(["run", "sick"]) == 1
    error = capsys.readouterr().err
    assert reason in error and remedy in error and "Traceback" not in error


def test_a_store_that_may_not_be_read_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As that of a service, which is another user's."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(store.folder))

    store.keep(f"{LIBRARY}/well/latest", model=b"GGUF")
    monkeypatch.setattr("llmservice_cli.ollama.store.os.walk", refuse)
    assert main(["models"]) == 0
    assert f"Ollama's {store.folder} can't be read: Permission denied." in capsys.readouterr().out
    assert main(["run", "well"]) == 1
    error = capsys.readouterr().err
    assert "can't be read" in error and "ollama pull well" in error


def test_a_name_that_nobody_has_is_told_with_those_that_are_there(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.keep(f"{LIBRARY}/well/latest", model=b"GGUF")
    assert main(["run", "nobody"]) == 1
    error = capsys.readouterr().err
    assert "'nobody' is no model that Ollama keeps here (well:latest), and no service." in error
    assert "OWNER/NAME:Q4_K_M" in error and "ollama pull nobody" in error


def test_nothing_of_ollamas_is_removed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.keep(f"{LIBRARY}/well/latest", model=b"GGUF")
    before = store.listing()
    for words in (["rm", "well"], ["models", "rm", "well:latest"]):
        assert main(words) == 1
        assert "fix: ollama rm well" in capsys.readouterr().err
    assert main(["models", "prune"]) == 0
    assert store.listing() == before
    assert main(["pull", "well"]) == 0
    assert "is here, in Ollama's store" in capsys.readouterr().out
    assert main(["models", "-o", "json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["store"], entry["uri"], entry["bytes"], entry["complete"]) == ("ollama", "well:latest", 4, True)


def test_what_a_modelfile_says_holds_in_the_conversation(store: Store) -> None:
    params = {"temperature": 0.5, "stop": ["<end>"], "num_ctx": 4096, "mirostat": 2}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ahoy"}, {"role": "tool"}]
    store.keep(
        f"{LIBRARY}/pirate/latest",
        model=b"GGUF",
        system=b"You are a pirate.",
        params=json.dumps(params).encode(),
        messages=json.dumps(turns).encode(),
    )
    model = kept(stores()).named("pirate")
    assert model is not None
    session = Session("default/pirate")
    said = list(take_over(session, model))
    assert any("mirostat is not taken" in sentence for sentence in said)
    body = session.asked("Who?")
    assert (body["temperature"], body["stop"]) == (0.5, ["<end>"])
    assert [turn["content"] for turn in body["messages"]] == ["You are a pirate.", "Hi", "Ahoy", "Who?"]
    own = Session("default/pirate", system="You are a parrot.", options={"temperature": 1.0})
    list(take_over(own, model))
    assert own.asked("Who?")["messages"][0]["content"] == "You are a parrot." and own.options["temperature"] == 1.0
    session.other_model("default/other")
    assert session.asked("Who?") == Session("default/other").asked("Who?")


def test_a_damaged_modelfile_says_nothing(store: Store) -> None:
    store.keep(f"{LIBRARY}/odd/latest", model=b"GGUF", params=b"[1", messages=b'{"a": ' * 5000, system=b"\xff\xfe")
    model = kept(stores()).named("odd")
    assert model is not None
    assert list(take_over(Session("x"), model)) and linked(model, store.folder.parent / "cache").is_dir()


def test_a_text_that_is_too_long_says_nothing(store: Store) -> None:
    store.keep(f"{LIBRARY}/long/latest", model=b"GGUF", system=b"x" * ((1 << 20) + 1))
    model = kept(stores()).named("long")
    assert model is not None and list(take_over(Session("x"), model)) == []


def test_a_cache_that_can_not_be_written_is_named(store: Store, tmp_path: Path) -> None:
    store.keep(f"{LIBRARY}/well/latest", model=b"GGUF")
    (tmp_path / "cache").write_text("a file")
    model = kept(stores()).named("well")
    assert model is not None
    with pytest.raises(UserError, match="can't be written"):
        linked(model, tmp_path / "cache")
