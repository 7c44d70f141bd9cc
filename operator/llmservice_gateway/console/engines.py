"""What a model can run on, for the page: asked of a process of its own, bounded in time, memory and number.

Headers of models are read from wherever somebody names, and parsed: nothing of that is to hold up a stream, or to stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmservice_api.patterns import host_memory
from llmservice_gateway.console.facts import Json
from llmservice_runtime.wire.errors import ApiError, bad_request, retry_headers

MOST = 2
"""Questions at a time, of everybody together."""
SECONDS = 60.0
MOST_ASKED_BYTES = 8 << 10
MOST_TOLD_BYTES = 4 << 20
LONGEST = 2000
"""Characters of a URI."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")


class EnginesTable:
    """`command` reads a question (JSON) on its standard input, and writes what it found (JSON) to its output."""

    def __init__(self, command: Sequence[str], *, private: bool, seconds: float = SECONDS) -> None:
        self._command = command
        self._private = private
        """Whether who asks is on this machine: its files may be named then, and its owner's credentials are used."""
        self._seconds = seconds
        self._running = 0

    async def ask(self, body: Any) -> Json:
        """The table and a plan. ApiError for a question that can't be answered, or not now."""
        asked = question(body, private=self._private)
        if self._running >= MOST:
            said = f"{MOST} models are being looked at already; retry in a moment."
            raise ApiError(429, said, code="engines_busy", headers=retry_headers(5))
        self._running += 1
        try:
            found = await self._child(json.dumps(asked).encode())
        finally:
            self._running -= 1
        if "error" in found:
            error = found["error"]
            said = f"{error.get('reason', '')} {error.get('remedy', '')}".strip()
            raise ApiError(422, said, code=error.get("failure") or "model_unreadable", param="uri")
        return found

    async def _child(self, text: bytes) -> Json:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, limit=MOST_TOLD_BYTES
        )
        try:
            async with asyncio.timeout(self._seconds):
                told, _ = await child.communicate(text)
        except TimeoutError:
            said = f"The model was not read within {self._seconds:.0f} s."
            raise ApiError(504, f"{said} Retry, or use `llmservice engines`.", code="engines_timeout") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        try:
            found = json.loads(told[:MOST_TOLD_BYTES])
        except ValueError:
            found = None
        if not isinstance(found, dict):
            said = "What reads models failed, as of too little memory. Try `llmservice engines`, which says more."
            raise ApiError(502, said, code="engines_failed")
        return found


def question(body: Any, *, private: bool) -> Json:
    """What was asked, checked. ApiError 400 names the field."""
    if not isinstance(body, Mapping):
        raise bad_request('The body must be a JSON object, as {"uri": "hf://owner/name"}.')
    known = {"uri", "revision", "gpu", "gpus", "memory"}
    if others := sorted(set(body) - known):
        raise bad_request(f"`{others[0]}` is no field; there are {', '.join(sorted(known))}.", others[0])
    uri = body.get("uri")
    if not isinstance(uri, str) or not 3 < len(uri.strip()) <= LONGEST or "://" not in uri or not uri.isprintable():
        raise bad_request("`uri` must say where the model is, as hf://owner/name.", "uri", "bad_uri")
    if uri.strip().lower().startswith("file:") and not private:
        said = "`uri`: files of the gateway's machine are not read for a page. Use `llmservice engines` there."
        raise bad_request(said, "uri", "bad_uri")
    revision, gpu, gpus, memory = (body.get(name) for name in ("revision", "gpu", "gpus", "memory"))
    if revision is not None and not (isinstance(revision, str) and 0 < len(revision) <= 256):
        raise bad_request("`revision` must be a branch, a tag or a commit.", "revision")
    if gpu is not None and not (isinstance(gpu, str) and _WORD.fullmatch(gpu)):
        raise bad_request("`gpu` must be the name of a product, as L4 or A100-80GB.", "gpu")
    if gpus is not None and (isinstance(gpus, bool) or not isinstance(gpus, int) or not 1 <= gpus <= 64):
        raise bad_request("`gpus` must be a number from 1 to 64.", "gpus")
    if gpus is not None and gpu is None:
        raise bad_request("`gpus` says how many, but not of what: add `gpu`.", "gpu")
    machine = {"gpu": gpu, "gpus": gpus, "memory": _bytes(memory)}
    return {"uri": uri.strip(), "revision": revision, **machine, "private": private}


def _bytes(memory: Any) -> int | None:
    if memory is None:
        return None
    try:
        return host_memory(memory if isinstance(memory, str) else json.dumps(memory))
    except ValueError as error:
        raise bad_request(f"`memory`: {error}.", "memory") from None
