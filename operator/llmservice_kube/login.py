"""Where the API server is and how to be known there: a kubeconfig file, or the pod's own service account."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

if TYPE_CHECKING:
    from llmservice_kube.session import Session

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_HOME_FILE = Path("~/.kube/config")


@dataclass(frozen=True, slots=True)
class Access:
    """One API server and this program's credentials there; tokens are renewed as the kubernetes library does it."""

    configuration: Configuration

    @property
    def server(self) -> str:
        """Base URL without a slash at the end."""
        return str(self.configuration.host).rstrip("/")

    def ssl_context(self) -> ssl.SSLContext | bool:
        """For aiohttp: True for plain http. Our own certificate is shown also where the server's is not verified."""
        if not self.server.startswith("https"):
            return True
        context = ssl.create_default_context(cafile=self.configuration.ssl_ca_cert)
        if not self.configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.configuration.cert_file:
            context.load_cert_chain(self.configuration.cert_file, self.configuration.key_file)
        return context

    async def authorization(self) -> str | None:
        """The Authorization header, or None when a client certificate says it all."""
        header: str | None = await self.configuration.get_api_key_with_prefix("BearerToken")
        return header

    async def for_kopf(self) -> Session:
        """The same for kopf's own requests."""
        from llmservice_kube.session import Session  # kopf, of which a gateway wants to know nothing

        return Session(server=self.server, authorization=await self.authorization(), ssl_context=self.ssl_context())


async def login(kubeconfig: str | None = None) -> Access:
    """Credentials from `kubeconfig`, else KUBECONFIG, else the pod's service account, else ~/.kube/config.

    Raises kubernetes' ConfigException when none of them can be used.
    """
    configuration = Configuration()
    file = kubeconfig or os.environ.get("KUBECONFIG") or None
    if file is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        _find(file or str(_HOME_FILE))
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=file, client_configuration=configuration, persist_config=False
        )
    return Access(configuration)


def _find(paths: str) -> None:
    """The library tells its log of files that are missing, and complains of what no file says."""
    if not any(Path(path).expanduser().exists() for path in paths.split(os.pathsep)):
        raise config.ConfigException(f"{paths} does not exist")


def own_namespace() -> str:
    """The namespace this pod runs in; `default` outside of a cluster."""
    if found := os.environ.get("POD_NAMESPACE"):
        return found
    return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() if _NAMESPACE_FILE.is_file() else "default"
