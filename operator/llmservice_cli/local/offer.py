"""An engine that a plan names and that is not here: it is installed, when the user wants that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.registry import label


def _terminal(question: str) -> bool | None:
    """The answer; None = nobody is there to answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    sys.stderr.write(f"{question} [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "") if sys.stdin.readable() else None


def _bring(engine: EngineType) -> None:
    from llmservice_runtime.install.make import Install, install

    install(Install(engine))


def _size(engine: EngineType) -> str:
    from llmservice_runtime.install.make import Install, expected
    from llmservice_runtime.install.space import gigabytes

    size = expected(Install(engine))
    return f"at most {gigabytes(size.fetched)} to fetch, {gigabytes(size.unpacked)} on disk"


@dataclass(frozen=True, slots=True)
class Offer:
    """`yes` = nobody is asked. The rest is for tests."""

    yes: bool = False
    ask: Callable[[str], bool | None] = _terminal
    bring: Callable[[EngineType], None] = _bring
    size: Callable[[EngineType], str] = _size

    def __call__(self, service: str, engine: EngineType) -> bool:
        """Whether it is installed now. UserError when it could not be."""
        if not self.yes:
            question = f"{service} needs {label(engine)}, which is not installed: {self.size(engine)}. Install it now?"
            if not self.ask(question):
                return False
        self.bring(engine)
        return True


ALSO = "Or let `llmservice up --yes` install it."
