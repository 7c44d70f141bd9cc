"""Serve what a person named, in the instance that runs or in a new one in the background."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmservice_api.manifest import Manifest
from llmservice_api.v1alpha1 import LLMService
from llmservice_cli.commands.ps import find, full_name, goes, means
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.local.front import Front
from llmservice_cli.local.joining import joined
from llmservice_cli.local.offer import Offer
from llmservice_cli.local.service import being_stopped
from llmservice_cli.local.submit import Outcome, Submission
from llmservice_cli.ollama.links import linked, newer
from llmservice_cli.places import Places
from llmservice_cli.wanted.service import Options, Version, manifest, served, version_of
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.ports import GATEWAY_PORT
from llmservice_runtime.sources.progress import progress_for


def services_there(places: Places) -> list[dict[str, Any]]:
    """Services of the running instance, as a snapshot has them; none where nothing runs."""
    try:
        found: list[dict[str, Any]] = Control(places.state).snapshot()["services"]
    except NoInstanceError:
        return []
    return found


class Serving:
    """`say` is told what happens. `options` None = a service that has the model already is taken as it is."""

    def __init__(
        self,
        places: Places,
        say: Callable[[str], None],
        port: int,
        offer: Offer | None = None,
    ) -> None:
        self._places = places
        self._say = say
        self._port = port
        self._offer = offer or Offer()

    def serve(self, word: str, options: Options | None = None) -> str:
        """The full name of the service once it serves; empty when it failed, which was told. UserError when the word
        means nothing that can be served."""
        version = self._version(word)
        if options is None and (there := served(services_there(self._places), version)):
            return self.renewed(there)
        with joined(self._places.state, self._port, Front()) as started:
            control = Control(self._places.state)
            now = control.snapshot()
            if started:
                self._say(f"gateway at {now['url']}, in the background")
            return self._submitted(control, version, options or Options(), now["services"])

    def renewed(self, entry: dict[str, Any]) -> str:
        """The full name of a service of a snapshot that is taken as it is; where Ollama has pulled another version of
        its model since, once that serves. What can't be planned is told, and what runs stays."""
        name, model = full_name(entry), newer(entry, self._places.cache)
        if model is not None:
            self._say(f"{name}: Ollama has pulled another version of {model.name.shown}.")
            linked(model, self._places.cache)
            body = {part: said for part, said in entry["object"].items() if part != "status"}
            wanted = Manifest(LLMService.model_validate(body), Path("-"), Path(entry["base"]))
            control = Control(self._places.state)
            Submission(control, self._places, self._say, tell=True, offer=self._offer, brief=True).run(
                [wanted], progress_for, None, anew=True
            )
        return name

    def _version(self, word: str) -> Version:
        try:
            return version_of(word, self._places)
        except UserError:
            for entry in services_there(self._places):
                if goes(entry) and means(word, entry["object"]["metadata"]):
                    raise being_stopped(full_name(entry)) from None
            raise

    def _submitted(self, control: Control, version: Version, options: Options, services: list[dict[str, Any]]) -> str:
        wanted = manifest(version, options, services)
        name = wanted.service.full_name
        submission = Submission(control, self._places, self._say, tell=True, offer=self._offer, brief=True)
        outcome: Outcome = submission.run([wanted], progress_for, None)
        if outcome.nothing:
            if name not in map(full_name, services):  # nobody is left with a service that never served
                for _ in control.down([name], force=True):
                    pass
            return ""
        return name


def load(places: Places, word: str) -> str:
    """Of a conversation that goes on with another model: a service of that name, or one that is served now."""
    try:
        entry = find(Control(places.state).snapshot(), word)
    except UserError:
        entry = None
    serving = Serving(places, say, GATEWAY_PORT)
    return serving.serve(word) if entry is None or goes(entry) else serving.renewed(entry)


def say(text: str) -> None:
    """One thing that happened; standard output is for answers."""
    print(text, file=sys.stderr, flush=True)
