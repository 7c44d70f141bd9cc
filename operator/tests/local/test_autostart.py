"""A unit of systemd's, for who has one; and what is said where there is none."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path

import pytest
import yaml

from llmservice_api.manifest import load_manifests
from llmservice_cli.autostart.manifests import manifests
from llmservice_cli.autostart.unit import quoted, unit
from llmservice_cli.commands import up
from llmservice_cli.front_options import front_of, words_of
from llmservice_cli.local.client import Control
from llmservice_cli.local.front import Front
from llmservice_cli.main import main

FRONT = Front()
MANIFEST = """apiVersion: llmservice.dev/v1alpha1
kind: LLMService
metadata: {name: demo}
spec: {model: {uri: "hf://acme/demo"}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's, with a systemd that says yes and writes down what it was asked."""
    for name in ("XDG_CONFIG_HOME", "HF_TOKEN", "OLLAMA_MODELS", "LLMSERVICE_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LLMSERVICE_STATE_DIR", str(tmp_path / "state 100%"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "loginctl"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/asked\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "demo.yaml").write_text(MANIFEST)
    return tmp_path


def test_a_unit_is_written_and_enabled_and_goes_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["autostart", "-f", str(home / "demo.yaml"), "--port", "11434"]) == 0
    path = home / ".config/systemd/user/llmservice.service"
    text = path.read_text()
    (start,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(start.removeprefix("ExecStart="))
    assert words[1:] == ["up", "-f", str(home / "demo.yaml"), "--port", "11434"] and Path(words[0]).name == "llmservice"
    assert f'Environment="LLMSERVICE_STATE_DIR={home}/state 100%%"' in text
    assert "enable --now llmservice.service" in (home / "asked").read_text()
    assert "loginctl enable-linger" in capsys.readouterr().out
    assert main(["autostart", "--off"]) == 0
    assert not path.exists() and "disable --now llmservice.service" in (home / "asked").read_text()
    assert main(["autostart", "--off"]) == 0
    assert "nothing starts by itself" in capsys.readouterr().out


def test_no_secret_is_written(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abc123")
    monkeypatch.setenv("OLLAMA_MODELS", "/models")
    assert main(["autostart", "-f", str(home / "demo.yaml")]) == 0
    text = (home / ".config/systemd/user/llmservice.service").read_text()
    assert "hf_abc123" not in text and "Environment=OLLAMA_MODELS=/models" in text
    assert "HF_TOKEN" in capsys.readouterr().out


def test_where_there_is_no_systemd_that_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["autostart", "-f", str(home / "demo.yaml")]
    (home / "bin/systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n")
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "No medium found" in error and "~/.profile" in error
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(words) == 1
    assert "this machine has no systemd" in capsys.readouterr().err
    assert not (home / ".config").exists()
    assert main([*words, "--print"]) == 0
    assert "ExecStart=" in capsys.readouterr().out


def test_a_mistake_in_a_manifest_is_told_at_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "demo.yaml").write_text(MANIFEST.replace("uri", "url"))
    assert main(["autostart", "-f", str(home / "demo.yaml")]) == 1
    assert "spec.model" in capsys.readouterr().err
    assert main(["autostart"]) == 1
    assert "no service runs that could be started again" in capsys.readouterr().err
    assert not (home / ".config/systemd").exists()


def test_what_runs_is_written_so_that_it_runs_again(tmp_path: Path) -> None:
    text = MANIFEST.replace("hf://acme/demo", "file://models/demo.gguf").replace(
        "{model", "{scaling: {minReplicas: 0, maxReplicas: 1}, adapters: [{name: a, uri: 'file:///a.gguf'}], model"
    )
    (tmp_path / "x.yaml").write_text(text)
    (loaded,) = load_manifests([tmp_path / "x.yaml"])
    shown = {**loaded.service.to_manifest(), "status": {"replicas": 1}}
    shown["spec"]["replicas"] = 0
    (tmp_path / "y.yaml").write_text(yaml.safe_dump_all(manifests([{"object": shown, "base": "/here"}])))
    (again,) = load_manifests([tmp_path / "y.yaml"])
    assert again.service.spec.model.uri == "file:///here/models/demo.gguf"
    assert again.service.spec.replicas == 1 and again.service.spec.scaling == loaded.service.spec.scaling
    assert again.service.spec.adapters[0].uri == "file:///a.gguf"


def running(monkeypatch: pytest.MonkeyPatch, *names: str, front: Front = FRONT) -> None:
    """These services run."""
    kind = {"apiVersion": "llmservice.dev/v1alpha1", "kind": "LLMService"}
    spec = {
        "model": {"uri": "hf://acme/demo"},
        "engine": {"env": [{"name": "TOKEN", "value": "secret"}]},
    }
    entries = [
        {"object": {**kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}, "base": "/"}
        for name in names
    ]
    now = {"url": "http://127.0.0.1:8080/v1", "services": entries, "front": json.loads(front.to_json())}
    monkeypatch.setattr(Control, "snapshot", lambda _: now)


def test_what_was_edited_stays_and_others_can_not_read_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / ".config/llmservice/services.yaml"
    for names in (["demo"], ["demo", "other"]):  # nobody edits it between these
        running(monkeypatch, *names)
        assert main(["autostart"]) == 0
        assert [one.service.metadata.name for one in load_manifests([file])] == names
        assert file.stat().st_mode & 0o777 == 0o600
    mine = file.read_text().replace("hf://acme/demo", "hf://acme/better")
    file.write_text(mine)
    running(monkeypatch, "demo", "other", "third")
    capsys.readouterr()
    assert main(["autostart"]) == 0
    said = capsys.readouterr().out
    assert "was edited, and stays as it is. It lacks default/third." in said
    assert file.read_text() == mine


def test_a_unit_that_was_edited_is_not_written_over(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["autostart", "-f", str(home / "demo.yaml")]
    assert main(words) == main(words) == 0
    path = home / ".config/systemd/user/llmservice.service"
    mine = path.read_text() + "Nice=10\n"
    path.write_text(mine)
    assert main(words) == 1
    assert "was edited" in capsys.readouterr().err and path.read_text() == mine
    assert main(["autostart", "--off"]) == 0
    assert path.with_name("llmservice.service.edited").read_text() == mine
    path.write_text("# Written by `llmservice autostart`; `llmservice autostart --off` removes it.\n[Unit]\n")
    assert main(words) == 1
    assert "is of another release" in capsys.readouterr().err, "of one before"
    assert main(["autostart", "--off"]) == 0
    assert main(words) == 0


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain/path-1.yaml", "plain/path-1.yaml"),
        ("a b", '"a b"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "x" \\', '"say \\"x\\" \\\\"'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, written: str) -> None:
    assert quoted(word, "$") == written


def test_only_variables_that_are_set_stand_in_a_unit() -> None:
    assert "Environment=" not in unit(["x"], {"HF_TOKEN": "y"})


def options(home: Path) -> list[str]:
    """What the unit has `up` do, beside the manifests."""
    text = (home / ".config/systemd/user/llmservice.service").read_text()
    (start,) = (line for line in text.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(start.removeprefix("ExecStart="))[1:]
    return [word for at, word in enumerate(words[1:]) if "-f" not in (word, words[at])]


def test_it_starts_as_what_runs_now_was_started_unless_something_else_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running(monkeypatch, "demo", front=Front(launch=("hf",), console=False))
    assert main(["autostart"]) == 0
    assert options(home) == ["--port", "8080", "--allow-launch", "hf", "--no-console"]
    assert "--allow-launch hf --no-console\n" in capsys.readouterr().out, "nobody gives leave unseen"
    assert main(["autostart", "-f", str(home / "demo.yaml"), "--allow-launch", "s3", "--port", "0", "--yes"]) == 0
    assert options(home) == ["--port", "0", "--allow-launch", "s3", "--no-console", "--yes"]
    capsys.readouterr()
    assert main(["autostart", "--host", "0.0.0.0"]) == 1
    assert "--allow-launch lets whoever reaches the gateway" in capsys.readouterr().err
    running(monkeypatch, front=Front(launch=("hf",)))
    (home / ".config/llmservice/services.yaml").unlink()
    assert main(["autostart"]) == 0, "clients launch what it serves"
    assert options(home) == ["--port", "8080", "--allow-launch", "hf"]


@pytest.mark.parametrize(
    "front",
    [
        Front(),
        Front("0.0.0.0", ("a.example", "*"), ("https://a.example",), 1234567.5, 3 << 29, console=False),
        Front(launch=("hf", "*"), memory_bytes=(8 << 30) + 4096),
    ],
)
def test_the_options_of_up_say_how_an_instance_meets_its_clients(front: Front) -> None:
    parser = argparse.ArgumentParser()
    up.configure(parser)
    said = json.loads(front.to_json())
    assert Front.of({**said, "later": [1]}) == front, "an instance of a later release has more to say"
    assert Front.of({"host": front.host}) == Front(front.host), "and one of an earlier release less"
    assert front_of(parser.parse_args(list(words_of(front)))) == front


def test_code_that_a_repository_brings_takes_leave(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "demo.yaml").write_text(MANIFEST.replace('acme/demo"', 'acme/demo", trustRemoteCode: true'))
    words = ["autostart", "-f", str(home / "demo.yaml")]
    assert main(words) == 1
    assert "autostart --allow-remote-code" in capsys.readouterr().err and not (home / ".config").exists()
    assert main([*words, "--allow-remote-code"]) == 0
    assert options(home) == ["--allow-remote-code"]
