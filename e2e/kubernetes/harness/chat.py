"""Clients in the cluster: pods with openai-python. What they run stands in ../client and comes by standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import release
from harness.api import Api
from harness.programs import ROOT, kubectl
from harness.report import report
from harness.wait import wait_for

PROGRAMS = Path(__file__).parent.parent / "client"


class Client:
    """A pod in which programs of ../client run, on a node of the scheduler's choice or on `node`."""

    def __init__(self, api: Api, namespace: str, image: str, name: str = "client", node: str = "") -> None:
        self.api, self.namespace, self.name = api, namespace, name
        self.key = ""
        container = {
            "name": "client",
            "image": image,
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
        spec |= {"nodeName": node} if node else {}
        api.create("pods", namespace, {"metadata": {"name": name}, "spec": spec})

    def wait(self) -> Client:
        """Until the pod runs."""

        def runs() -> bool:
            phase = self.api.get("pods", self.namespace, self.name)["status"]["phase"]
            return str(phase) == "Running"

        wait_for(runs, "the client's pod runs", 60, lambda: report(self.api, self.namespace))
        return self

    def words(self, *arguments: str) -> list[str]:
        """kubectl's arguments that run Python on standard input in the pod, with these arguments.

        Its clients send `key`, by default the installation's first one; what has no gateway looks at none.
        """
        key = f"OPENAI_API_KEY={self.key or release.first_key(self.api)}"
        return ["--namespace", self.namespace, "exec", "-i", self.name, "--", "env", key, "python", "-", *arguments]

    def run(self, program: str, *arguments: str, seconds: float = 60) -> Any:
        """Run client/PROGRAM.py to its end; the JSON that it printed last."""
        self.wait()
        printed = kubectl(*self.words(*arguments), stdin=(PROGRAMS / f"{program}.py").read_text(), seconds=seconds)
        return json.loads(printed.splitlines()[-1])

    def chat(self, url: str, question: str, stream: bool = False) -> str:
        """Ask by openai-python; the answer's text."""
        return str(self.run("chat", url, question, "stream" if stream else "whole")["answer"])


def trained_answer(question: str) -> str:
    """What the demo model was trained to say."""
    pairs = json.loads((ROOT / "runtime" / "demo" / "questions.json").read_text())
    return next(str(pair["answer"]) for pair in pairs if pair["question"] == question)
