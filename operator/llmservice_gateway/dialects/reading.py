"""Reading the fields of a request one by one: what is wrong, and what nobody reads, is a 400 that names it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from llmservice_runtime.wire.errors import ApiError, bad_request, cut, unsupported

T = TypeVar("T")

_SAID: Mapping[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


class Fields:
    """One JSON object at `path` of a request (empty = the whole body). `null` counts as omitted."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise wrong(path or "body", "an object", value)
        self.path = path
        self._left = {name: given for name, given in value.items() if given is not None}

    def at(self, name: str) -> str:
        """The path of one of its fields."""
        return f"{self.path}.{name}" if self.path else name

    def any(self, name: str) -> Any:
        """A field whatever it is; None = omitted."""
        return self._left.pop(name, None)

    def one(self, kind: type[T], name: str) -> T | None:
        """A field of one kind; None = omitted. `float` takes whole numbers too; only true and false are booleans."""
        given = self.any(name)
        if given is None:
            return None
        right = isinstance(given, (int, float) if kind is float else kind)
        if not right or (isinstance(given, bool) and kind is not bool):
            raise wrong(self.at(name), _SAID[kind], given)
        return given  # type: ignore[no-any-return]

    def must(self, kind: type[T], name: str) -> T:
        """The same for one that has to be there."""
        given = self.one(kind, name)
        if given is None:
            raise bad_request(f"`{self.at(name)}` is missing.", self.at(name), "missing_required_parameter")
        return given

    def kind(self) -> str:
        """Its `type`, which is left to whoever reads the object."""
        given = self.must(str, "type")
        self._left["type"] = given
        return given

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """A text that is one of these; None = omitted."""
        given = self.one(str, name)
        if given is not None and given not in allowed:
            raise wrong(self.at(name), f"one of {', '.join(sorted(allowed))}", given)
        return given

    def object(self, name: str) -> Fields | None:
        """An object in it; None = omitted."""
        given = self.one(dict, name)
        return None if given is None else Fields(given, self.at(name))

    def objects(self, name: str) -> list[Fields] | None:
        """A list of objects in it; None = omitted."""
        given = self.one(list, name)
        return None if given is None else objects(given, self.at(name))

    def texts(self, name: str) -> list[str] | None:
        """A list of strings; None = omitted."""
        given = self.one(list, name)
        for number, text in enumerate(given or ()):
            if not isinstance(text, str):
                raise wrong(f"{self.at(name)}.{number}", "a string", text)
        return given

    def no_op(self, *names: str) -> None:
        """Fields that say nothing a model or this server could follow; the dialect's page lists them."""
        for name in names:
            self.any(name)

    def refuse(self, name: str, why: str, *, but: Any = None) -> None:
        """A field that is only taken when it is `but`: what would happen without it."""
        if (given := self.any(name)) is not None and given != but:
            raise unsupported(self.at(name), why)

    def end(self, instead: Mapping[str, str] | None = None) -> None:
        """Nothing else may be there. `instead`: what to do in place of fields that are known."""
        for name in self._left:
            why = (instead or {}).get(name, "nobody here knows this field; leave it out.")
            raise unsupported(cut(self.at(name), 200), why)


def objects(given: list[Any], path: str) -> list[Fields]:
    """The objects of a list at `path`."""
    return [Fields(value, f"{path}.{number}") for number, value in enumerate(given)]


def wrong(path: str, wanted: str, given: Any) -> ApiError:
    """400: `path` should be something else."""
    shown = _SAID.get(type(given), "null") if isinstance(given, dict | list) else repr(given)
    return bad_request(f"`{path}` must be {wanted}, not {cut(shown)}.", path)
