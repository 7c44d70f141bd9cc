"""An ORAS registry client with our credentials, certificates, timeouts and address policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmservice_runtime.sources.errors import Origin
from llmservice_runtime.sources.guard import AddressRefusedError, check_url
from llmservice_runtime.sources.http import retry_after
from llmservice_runtime.sources.requests_body import requests_errors
from llmservice_runtime.sources.secrets import OCI_PASSWORD, OCI_USERNAME, Secrets
from llmservice_runtime.sources.settings import SourceSettings
from llmservice_runtime.sources.tls import verify_argument
from llmservice_runtime.sources.uri import ModelUri

if TYPE_CHECKING:
    import requests

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ACCEPTED = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    *INDEX_TYPES,
)
LOCAL_HOSTS = ("localhost", "127.", "[::1]")
DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


def open_registry(uri: ModelUri, secrets: Secrets, settings: SourceSettings, origin: Origin) -> Any:
    """An `oras.provider.Registry`; registries on this machine speak plain HTTP, as every container tool has it.

    The first request learns which kind of authentication the registry wants. TransientError for what may pass.
    """
    from oras.container import Container
    from oras.provider import Registry

    host = DOCKER_HUB.get(uri.container, uri.container)
    insecure = host.startswith(LOCAL_HOSTS)
    with requests_errors():
        probe = _equip(Registry(host, insecure=insecure, tls_verify=verify_argument()), settings)
        try:
            answer = probe.session.get(f"{probe.prefix}://{host}/v2/", verify=verify_argument())
        except AddressRefusedError as error:
            raise origin.bad(f"{error}, which may not be read.", "Use a public address.") from None
        if answer.status_code >= 400 and answer.status_code not in (401, 403, 404):
            raise origin.from_status(answer.status_code, "registry there", retry_after(answer.headers))
    kind = answer.headers.get("www-authenticate", "").partition(" ")[0].lower()
    registry = Registry(
        host, insecure=insecure, tls_verify=verify_argument(), auth_backend="basic" if kind == "basic" else "token"
    )
    _equip(registry, settings)
    user, password = secrets.get(OCI_USERNAME), secrets.get(OCI_PASSWORD)
    if user and password:
        registry.auth.set_basic_auth(user, password)
    elif secrets.from_environment:
        registry.auth.load_configs(Container(f"{host}/{uri.path}", registry=host))
    return registry


def _equip(registry: Any, settings: SourceSettings) -> Any:
    """Mount an adapter that has a timeout and checks every address, also those of redirects and token servers."""
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            check_url(str(request.url), settings.allow_private)
            seconds = settings.timeout_seconds
            kwargs["timeout"] = kwargs.get("timeout") or (min(10.0, seconds), seconds)
            return super().send(request, *args, **kwargs)

    for prefix in ("http://", "https://"):
        registry.session.mount(prefix, Adapter())
    return registry
