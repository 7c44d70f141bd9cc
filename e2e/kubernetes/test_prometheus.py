"""With a real Prometheus as the source: replicas follow what is asked, and none goes while it is away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import controlplane, programs, prometheus
from cluster.layout import STATE
from harness import release
from harness.chat import Client, trained_answer
from harness.demand import Asked, explained, idle, wanted
from harness.programs import PROVIDER
from harness.service import QUESTION, Service
from harness.traffic import traffic
from harness.wait import stays

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(
        PROVIDER != "bare", reason="Prometheus reaches pods from the machine of the bare provider alone"
    ),
]

GATEWAY = f"http://{release.NAME}-gateway.{release.NAMESPACE}.svc.cluster.local"
WINDOW = 10
BOUNDS = {
    "minReplicas": 0,
    "maxReplicas": 4,
    "idleSeconds": 15,
    "scaleDownSeconds": WINDOW,
    "target": {"requestsPerReplica": 2},
}


@pytest.fixture
def by_prometheus(installed: release.Values) -> Iterator[None]:
    """The operator is told where Prometheus is; it asks replicas themselves again when the test is done."""
    source = {"url": prometheus.URL, "scrapeSeconds": prometheus.SCRAPE_SECONDS}
    release.install({**installed, "prometheus": source})
    yield
    back()
    release.install(installed)


def back() -> None:
    """Prometheus runs, again where it did not."""
    prometheus.up(controlplane.bare(STATE, programs.kube()))


@pytest.mark.usefixtures("by_prometheus")
def test_from_none_to_four_and_back_and_nothing_is_lost_while_it_is_away(service: Service, client: Client) -> None:
    service.create(replicas=0, scaling=BOUNDS)
    idle(service)
    asked = Asked(client, service.full_name)
    service.wait(lambda: wanted(service) == 1, "the request wakes one")
    asked.join()
    assert (asked.found["status"], asked.found["answer"]) == (200, trained_answer(QUESTION)), asked.found
    url = service.status()["url"]

    with traffic(client, url, streams=8) as many:
        service.wait(lambda: wanted(service) == 4, "four are wanted", 60)
        service.wait(lambda: service.status().get("readyReplicas") == 4, "four serve", 150)
        service.wait_condition("MetricsAvailable", "True", "MetricsFound", 60)

        def told() -> bool:
            columns = client.run("console", GATEWAY, service.full_name, "3660")["columns"]
            return any(columns["inFlight"])

        # One point stands for many seconds of so long a time: what began a moment ago is in none yet.
        service.wait(told, "the page has more than an hour", 90)
        prometheus.down(STATE)
        missed = service.wait_condition("MetricsAvailable", "False", "MetricsMissing", 90)
        assert prometheus.URL in missed["message"]
    assert not many.failures, f"{len(many.failures)} of {many.requests}: {many.failures[:5]}"
    stays(lambda: wanted(service) == 4, "nothing is known, so nobody goes", WINDOW + 10, service.report)

    back()
    service.wait_condition("MetricsAvailable", "True", "MetricsFound", 60)
    with traffic(client, url, streams=1) as few:
        service.wait(lambda: wanted(service) == 1, "one is enough", 90)
        service.wait(lambda: len(service.pods()) == 1, "the others have ended", 120)
    assert not few.failures, f"{len(few.failures)} of {few.requests}: {few.failures[:5]}"
    idle(service)
    assert explained(service)["replicas"] == 0
