"""Ollama's /api/pull and /api/delete: what is to be there, and the lines that tell how far it is."""

from __future__ import annotations

import hashlib

from llmservice_gateway.dialects.dialect import text_of
from llmservice_gateway.dialects.ollama_answer import error_of, unbroken
from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields
from llmservice_gateway.launching.launcher import Download
from llmservice_gateway.launching.wish import Leave, Wish, checked
from llmservice_gateway.routing import LATEST
from llmservice_runtime.wire.errors import ApiError, bad_request

BY = "ollama"
IDLE_SECONDS = 300
"""As long as Ollama keeps a model that nobody asks for."""
SPEC: Json = {"replicas": 0, "scaling": {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": IDLE_SECONDS}}
"""A pull only brings the model; who asks for it first has it loaded."""
NAMES = {"metadata": "model", "spec.model": "model"}


def named(given: Json) -> str:
    """The model of a request; older clients call it `name`."""
    model = given.get("model") or given.get("name")
    if not isinstance(model, str):
        raise bad_request("`model` must name a model.", "model", "model_required")
    return model


def pull(given: Json, leave: Leave) -> tuple[Wish, bool]:
    """The model, and whether its coming is told line by line."""
    fields = Fields(given)
    word = named(given).removesuffix(LATEST)
    fields.no_op("model", "name")
    streams = fields.one(bool, "stream")
    fields.refuse("insecure", "what is not trusted is not read; the sources' settings say what is.", but=False)
    fields.end(dict.fromkeys(("username", "password"), "credentials of a source are a Secret's."))
    leave.check(word, "model")
    wish = Wish(word, BY, spec=SPEC, again=True)
    return (wish if leave.here else checked(wish, NAMES)), streams is not False


class PullTeller:
    """Lines of one pull."""

    def __init__(self, word: str) -> None:
        self._digest = hashlib.sha256(word.encode(errors="replace")).hexdigest()
        """By which clients tell one bar from another."""
        self._told: Download | None = None
        self._last = ""

    def begun(self) -> str:
        """The first line."""
        self._last = _line({"status": "pulling manifest"})
        return self._last

    def again(self) -> str:
        """The last line once more: nothing is new, and nobody is to take the pull for one that is stuck."""
        return self._last

    def tell(self, download: Download | None) -> str:
        """How many bytes there are, and how many of them are here, where that is known."""
        if download is None or download == self._told:
            return ""
        self._told = download
        body = {"status": f"pulling {self._digest[:12]}", "digest": f"sha256:{self._digest}", "total": download.total}
        here = {} if download.done is None else {"completed": min(download.done, download.total)}
        self._last = _line({**body, **here})
        return self._last

    def end(self) -> str:
        """The last lines: all of it is here."""
        whole = self.tell(Download(self._told.total, self._told.total)) if self._told else ""
        return whole + _line({"status": "success"})

    def broken(self, error: ApiError) -> str:
        """The last line of one that came to nothing."""
        return _line(error_of(error))


def _line(body: Json) -> str:
    return unbroken(text_of(body) + "\n")
