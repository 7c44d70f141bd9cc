"""`llmservice explain`: how many replicas demand wants, why, and what each signal says; here or in a cluster."""

from __future__ import annotations

import argparse
import json
from typing import Any

from llmservice_cli.completers import completes, services
from llmservice_cli.local.client import Control, NoInstanceError
from llmservice_cli.places import Places
from llmservice_runtime.contract.errors import UserError
from llmservice_scaling.explained import text


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    completes(parser.add_argument("name", metavar="NAME", help="the service, also NAMESPACE/NAME"), services)
    parser.add_argument("-n", "--namespace", metavar="NAMESPACE", help="ask the cluster for a service there")
    parser.add_argument("--kubeconfig", metavar="FILE", help="of the cluster to ask (default: KUBECONFIG)")
    parser.add_argument("-o", "--output", choices=("json",), help="instead of text")


def run(args: argparse.Namespace) -> int:
    """0 when something was told. The cluster is asked where one is named, or nothing runs on this machine."""
    body = _explained(args)
    print(json.dumps(body, indent=2, ensure_ascii=False) if args.output == "json" else text(body))
    return 0


def _explained(args: argparse.Namespace) -> dict[str, Any]:
    namespace, _, name = args.name.rpartition("/")
    if args.namespace and namespace and namespace != args.namespace:
        raise UserError(f"{args.name} is not in the namespace {args.namespace}.", "Leave --namespace out.")
    if not args.namespace and not args.kubeconfig:
        try:
            return Control(Places.from_environment().state).explain(args.name)
        except NoInstanceError as nothing:
            missing = nothing
    else:
        missing = None
    from llmservice_cli.cluster import NoClusterError, explain  # what talks to clusters takes long to import

    try:
        return explain(args.kubeconfig, args.namespace or namespace or "default", name)
    except NoClusterError:
        if missing is None:
            raise
        raise missing from None
