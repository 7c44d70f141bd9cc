"""What an unquoted word of YAML means: read where all readers agree, refused where they don't.

YAML 1.1 (which kubectl reads) and YAML 1.2 take `yes`, `0o17`, `017` or `1_000` for different things. `1:30` (90 to old
readers) and dates are the text that is written, as for kubectl.
"""

from __future__ import annotations

import re
from math import isfinite

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_OLD_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"})
_OLD_FALSE = frozenset({"n", "N", "no", "No", "NO", "off", "Off", "OFF"})
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_OLD_INTEGER = re.compile(r"[-+]?0[xX][0-9a-fA-F]+|[-+]?0[oO][0-7]+|[-+]?0[bB][01]+|[-+]?0[0-9]+")
_DIGITS = 19
"""Of the largest integers that JSON's readers keep."""

Scalar = str | int | float | bool | None


def plain_value(text: str) -> Scalar:
    """The value of an unquoted scalar. ValueError says why it has none: how it is read differs, or JSON has no such
    number."""
    if not text or not (text[0].isascii() and (text[0] in "+-.~" or text[0].isalnum())):
        return None if text in _NULL else text
    if text[0].isalpha() or text[0] == "~":
        return _word(text)
    if _NO_NUMBER.fullmatch(text):
        raise ValueError("JSON has no such number")
    if _INTEGER.fullmatch(text):
        if len(text.lstrip("+-")) > _DIGITS:
            raise ValueError(f"a number of more than {_DIGITS} digits is not kept exactly")
        return int(text)
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    digits = text.replace("_", "")
    if _OLD_INTEGER.fullmatch(digits) or (digits != text and _FLOAT.fullmatch(digits)):
        raise ValueError("readers of YAML take it for different numbers, or for a text")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not isfinite(number):
            raise ValueError("the number is too large")
        return number
    return text


def _word(text: str) -> Scalar:
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text in _OLD_TRUE or text in _OLD_FALSE:
        meant = "true" if text in _OLD_TRUE else "false"
        raise ValueError(f"it is {meant} to kubectl and a text to other readers of YAML")
    return text
