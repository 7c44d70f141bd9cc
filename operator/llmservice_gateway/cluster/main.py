"""`python -m llmservice_gateway`: the gateway of a cluster. SIGTERM drains it; a second one ends it at once."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web
from kubernetes.aio.config import ConfigException

from llmservice_gateway.app import Gateway
from llmservice_gateway.cluster import internal
from llmservice_gateway.cluster.aliases import follow
from llmservice_gateway.cluster.cluster import Cluster
from llmservice_gateway.cluster.drain import ACCEPT_SECONDS, DRAIN_SECONDS, Ending
from llmservice_gateway.cluster.leave import leave
from llmservice_gateway.console.prometheus import Server
from llmservice_gateway.journal import Write
from llmservice_gateway.keys.door import Door
from llmservice_gateway.loop import new_event_loop
from llmservice_gateway.proxy import Limits
from llmservice_kube.client import Client
from llmservice_kube.login import login, own_namespace
from llmservice_kube.mirror import RELIST_SECONDS
from llmservice_runtime.contract.bounds import ANY
from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.failure import FailureClass
from llmservice_runtime.contract.listening import EVERY, in_url, listening
from llmservice_runtime.contract.logs import configure
from llmservice_runtime.contract.outlet import Outlet
from llmservice_runtime.contract.ports import GATEWAY_PORT
from llmservice_runtime.contract.version import VERSION
from llmservice_runtime.wire.callers import Callers
from llmservice_runtime.wire.server import ApiRunner

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
BACKLOG = 1024
KEEP_SECONDS = 620.0
"""A connection without a whole request is closed after so long. Load balancers keep theirs for up to 600 s, and what
they send on one that is closed in that moment is lost."""

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 when told to stop, 2 for a mistake in what was given."""
    args = _parser().parse_args(argv)
    configure(args.log_level, LOG_FORMAT)
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(args))
    except (UserError, ConfigException) as error:
        logger.error("%s", error)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmservice-gateway", description=__doc__)
    add = parser.add_argument
    add("--version", action="version", version=f"%(prog)s {VERSION}")
    add("--kubeconfig", help="default: KUBECONFIG, else the pod's service account")
    add("--namespace", default=own_namespace(), help="where the gateways' Leases are (default: the pod's own)")
    add("--name", default=os.environ.get("POD_NAME") or socket.gethostname(), help="of the Lease (default: the pod's)")
    add("--labels", default="", help="of Leases of this installation: a=b,c=d")
    add("--watch-namespaces", default="", help="namespaces whose services are served: a,b (default: all)")
    add("--aliases", type=Path, help="file with other names of services (YAML), read again when it changes")
    add("--host", default=EVERY, help="address of both ports (default: every one)")
    add("--port", type=int, default=GATEWAY_PORT, help=f"for clients (default: {GATEWAY_PORT})")
    add(
        "--internal-port",
        type=int,
        default=internal.PORT,
        help=f"for probes, metrics and scalers (default: {internal.PORT})",
    )
    add("--keys-of", metavar="SERVICE", default="", help="ask for API keys: those of the gateway with this Service")
    add(
        "--launch-namespaces",
        default="",
        help="where keys with that right launch models: a,b (default: none)",
    )
    add("--launch-sources", default="hf,modelscope", help="where these models may come from (schemes of URIs; * = any)")
    add("--launch-cache", default="", metavar="JSON", help="spec.cache of what is launched (default: none)")
    add("--console", action="store_true", help="serve a page for browsers at /")
    add("--prometheus", default="", metavar="URL", help="where the page has more than the last hour from")
    add("--prometheus-labels", default="", help="that its series have beside those of gateways: a=b,c=d")
    add("--prometheus-ca-file", default="", metavar="FILE", help="certificates that it is trusted by")
    add("--prometheus-token-file", default="", metavar="FILE", help="a bearer token, read each time")
    add("--allow-origin", action="append", default=[], help="origin whose web pages may call; * = any; may be repeated")
    add("--answer-seconds", type=float, help="until an answer begins (default: as planned with what replicas measured)")
    add("--hold-seconds", type=float, default=Limits().hold_seconds, help="that a stream waits for a replica")
    add("--accept-seconds", type=float, default=ACCEPT_SECONDS, help="that requests are taken after SIGTERM")
    add("--drain-seconds", type=float, default=DRAIN_SECONDS, help="for requests to end after that")
    add("--resync-seconds", type=float, default=RELIST_SECONDS, help="between two times that everything is listed anew")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser


async def _run(args: argparse.Namespace) -> None:
    access = await login(args.kubeconfig)
    ending = Ending(args.accept_seconds, args.drain_seconds)
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def told() -> None:
        if ending.begun:
            task.cancel()
        ending.ask()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    try:
        async with AsyncExitStack() as stack:
            lines = Outlet(os.dup(sys.stdout.fileno()))
            stack.callback(lines.flush)
            door = Door() if args.keys_of else None
            gateway = _gateway(args, lines.write, door)
            client = await stack.enter_async_context(Client(access))
            cluster = Cluster(
                client,
                gateway.proxy,
                args.namespace,
                args.name,
                _labels(args.labels),
                _words(args.watch_namespaces),
                args.resync_seconds,
                door,
                args.keys_of,
            )
            if args.launch_namespaces:
                gateway.launcher = cluster.launcher(
                    leave(
                        _words(args.launch_namespaces),
                        _words(args.launch_sources),
                        _words(args.watch_namespaces),
                        args.launch_cache,
                        keys=bool(args.keys_of),
                    )
                )
            if gateway.console is not None:
                gateway.console.facts = cluster.facts
                gateway.console.prometheus = _prometheus(args)
            inner = internal.application(gateway, lambda: _unready(cluster, ending), cluster.others)
            probes = web.AppRunner(inner, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
            await _serve(stack, probes, _listener(args.host, args.internal_port))
            app = gateway.application(alone=False)
            ending.closes_connections(app)
            runner = ApiRunner(
                app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0, keepalive_timeout=KEEP_SECONDS
            )
            site = await _serve(stack, runner, _listener(args.host, args.port))
            async with asyncio.TaskGroup() as group:
                working = [group.create_task(cluster.run())]
                if args.aliases is not None:
                    working.append(group.create_task(follow(args.aliases, cluster.directory.rename)))
                logger.info("requests on port %d, probes and metrics on port %d", _port(runner), _port(probes))
                await ending.over(gateway.proxy, site, runner)
                for each in working:
                    each.cancel()
            await cluster.end()
    except* asyncio.CancelledError:
        logger.warning("ended at once")


def _gateway(args: argparse.Namespace, access: Write, door: Door | None) -> Gateway:
    callers = Callers(
        loopback=False,
        hosts=frozenset({ANY}),  # whatever Services, Ingresses and their names lead here
        origins=frozenset(origin.lower() for origin in args.allow_origin),
        origin_setting="To let it, add {} to the chart's gateway.allowOrigins.",
    )
    limits = Limits(answer_seconds=args.answer_seconds, hold_seconds=args.hold_seconds)
    return Gateway(limits, callers, access, door, console=args.console)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _prometheus(args: argparse.Namespace) -> Server | None:
    labels = _labels(args.prometheus_labels, "--prometheus-labels")
    files = args.prometheus_ca_file, args.prometheus_token_file
    return Server(args.prometheus, labels, *files) if args.prometheus else None


def _unready(cluster: Cluster, ending: Ending) -> str:
    if ending.begun:
        return "draining"
    if not cluster.directory.ready:
        return f"services are not known yet: {cluster.problem or 'they are being listed'}"
    return cluster.unkeyed


async def _serve(stack: AsyncExitStack, runner: web.AppRunner, listener: socket.socket) -> web.BaseSite:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.SockSite(runner, listener, backlog=BACKLOG)
    await site.start()
    return site


def _port(runner: web.AppRunner) -> int:
    return int(runner.addresses[0][1])


def _listener(host: str, port: int) -> socket.socket:
    try:
        return listening(host, port, BACKLOG)
    except OSError as error:
        said = f"The gateway can't listen on {in_url(host)}:{port}: {os.strerror(error.errno or 0)}."
        raise UserError(said, "Choose another port or --host.", FailureClass.PORT_IN_USE) from error


def _labels(text: str, option: str = "--labels") -> dict[str, str]:
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise UserError(f"{option}: {part!r} is no label.", "Write name=value, several with commas between.")
        found[name] = value
    return found
