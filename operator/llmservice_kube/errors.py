"""What the API server refused, and whether asking again can help."""

from __future__ import annotations

from http import HTTPStatus

_DENIED = ("denied request", "denied the request")
_NO_WEBHOOK = "failed calling webhook"
_TOO_LARGE = "request is too large"
_UNREADABLE = "failed to create typed patch object"
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class ApiError(Exception):
    """An answer that is an error. `status` is 0 when there was no answer at all.

    `reason` is Kubernetes' own word (`Forbidden`, `Invalid`, `Expired`), `message` its sentence.
    """

    def __init__(self, what: str, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{what}: {status or 'no answer'} {reason}: {message}")
        self.what = what
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        """Seconds the server asked to wait; None when it did not."""

    @property
    def passing(self) -> bool:
        """True when the same request may succeed later without anything being changed."""
        return not (self._unreadable or self.too_large) and (
            self.status == 0 or self.status >= 500 or self.status in _PASSING
        )

    @property
    def taken(self) -> bool:
        """True when the request was carried out, and only its answer can't be read."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def refused(self) -> bool:
        """True for an object that the server will not take: invalid, over quota, denied by admission or RBAC.

        Also one whose admission webhook does not answer. That may pass, and may just as well last, for this object
        only, while the server is well.
        """
        refusals = (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY)
        return self._unreadable or self._no_webhook or self.too_large or self.status in refusals

    @property
    def final(self) -> bool:
        """True for an object that is wrong in itself: the same object will be refused again.

        A policy or a webhook that denies says so with any status, and may be changed.
        """
        wrong = self.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
        return self._unreadable or self.too_large or (wrong and not any(words in self.message for words in _DENIED))

    @property
    def too_large(self) -> bool:
        """True for an object that etcd or the server can't hold: the server may call that an error of its own."""
        failed = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and _TOO_LARGE in self.message
        return failed or self.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    @property
    def _no_webhook(self) -> bool:
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and _NO_WEBHOOK in self.message

    @property
    def _unreadable(self) -> bool:
        """An applied object with an unknown field or a wrong type: the server calls that an error of its own."""
        return self.status == HTTPStatus.INTERNAL_SERVER_ERROR and self.message.startswith(_UNREADABLE)

    @property
    def conflict(self) -> bool:
        """True when the object is another one than was thought: changed, replaced, or there already."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def expired(self) -> bool:
        """True when a list's continuation or a resource version is too old: list again."""
        return self.status == HTTPStatus.GONE

    @property
    def missing(self) -> bool:
        """True when the object, or its whole kind, does not exist."""
        return self.status == HTTPStatus.NOT_FOUND


class LeadershipLost(Exception):
    """A write was stopped because this process can no longer be sure to be the leader."""
