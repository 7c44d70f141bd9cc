"""What can go wrong between a model URI and its bytes, in the user's words. No secret gets into these sentences."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass

FIELD = "spec.model.uri"
MIB, GIB = 1 << 20, 1 << 30
DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


class SourceError(UserError):
    """A model source is unreachable, gated, missing, damaged, or its URI is wrong."""


class TransientError(Exception):
    """One attempt failed in a way that may pass. `retry_after` is what the server asked for, in seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from, for messages: `uri` as shown, `hub` in words, `keys` the secret keys it understands."""

    uri: str
    hub: str
    keys: str

    def bad(self, reason: str, remedy: str, failure: FailureClass = FailureClass.BAD_ARGUMENT) -> SourceError:
        """Any other problem with this model."""
        return SourceError(f"{FIELD}: {self.uri}: {reason}", remedy, failure)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Around code that picks an answer apart: one of another shape than the hub's is an error of the endpoint."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise self.bad(
                f"{self.hub} answers with something else than a listing ({type(error).__name__}: {error}).",
                "Check the endpoint: it may be a mirror that does not speak this hub's API.",
            ) from error

    def unreachable(self, detail: str) -> SourceError:
        """The hub did not answer, or not sensibly, after all attempts."""
        return self.bad(
            f"{self.hub} can't be reached: {detail}.",
            "Check the network, HTTPS_PROXY/NO_PROXY and the endpoint, or use a model that is already on this machine "
            "(file://).",
            FailureClass.HUB_UNREACHABLE,
        )

    def untrusted(self, detail: str) -> SourceError:
        """TLS works but the certificate is not trusted."""
        return self.bad(
            f"the certificate of {self.hub} is not trusted: {detail}.",
            "Name the bundle of your certificate authority in SSL_CERT_FILE or REQUESTS_CA_BUNDLE.",
            FailureClass.HUB_UNREACHABLE,
        )

    def refused(self, status: int, detail: str = "") -> SourceError:
        """401 or 403."""
        because = f" ({detail})" if detail else ""
        return self.bad(
            f"{self.hub} refuses access with status {status}{because}.",
            f"Accept the model's license there, and give credentials with access as {self.keys}: in the environment, "
            "or in the secret that spec.model.secretRef names.",
            FailureClass.MODEL_GATED,
        )

    def missing(self, what: str) -> SourceError:
        """404: `what` names the repository, revision or file."""
        return self.bad(
            f"{self.hub} has no {what}.",
            "Check the spelling, upper and lower case, and spec.model.revision.",
            FailureClass.MODEL_NOT_FOUND,
        )

    def damaged(self, path: str, detail: str) -> SourceError:
        """Bytes are not what the listing promised."""
        return self.bad(
            f"{path} is damaged: {detail}.",
            "Try again; when it happens twice the copy at the source is damaged, or a proxy changes it.",
            FailureClass.MODEL_DAMAGED,
        )

    def from_status(self, status: int, what: str, retry_after: float | None = None) -> SourceError | TransientError:
        """What an HTTP status of 400 and above means; 408, 429 and 5xx may pass."""
        if status in (401, 403, 407, 451):
            return self.refused(status)
        if status in (404, 410):
            return self.missing(what)
        if status in (408, 425, 429) or status >= 500:
            return TransientError(f"status {status} for {what}", retry_after)
        return self.bad(f"{self.hub} answers status {status} for {what}.", "Check the URI and spec.model.revision.")


def disk_full(path: Path, needed: int, free: int, stays: str = "") -> SourceError:
    """`needed` and `free` in bytes; `stays` is a sentence about what could not go."""
    return SourceError(
        f"The disk is full: {path} needs {_size(needed, ceil)} more and has {_size(free, floor)} free.{stays}",
        "Free space (`llmservice models prune` removes models that nothing uses), or put the cache on another disk "
        "(LLMSERVICE_CACHE_DIR; in a cluster a larger one in spec.cache). "
        "What is already downloaded is kept and continued.",
        FailureClass.DISK_FULL,
    )


def _size(count: int, rounded: Callable[[float], int]) -> str:
    """In MiB, or from 10 GiB in tenths of one; what is needed and what is there are never told as the same."""
    if count < 10 * GIB:
        return f"{rounded(count / MIB):,} MiB"
    return f"{rounded(count / GIB * 10) / 10:.1f} GiB"
