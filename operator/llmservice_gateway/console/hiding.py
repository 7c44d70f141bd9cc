"""A manifest without what may be secret in it: keys of a gateway are for asking, not for reading. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "(hidden)"
NOTE = (
    "Values of environment variables and headers, and what looks like a secret in arguments and annotations, are not "
    "shown here: keys of this gateway are for asking, not for reading."
)
VALUES = ("env", "httpHeaders")
"""Lists of what has a name and a value."""
MARKS = ("annotations", "labels")
"""Names and texts, by whoever had something to note."""
WORDS = ("args", "command")
"""Lists of words of a command line."""
_SECRET = re.compile(
    r"([\w.-]*[-_.]|[\w.-]*([a-z0-9](?=[A-Z])|[A-Z](?=[A-Z][a-z])))?"
    r"(?i:api-?key|key|token|secret|password|passwd|passphrase|credentials?|authorization|bearer)"
)
"""A name that ends so: `--api-key`, `HF_TOKEN`, `accessToken`, `DBPassword`; but no `--max-tokens`, `--tokenizer` or
`--ssl-keyfile`."""
_SCHEMES = ("basic", "bearer", "token")
"""Words of a header behind which the secret comes."""
_BEFORE_HOST = re.compile(r"(?<=://)[^/?#\s]*(?=@)")
_ASKS = re.compile(r"(://[^?#\s]*\?)[^\s\"']+")


def hidden(value: Any, key: str = "") -> Any:
    """The same without values of variables and headers, of arguments whose name says that they are secret, and without
    credentials in URIs."""
    if isinstance(value, list) and key in WORDS:
        return _words(value)
    if isinstance(value, list):
        return [_unsaid(item) if key in VALUES else hidden(item) for item in value]
    if isinstance(value, Mapping) and key in MARKS:
        return {name: _mark(name, item) for name, item in value.items()}
    if isinstance(value, Mapping):
        return {name: hidden(item, name) for name, item in value.items()}
    return public(value) if key == "uri" and isinstance(value, str) else value


def public(uri: str) -> str:
    """A URI without a name and password before its host, and without what follows `?`."""
    address, asks, _ = _BEFORE_HOST.sub(HIDDEN, uri).partition("?")
    return f"{address}?{HIDDEN}" if asks else address


def _unsaid(variable: Any) -> Any:
    return {**variable, "value": HIDDEN} if isinstance(variable, Mapping) and "value" in variable else variable


def _mark(name: str, said: Any) -> Any:
    if _names_secret(name.rpartition("/")[2]):
        return HIDDEN
    return _addresses(said) if isinstance(said, str) else said


def _words(words: Sequence[Any]) -> list[Any]:
    """`--api-key=X`, `--api-key X Y`, `TOKEN=X`, `X-Api-Key:X`, JSON, any of these after `--name=`, a whole script
    in one word."""
    found, secret = [], False
    for word in words:
        text = str(word)
        name, sets, value = text.partition("=")
        header, _, said = text.partition(":")
        if said and not re.search(r"\s", text) and _names_secret(header):
            secret = said.strip("\"'").lower() in _SCHEMES
            found.append(f"{header}:{HIDDEN}")
        elif _names_secret(name) and sets:
            found.append(f"{name}={HIDDEN}")
        elif text.startswith("-") and sets:
            secret = value.endswith(":") and _names_secret(value)
            found.append(f"{name}={_word(value)}")
        elif text.startswith("-") or text.endswith(":"):
            secret = _names_secret(text)
            found.append(_word(text) if isinstance(word, str) else word)
        elif secret:
            found.append(HIDDEN)
        else:
            found.append(_word(text) if isinstance(word, str) else word)
    return found


def _word(text: str) -> str:
    if text.startswith(("{", "[")):
        try:
            return json.dumps(_inside(json.loads(text)))
        except (ValueError, RecursionError):
            pass
    pieces = re.split(r"(\s+)", _addresses(text))
    if len(pieces) > 1:
        pieces[::2] = _words(pieces[::2])
    return "".join(pieces)


def _addresses(text: str) -> str:
    """Any text with the URIs in it as `public` has them."""
    return _ASKS.sub(rf"\1{HIDDEN}", _BEFORE_HOST.sub(HIDDEN, text))


def _inside(value: Any) -> Any:
    if isinstance(value, list):
        return [_inside(item) for item in value]
    if isinstance(value, dict):
        return {name: HIDDEN if _names_secret(name) else _inside(item) for name, item in value.items()}
    return _word(value) if isinstance(value, str) else value


def _names_secret(name: str) -> bool:
    return _SECRET.fullmatch(name.strip("\"'-:{[(,")) is not None
