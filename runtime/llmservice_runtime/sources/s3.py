"""s3://bucket/prefix: AWS S3 or a store that speaks its protocol (AWS_ENDPOINT_URL)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.sources.aws import is_known, session
from llmservice_runtime.sources.errors import Origin, SourceError, TransientError
from llmservice_runtime.sources.files import FileEntry
from llmservice_runtime.sources.guard import raise_refusal
from llmservice_runtime.sources.listed import MAX_FILES
from llmservice_runtime.sources.pin import check_pin
from llmservice_runtime.sources.remote import Body, RemoteFiles
from llmservice_runtime.sources.retry import retry
from llmservice_runtime.sources.secrets import AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.tls import verify_argument
from llmservice_runtime.sources.uri import ModelUri

CHUNK_BYTES = 1 << 20
KEYS = f"{AWS_ACCESS_KEY_ID} and {AWS_SECRET_ACCESS_KEY} (and {AWS_SESSION_TOKEN})"


class S3Files(RemoteFiles):
    """The objects under a prefix (or one object). Its revision is a digest of their keys, sizes and ETags.

    Every read asks for the ETag that was listed, so an object that is replaced meanwhile is noticed, never mixed.
    """

    def __init__(self, uri: ModelUri, revision: str | None, secrets: Secrets, settings: SourceSettings) -> None:
        from botocore.exceptions import BotoCoreError

        where = settings.s3_endpoint or "AWS"
        origin = Origin(uri.shown, f"the S3 store at {where}", KEYS)
        try:
            known = session(secrets, settings)
            signed = retry(lambda: is_known(known, origin), origin, settings)
            self._client = _client(known, signed, settings)
        except (BotoCoreError, ValueError) as error:  # a profile that is missing, an endpoint that is no URL
            raise origin.bad(
                f"boto3 refuses its settings: {error}.", "Check AWS_PROFILE and AWS_ENDPOINT_URL."
            ) from None
        objects = retry(lambda: self._list(uri, origin), origin, settings)
        self._objects = dict(objects)
        entries = [FileEntry(path, int(found["Size"])) for path, found in objects]
        lines = sorted(f"{path}\0{found['Size']}\0{found['ETag']}" for path, found in objects)
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:40]
        check_pin(origin, revision, digest)
        super().__init__(uri, digest, entries, origin, settings)

    @contextmanager
    def open_range(self, path: str, start: int, stop: int | None) -> Iterator[Body]:
        """get_object with Range and If-Match."""
        found = self._objects[path]
        wanted = f"bytes={start}-" + ("" if stop is None else str(stop - 1))
        options = {} if start == 0 and stop is None else {"Range": wanted}
        with _errors(self._origin, f"file {path}"):
            answer = self._client.get_object(
                Bucket=self._uri.container, Key=found["Key"], IfMatch=found["ETag"], **options
            )
            offset = start if "ContentRange" in answer else 0
            with closing(answer["Body"]) as body:
                yield Body(offset, body.iter_chunks(CHUNK_BYTES))

    def _list(self, uri: ModelUri, origin: Origin) -> list[tuple[str, dict[str, Any]]]:
        """(path, object) of the object with that key, or of all objects in that folder."""
        prefix = uri.path
        try:
            with _errors(origin, f"bucket {uri.container}"):
                found = self._page_by_page(uri.container, prefix)
        except SourceError as error:
            if error.failure is not FailureClass.MODEL_GATED or (single := self._one(uri)) is None:
                raise
            return [single]
        folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        inside = [(str(o["Key"])[len(folder) :], o) for o in found if str(o["Key"]).startswith(folder)]
        inside = [(path, o) for path, o in inside if path and not path.endswith("/")]
        if not inside:
            inside = [(prefix.rpartition("/")[2], o) for o in found if o["Key"] == prefix]
        if not inside:
            raise origin.missing(f"object {prefix or '(any)'} in bucket {uri.container}")
        return inside

    def _page_by_page(self, bucket: str, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            found += page.get("Contents", [])
            if len(found) > MAX_FILES:
                break
        return found

    def _one(self, uri: ModelUri) -> tuple[str, dict[str, Any]] | None:
        """The object with that very key, for who may read and not list, as in many public buckets; None without it."""
        from botocore.exceptions import ClientError

        name = uri.path.rpartition("/")[2]
        if not name:
            return None
        try:
            answer = self._client.head_object(Bucket=uri.container, Key=uri.path)
        except ClientError:
            return None
        return name, {"Key": uri.path, "Size": answer["ContentLength"], "ETag": answer["ETag"]}


def _client(known: Any, signed: bool, settings: SourceSettings) -> Any:
    """A client for a boto3 session; anonymous unless `signed`."""
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        connect_timeout=min(10.0, settings.timeout_seconds),
        read_timeout=settings.timeout_seconds,
        retries={"total_max_attempts": 1},
        **({} if signed else {"signature_version": UNSIGNED}),
    )
    return known.client("s3", endpoint_url=settings.s3_endpoint, config=config, verify=verify_argument())


@contextmanager
def _errors(origin: Origin, what: str) -> Iterator[None]:
    from botocore import exceptions as boto

    try:
        yield
    except boto.ClientError as error:
        raise _client_error(origin, error, what) from None
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise origin.refused(401, str(error)) from None
    except boto.SSLError as error:
        raise origin.untrusted(str(error)) from None
    except (boto.HTTPClientError, boto.IncompleteReadError) as error:
        raise_refusal(error)
        raise TransientError(type(error).__name__) from error
    except boto.BotoCoreError as error:
        raise origin.bad(f"boto3 refuses: {error}.", "Check the URI and the AWS settings.") from None


def _client_error(origin: Origin, error: Any, what: str) -> SourceError | TransientError:
    answer = error.response
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = answer.get("Error", {}).get("Code", "")
    if code in ("SlowDown", "RequestTimeout", "InternalError"):
        return TransientError(code)
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AccessDenied", "InvalidToken"):
        return origin.refused(status, code)
    if status == 412:
        return origin.damaged(what, "it was replaced at the source while it was read")
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    wait = headers.get("retry-after", "")
    return origin.from_status(status or 500, what, float(wait) if wait.isdigit() else None)
