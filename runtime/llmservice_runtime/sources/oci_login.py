"""Logging in to an OCI registry: a challenge is answered with a password, or with a token from the server it names."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list

from llmservice_runtime.sources.errors import Origin
from llmservice_runtime.sources.http import HttpClient, read_json, retry_after

_CHALLENGE = re.compile(r"([^\s=]+)(?:\s+([^\s=].*))?", re.DOTALL)
"""What begins a challenge in a list: a scheme alone, or with its first parameter after a space."""


class Login:
    """What is known of one registry's login. `account` = (user, password); None = anonymous.

    Tokens are fetched when the registry asks for one: also anew, when the last has expired.
    """

    def __init__(self, client: HttpClient, origin: Origin, account: tuple[str, str] | None) -> None:
        self._client = client
        self._origin = origin
        self._basic = _basic(*account) if account else None
        self._authorization: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """For the next request."""
        return {"Authorization": self._authorization} if self._authorization else {}

    def answer(self, challenge: str, url: str) -> None:
        """Take up the challenge (WWW-Authenticate) with which the registry refused a request to `url`.

        Of several the first that can be taken up: a password only where there is one that was not refused just now.
        Raises SourceError where there is none, TransientError where it may be later.
        """
        for scheme, asked in challenges(challenge):
            if scheme == "basic" and self._basic and self._authorization != self._basic:
                self._authorization = self._basic
                return
            if scheme == "bearer":
                self._authorization = f"Bearer {self._token(asked, url)}"
                return
        raise self._origin.refused(401)

    def _token(self, asked: dict[str, str], url: str) -> str:
        realm = asked.get("realm", "")
        if not _safe(realm, url):
            raise self._origin.bad(
                f"{self._origin.hub} names {realm or 'no server'} to log in at, which is not https.",
                "Credentials are not sent there. Have the registry's token server use https.",
            )
        query = urlencode({name: asked[name] for name in ("service", "scope") if asked.get(name)})
        where = f"{realm}{'&' if urlsplit(realm).query else '?'}{query}" if query else realm
        with self._client.send("GET", where, {"Authorization": self._basic} if self._basic else {}) as response:
            if response.status_code >= 400:
                raise self._origin.from_status(response.status_code, "token", retry_after(response.headers))
            answer = read_json(self._origin, response, "a token")
        token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise self._origin.bad(f"{self._origin.hub} gives no token.", "Check the registry's token server.")
        return token


def challenges(header: str) -> list[tuple[str, dict[str, str]]]:
    """The challenges of a WWW-Authenticate header, in its order: scheme and parameters, names in lower case."""
    found: list[tuple[str, dict[str, str]]] = []
    for item in parse_http_list(header):
        if begins := _CHALLENGE.fullmatch(item):
            found.append((begins[1].lower(), {}))
        name, equals, value = (begins[2] or "" if begins else item).partition("=")
        if equals and found:
            found[-1][1][name.strip().lower()] = value.strip().removeprefix('"').removesuffix('"')
    return found


def _safe(realm: str, url: str) -> bool:
    """Whether a password may go to `realm` for a registry at `url`: over https, or between programs of this machine."""
    try:
        parts = urlsplit(realm)
    except ValueError:
        return False
    return parts.scheme == "https" or (
        parts.scheme == urlsplit(url).scheme == "http" and is_this_machine(parts.netloc.rpartition("@")[2])
    )


def is_this_machine(host: str) -> bool:
    """Whether `host` (and perhaps `:port`) is `localhost` or a loopback address, and no name that begins like one.

    A registry there speaks plain HTTP, as every container tool has it.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
