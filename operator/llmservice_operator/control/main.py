"""`llmservice-operator`: log in, wait for what it needs, stand for election, work, and end when the Lease is lost."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kubernetes.aio.config import ConfigException

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError, LeadershipLost
from llmservice_kube.kinds import LLM_SERVICE, Json
from llmservice_kube.login import login, own_namespace
from llmservice_kube.mirror import RELIST_SECONDS, RETRY_SECONDS
from llmservice_operator.control.access import ACCESS, with_access
from llmservice_operator.control.health import Health
from llmservice_operator.control.installation import Installation, read_installation
from llmservice_operator.control.leader import Leadership, lead
from llmservice_operator.control.monitoring import run_as_served
from llmservice_operator.control.probes import PORT, probes
from llmservice_operator.control.rivals import LEASE_NAME, RELEASE, WATCHED, same_namespace
from llmservice_operator.control.work import Work
from llmservice_operator.facts.config import OperatorConfig
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.listening import EVERY
from llmservice_runtime.contract.logs import configure
from llmservice_runtime.contract.version import VERSION

GARBAGE = 10_000
"""New containers before the collector looks at the youngest: a page of a list has as many, and no cycles."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 when told to stop, 1 when the Lease was lost, 2 for a mistake in what was given."""
    args = _parser().parse_args(argv)
    configure(args.log_level, LOG_FORMAT)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    gc.freeze()  # what was imported stays: the collector need not look at it, which was a third of reading objects
    gc.set_threshold(GARBAGE, 10, 10)
    try:
        installation = read_installation(args.config)
        return asyncio.run(_run(args, installation))
    except (UserError, ConfigException) as error:
        logger.error("%s", error)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmservice-operator", description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    parser.add_argument("--config", type=Path, required=True, help="the installation's file (YAML)")
    parser.add_argument("--kubeconfig", help="default: KUBECONFIG, else the pod's service account")
    parser.add_argument("--namespace", default=own_namespace(), help="where the Lease is (default: the pod's own)")
    parser.add_argument("--host", default=EVERY, help="address of probes and metrics (default: every one)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port of probes and metrics (default: {PORT})")
    parser.add_argument(
        "--resync-seconds",
        type=float,
        default=RELIST_SECONDS,
        help=f"between two times that everything is read and looked at anew (default: {RELIST_SECONDS:.0f})",
    )
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser


async def _run(args: argparse.Namespace, installation: Installation) -> int:
    access = await login(args.kubeconfig)
    config = installation.operator_config(args.namespace)
    health = Health(patience=3 * args.resync_seconds)
    leadership = Leadership()
    works: list[Work] = []
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    async with (
        probes(health, lambda: works[0] if works else None, args.host, args.port) as port,
        Client(access, fence=leadership.fence) as client,
    ):
        logger.info("probes and metrics on port %d", port)

        async def work(served: OperatorConfig) -> None:
            works[:] = [Work(access, client, served, installation.scope(), health, resync=args.resync_seconds)]
            await works[0].run()

        def seen(lease: Json) -> None:
            if other := same_namespace(lease, installation.name):
                health.problem("lease", other)
            else:
                health.solved("lease")

        pod = os.environ.get("POD_NAME", "")
        identity = f"{pod or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        try:
            await _wait_for_api(client, installation, health)
            config = await with_access(client, config, args.namespace, installation.gateway.access, health)
            said = {WATCHED: ",".join(installation.namespaces), RELEASE: installation.name}
            if config.gateway is not None:
                said[ACCESS] = config.gateway.access
            term = partial(run_as_served, client, config, installation.namespaces, work)
            await lead(access, LEASE_NAME, args.namespace, identity, leadership, term, health.asked, said, seen, pod)
        except LeadershipLost as error:
            logger.error("%s; ending, so that only one replica writes", error)
            return 1
        except asyncio.CancelledError:
            logger.info("told to stop")
            return 0
    return 1


async def _wait_for_api(client: Client, installation: Installation, health: Health) -> None:
    """Stand by, unready and saying why, until services can be listed: server, CRD and right are there.

    One namespace is enough. Of another that is gone, or may not be read, the relists tell.
    """
    while (error := await _listable(client, installation.namespaces)) is not None:
        cure = " Install the CRD of LLMService." if error.missing else ""
        health.problem("api", f"{error}{cure}")
        await asyncio.sleep(RETRY_SECONDS)
    health.solved("api")


async def _listable(client: Client, namespaces: Sequence[str]) -> ApiError | None:
    """None when services can be listed somewhere; else why not."""
    first: ApiError | None = None
    for namespace in namespaces or (None,):
        try:
            await client.send("list", LLM_SERVICE, LLM_SERVICE.path(namespace), {"limit": "1"})
        except ApiError as error:
            first = first or error
            if not (error.missing or error.refused):
                break  # an outage, which the others would meet as well
        else:
            return None
    return first
