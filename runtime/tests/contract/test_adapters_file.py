"""The file that says which adapters to serve, and what engines are told of it."""

from __future__ import annotations

import json

import pytest

from llmservice_runtime.contract.adapters import (
    Adapter,
    AdapterStatus,
    Fetched,
    Order,
    adapters_json,
    order_line,
    parse_adapters,
    parse_order,
)
from llmservice_runtime.contract.bounds import SettingsError

SQL = Adapter("sql", "hf://acme/qwen-sql-lora", None, "/secrets/hf")


def test_it_is_read_as_it_is_written() -> None:
    adapters = (SQL, Adapter("legal-2", "s3://b/x", "abc"))
    assert parse_adapters(adapters_json(adapters)) == adapters
    assert parse_adapters('{"adapters": []}') == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "not JSON"),
        ("[]", "The adapters are"),
        ({"adapters": "sql"}, "The adapters are"),
        ({"adapters": ["sql"]}, "An adapter is"),
        ({"adapters": [{"name": "sql"}]}, "`uri`"),
        ({"adapters": [{"name": "SQL", "uri": "hf://a/b"}]}, "`name`"),
        ({"adapters": [{"name": "a:b", "uri": "hf://a/b"}]}, "`name`"),
        ({"adapters": [{"name": "sql", "uri": " "}]}, "`uri` of `sql`"),
        ({"adapters": [{"name": "sql", "uri": "hf://a/b", "revision": 3}]}, "`revision` of `sql`"),
        ({"adapters": [{"name": "sql", "uri": "hf://a/b", "rank": 3}]}, "no field `rank`"),
        ({"adapters": [{"name": "sql", "uri": "hf://a/b"}] * 2}, "comes twice"),
        ({"adapters": [{"name": f"a{n}", "uri": "hf://a/b"} for n in range(65)]}, "at most 64"),
    ],
)
def test_what_it_may_not_say(body: object, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse_adapters(body if isinstance(body, str) else json.dumps(body))
    assert said in str(refused.value)


def test_orders() -> None:
    fetched = (Fetched("sql", "/cache/sql"),)
    line = order_line(3, fetched)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert parse_order(json.loads(line)) == Order(3, fetched)
    assert parse_order({"drain": 3}) is None


def test_messages_are_fit_to_be_shown() -> None:
    status = AdapterStatus("sql", "hf://a/b", message="a\x1b[31mb\n" + "x" * 5000).as_json()
    assert "\n" not in status["message"] and "\x1b" not in status["message"] and len(status["message"]) <= 1000
    assert status["state"] == "Pending"
