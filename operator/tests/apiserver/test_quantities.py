"""What the API server takes for a quantity, we read; and as the same number as it does."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import pytest

from llmservice_kube.client import Client
from llmservice_kube.errors import ApiError
from llmservice_kube.kinds import Kind
from llmservice_operator.facts.quantity import parse_quantity

QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
NUMBERS = (
    "0",
    "1",
    "1.5",
    "7.",
    ".25",
    "+2",
    "007",
    "0.0000000001",
    "123456789012345678901234567890",
    "",
    ".",
    "+",
    "-",
)
SUFFIXES = (
    *("", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"),
    *("e3", "E3", "e+3", "e-2", "E-12", "e30", "e", "e+", "K", "ki", "mi", "i", "kE", "e1.5", "x"),
)


def read(text: str) -> object:
    """As an amount of CPU, of which thousandths are the finest, rounded up."""
    try:
        return parse_quantity(text).quantize(Decimal("0.001"), ROUND_CEILING)
    except ValueError:
        return "refused"


@pytest.mark.parametrize("number", NUMBERS)
async def test_the_server_and_we_read_the_same(client: Client, namespace: str, number: str) -> None:
    path = f"{QUOTA.path(namespace)}"
    differ = {}
    for at, suffix in enumerate(SUFFIXES):
        text = f"{number}{suffix}"
        body = {"metadata": {"name": f"q{at}"}, "spec": {"hard": {"limits.cpu": text}}}
        try:
            made = await client.send("create", QUOTA, path, body=body)
        except ApiError as error:
            assert error.refused, error
            theirs: object = "refused"
        else:
            theirs = read(made["spec"]["hard"]["limits.cpu"])
        if theirs == "refused" and not any(map(str.isdigit, number)):
            continue  # of suffixes alone it takes some, as 0, and others not
        if theirs != read(text):
            differ[text] = theirs, read(text)
    assert differ == {}
