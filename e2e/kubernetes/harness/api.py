"""The API server in plain JSON, as the administrator."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx
import kubernetes.client
import kubernetes.config

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
LISTED = {
    "": "v1 namespaces nodes pods services serviceaccounts secrets configmaps events persistentvolumeclaims "
    "resourcequotas",
    "apps": "v1 deployments replicasets controllerrevisions",
    "autoscaling": "v2 horizontalpodautoscalers",
    "batch": "v1 jobs",
    "policy": "v1 poddisruptionbudgets",
    "networking.k8s.io": "v1 networkpolicies",
    "coordination.k8s.io": "v1 leases",
    "discovery.k8s.io": "v1 endpointslices",
    "apiextensions.k8s.io": "v1 customresourcedefinitions",
    "rbac.authorization.k8s.io": "v1 roles rolebindings clusterroles clusterrolebindings",
    "llmservice.dev": "v1alpha1 llmservices",
}
"""Group -> version and the plural names in it."""
PREFIX = {
    plural: f"/apis/{group}/{words.split()[0]}" if group else "/api/v1"
    for group, words in LISTED.items()
    for plural in words.split()[1:]
}


class Api:
    """Objects by plural, namespace and name: `api.get("pods", "apps", "qwen-1")`. Raises httpx.HTTPStatusError."""

    def __init__(self, kubeconfig: Path) -> None:
        found = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(str(kubeconfig), client_configuration=found)  # type: ignore[no-untyped-call]
        context = ssl.create_default_context(cafile=found.ssl_ca_cert)
        if found.cert_file:
            context.load_cert_chain(found.cert_file, found.key_file)
        token = found.api_key.get("authorization")
        headers = {"Authorization": token} if token else {}
        self.http = httpx.Client(base_url=found.host, verify=context, headers=headers, timeout=30, trust_env=False)

    def get(self, plural: str, namespace: str, name: str, sub: str = "") -> Json:
        """One object; `sub`: its `scale`, `status`, `log`..."""
        return self._answer(self.http.get(path(plural, namespace, name, sub)))

    def find(self, plural: str, namespace: str, name: str) -> Json | None:
        """One object, or None where there is none."""
        answer = self.http.get(path(plural, namespace, name))
        return None if answer.status_code == 404 else self._answer(answer)

    def list(self, plural: str, namespace: str = "", selector: str = "") -> list[Json]:
        """Every object of a namespace (empty = of all) that the labels select (`a=b,c`)."""
        query = {"labelSelector": selector} if selector else {}
        items: list[Json] = self._answer(self.http.get(path(plural, namespace), params=query))["items"]
        return items

    def create(self, plural: str, namespace: str, body: Json) -> Json:
        """Create; what the API server made of it."""
        return self._answer(self.http.post(path(plural, namespace), json=body))

    def patch(self, plural: str, namespace: str, name: str, change: Json, sub: str = "") -> Json:
        """JSON merge patch: a null removes."""
        url = path(plural, namespace, name, sub)
        return self._answer(self.http.patch(url, json=change, headers={"Content-Type": MERGE}))

    def delete(self, plural: str, namespace: str, name: str, grace: int | None = None) -> None:
        """Delete in the background; absence is fine. `grace`: seconds for a pod."""
        query = {"propagationPolicy": "Background"} | ({} if grace is None else {"gracePeriodSeconds": str(grace)})
        answer = self.http.delete(path(plural, namespace, name), params=query)
        if answer.status_code != 404:
            answer.raise_for_status()

    def log(self, namespace: str, pod: str, container: str = "", previous: bool = False, lines: int = 100) -> str:
        """The end of a container's log, or the API server's reason why there is none."""
        query = {"tailLines": str(lines), "previous": str(previous).lower()}
        query |= {"container": container} if container else {}
        return self.http.get(path("pods", namespace, pod, "log"), params=query).text

    @staticmethod
    def _answer(answer: httpx.Response) -> Json:
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        found: Json = answer.json()
        return found


def path(plural: str, namespace: str = "", name: str = "", sub: str = "") -> str:
    """Where objects are."""
    place = ["namespaces", namespace] if namespace else []
    return "/".join([PREFIX[plural], *place, plural, *([name] if name else []), *([sub] if sub else [])])
