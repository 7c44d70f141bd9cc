"""Asking the running instance, from another process or thread. Standard library only, so that `ps` is quick."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llmservice_cli.local.disk import unwritable
from llmservice_cli.local.lock import socket_address
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

ANSWER_SECONDS = 10.0
"""How long an instance may take for an answer; what it is doing takes milliseconds."""


class NoInstanceError(UserError):
    """Nothing runs here."""

    def __init__(self, state: Path) -> None:
        super().__init__(
            "no service is running on this machine.",
            f"Start one with `llmservice up -f FILE` (state folder: {state}).",
        )


class StoppingError(UserError):
    """The instance is on its way out."""

    def __init__(self) -> None:
        super().__init__(
            "the running instance is stopping.", "Run the command again when it has stopped (`llmservice ps` says so)."
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, state: Path, timeout: float | None) -> None:
        super().__init__("instance", timeout=timeout)
        self._state = state

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with socket_address(self._state) as address:
            self.sock.connect(address)


class Control:
    """The instance of a state folder. Every method raises NoInstanceError when there is none."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def snapshot(self, after: int = -1, wait: float = 0.0) -> dict[str, Any]:
        """What Instance.snapshot gives, once it is newer than version `after`, at the latest after `wait` seconds."""
        with self._request("GET", f"/services?after={after}&wait={wait}", timeout=wait + ANSWER_SECONDS) as answer:
            body: dict[str, Any] = json.load(answer)
        return body

    @contextlib.contextmanager
    def announced(self, orders: Sequence[dict[str, Any]]) -> Iterator[None]:
        """While inside, these services show as being prepared."""
        with self._request("POST", "/announce", list(orders)):
            yield

    @contextlib.contextmanager
    def lent(self, names: Sequence[str]) -> Iterator[None]:
        """While inside, these services serve; they end with it, however this process ends."""
        with self._request("POST", "/lend", list(names)):
            yield

    def apply(self, order: dict[str, Any]) -> str:
        """Hand over an order; the word that ServiceControl.apply gives."""
        with self._request("POST", "/apply", order) as answer:
            return str(json.load(answer)["result"])

    def keep(self, order: dict[str, Any]) -> str:
        """Ask whether this is what runs already: `unchanged`, `scaled`, or empty when it has to be prepared."""
        with self._request("POST", "/keep", order) as answer:
            return str(json.load(answer)["result"])

    def scale(self, name: str, replicas: int) -> tuple[str, str]:
        """Run so many replicas of a service; its full name, and the word that ServiceControl.scale gives."""
        with self._request("POST", "/scale", {"name": name, "replicas": replicas}) as answer:
            body = json.load(answer)
        return str(body["name"]), str(body["result"])

    def rest(self, name: str) -> tuple[str, str]:
        """Have a service leave memory until it is asked for; its full name, and the word that Instance.rest gives."""
        with self._request("POST", "/rest", {"name": name}) as answer:
            body = json.load(answer)
        return str(body["name"]), str(body["result"])

    def explain(self, name: str) -> dict[str, Any]:
        """How many replicas of a service demand wants, and why: what `llmservice_scaling.explained` gives."""
        with self._request("GET", f"/explain?name={quote(name, safe='')}") as answer:
            body: dict[str, Any] = json.load(answer)
        return body

    def down(self, names: Sequence[str], *, force: bool) -> Iterator[dict[str, Any]]:
        """Stop services (none named = everything, the instance too); yields progress: {running} and last {stopped}."""
        with self._request("POST", "/down", {"names": list(names), "force": force}, timeout=None) as answer:
            try:
                for line in answer:
                    yield json.loads(line)
            except (http.client.HTTPException, OSError, ValueError):
                return  # it ended, and its socket with it

    @contextlib.contextmanager
    def _request(
        self, method: str, path: str, body: Any = None, timeout: float | None = 30.0
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _Connection(self._state, timeout)
        try:
            try:
                text = None if body is None else json.dumps(body)
                connection.request(method, path, text, {"Content-Type": "application/json"})
                answer = connection.getresponse()
            except (FileNotFoundError, NotADirectoryError, ConnectionError, http.client.RemoteDisconnected):
                raise NoInstanceError(self._state) from None
            except TimeoutError:
                later = "" if method == "GET" else " It may still do what was asked when it goes on."
                raise UserError(
                    f"the running instance of {self._state} does not answer.{later}",
                    "It may be stopped (Ctrl-Z) or frozen: continue it with `fg`, or end that `llmservice up` process.",
                ) from None
            except OSError as error:
                raise unwritable(self._state, error) from None
            if answer.status == 503:
                raise StoppingError
            if answer.status == 404 and answer.getheader("Content-Type", "").startswith("application/json"):
                raise _unknown(json.load(answer))
            if answer.status == 409:
                refusal = json.load(answer)
                raise UserError(refusal["reason"], refusal["remedy"])
            if answer.status == 500:
                raise UserError(
                    "the running instance failed on this request.",
                    "Its output says why (in the background: up.log in the state folder). `llmservice down` ends it.",
                    FailureClass.CRASHED,
                )
            if answer.status != 200:
                raise UserError(
                    f"the running instance answered {answer.status}: {answer.read(500).decode(errors='replace')}",
                    "It may be another version; stop it with `llmservice down` and start it again.",
                )
            yield answer
        finally:
            connection.close()


def _unknown(body: dict[str, Any]) -> UserError:
    if body["candidates"]:
        names = ", ".join(body["candidates"])
        return UserError(f"`{body['unknown']}` means several services: {names}.", "Use one of these names.")
    return UserError(f"there is no service `{body['unknown']}`.", "`llmservice ps` lists them.")
