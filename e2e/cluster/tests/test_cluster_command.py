"""The command line: which cluster, which tools, and what is said when something is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cluster import buildah, existing, golang, images, kind, main, packages
from cluster.console import ClusterError, run, run_logged
from cluster.layout import REPOSITORY


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No provider chosen, and a home with somebody's own kubeconfig in it."""
    for name in ("E2E_PROVIDER", "E2E_KUBECONFIG", "E2E_REGISTRY", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text("somebody's own")


def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_provider_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2E_PROVIDER", "existing")
    assert main.provider() == "existing"
    assert main.provider("kind") == "kind"


def test_without_kind_and_an_engine_it_is_bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing_installed(monkeypatch, tmp_path)
    assert main.provider() == "bare"


def test_kind_is_taken_where_an_engine_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing_installed(monkeypatch, tmp_path)
    for name, code in (("kind", 0), ("docker", 1), ("podman", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    assert kind.engine() == "podman"
    assert main.provider() == "kind"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--provider", "minikube", "status"], 1, "bare, kind, existing"),
        (["up", "--fast"], 2, "--fast"),
        (["--provider", "existing", "kubeconfig"], 1, "E2E_KUBECONFIG"),
        (["--provider", "bare", "load-images", "gateway"], 1, "operator, runtime"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(words) == code
    assert said in capsys.readouterr().err


def test_an_existing_cluster_is_never_the_one_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError):
        existing.kubeconfig()
    monkeypatch.setenv("E2E_KUBECONFIG", "/somewhere/config")
    assert existing.kubeconfig() == Path("/somewhere/config")
    with pytest.raises(ClusterError, match="registry"):
        existing.registry()


def test_the_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing_installed(monkeypatch, tmp_path)
    assert {"containerd", "runc", "buildah", "iproute2", "openssl"} <= set(packages.missing())
    with pytest.raises(ClusterError, match=r"containerd.* runc") as caught:
        packages.install()  # there is no apt-get either
    assert "kind" in caught.value.remedy


def test_nothing_is_said_or_done_when_no_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing_installed(monkeypatch, tmp_path)
    (tmp_path / "tool").touch(mode=0o755)
    monkeypatch.setattr(packages, "PACKAGES", {"tool": "tools", str(tmp_path): "folders"})
    packages.install()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "found"), [("go1.26.8\n", (1, 26)), ("go1.24", (1, 24)), ("go1.27rc1", (1, 27)), ("devel", (0, 0))]
)
def test_the_release_of_a_go(text: str, found: tuple[int, int]) -> None:
    assert golang.version(text) == found


def test_an_old_go_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing_installed(monkeypatch, tmp_path)
    (tmp_path / "go").write_text("#!/bin/sh\necho go1.19.8\n")
    (tmp_path / "go").chmod(0o755)
    monkeypatch.setattr(golang, "_from_package", lambda: Path("/packaged/go"))
    assert golang.go() == Path("/packaged/go")


def test_every_image_has_its_dockerfile_and_stage() -> None:
    for image in images.IMAGES.values():
        text = (REPOSITORY / image.dockerfile).read_text()
        assert f" AS {image.target}\n" in text or not image.target
        assert "USER 65532:65532\n" in text


@pytest.mark.parametrize(
    ("registry", "plain"),
    [
        ("10.99.0.1:5000", True),
        ("localhost:5000/team", True),
        ("[::1]:5000", True),
        ("registry.example/team", False),
        ("8.8.8.8:5000", False),
    ],
)
def test_only_a_registry_nearby_may_go_without_tls(registry: str, plain: bool) -> None:
    assert buildah.plain(registry) is plain


def test_a_failing_program_is_quoted(tmp_path: Path) -> None:
    shell = shutil.which("sh", path=os.defpath) or "/bin/sh"
    with pytest.raises(ClusterError, match="exit code 3:\nwhy"):
        run(shell, "-c", "echo why >&2; exit 3")
    with pytest.raises(ClusterError, match="exit code 4:\nbecause"):
        run_logged(tmp_path / "log", shell, "-c", "echo because; exit 4")
    with pytest.raises(ClusterError, match="not installed"):
        run("no-such-program")
