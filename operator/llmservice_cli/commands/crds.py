"""`llmservice crds`: the CustomResourceDefinition, ready for `kubectl apply --server-side -f -`."""

from __future__ import annotations

import argparse
import sys

from llmservice_api.generate import crd_yaml


def configure(parser: argparse.ArgumentParser) -> None:
    """No options: there is one CRD."""
    parser.epilog = "Install it with: llmservice crds | kubectl apply --server-side -f -"


def run(args: argparse.Namespace) -> int:
    """Print the CRD as YAML."""
    sys.stdout.write(crd_yaml())
    return 0
