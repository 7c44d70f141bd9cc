"""Every quantity that Kubernetes reads is read, and nothing else ends in anything but a ValueError."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmservice_operator.facts.nodes import node_kinds
from llmservice_operator.facts.quantity import LARGEST, SMALLEST, parse_quantity

SUFFIXES: dict[str, int | Decimal] = {
    "": 1, "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": 10**3, "M": 10**6, "G": 10**9,
    "T": 10**12, "P": 10**15, "E": 10**18, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
    "Ei": 2**60, "e3": 1000, "E3": 1000, "e+3": 1000, "E-3": Decimal("0.001"), "e0": 1,
}  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("number", "value"), [("2", 2), ("1.5", 1.5), ("5.", 5), (".5", 0.5), ("+3", 3), ("-3", -3)])
def test_every_suffix_goes_with_every_number(number: str, value: float, suffix: str) -> None:
    wanted = (Decimal(str(abs(value))) * SUFFIXES[suffix]).quantize(SMALLEST, ROUND_CEILING).copy_sign(Decimal(value))
    assert parse_quantity(number + suffix) == max(-LARGEST, min(LARGEST, wanted))


def test_the_server_takes_a_suffix_alone_for_nothing() -> None:
    assert parse_quantity("Gi") == parse_quantity("m") == parse_quantity(".") == 0


def test_what_is_too_large_or_too_fine_is_bounded_as_kubernetes_does() -> None:
    assert parse_quantity("9Ei") == parse_quantity("1e999999999") == parse_quantity("1" + "0" * 400) == LARGEST
    assert parse_quantity("-9Ei") == -LARGEST
    assert parse_quantity("1e-999999999") == parse_quantity("0.1n") == SMALLEST
    assert parse_quantity("0e999999999") == parse_quantity("0") == 0


@given(st.one_of(st.text(), st.from_regex(r"[+-]?[0-9.]{0,30}[eEnumkMGTPi]{0,3}[+-]?[0-9]{0,30}", fullmatch=True)))
def test_anything_else_is_a_value_error_that_names_it(text: str) -> None:
    try:
        found = parse_quantity(text)
    except ValueError as error:
        assert "is not a quantity" in str(error)
    else:
        assert -LARGEST <= found <= LARGEST
        assert int(found) == int(found)


AMOUNT = st.one_of(st.sampled_from([f"{n}{s}" for n in ("1", "2.5", "7e") for s in SUFFIXES]), st.text(max_size=5))


@given(st.dictionaries(st.sampled_from(["cpu", "memory", "pods", "nvidia.com/gpu", "a.b/c"]), AMOUNT))
def test_a_node_is_read_or_refused_by_an_error_that_its_reader_expects(allocatable: dict[str, str]) -> None:
    try:
        (kind,) = node_kinds([{"metadata": {"name": "n"}, "status": {"allocatable": allocatable}}])
    except ValueError:
        return
    assert kind == kind and kind.cpus <= LARGEST
