"""Names as Ollama writes them: `[HOST/][NAMESPACE/]MODEL[:TAG]`, of which only MODEL has to be said."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_NAME = re.compile(
    rf"(?:(?:(?P<host>{_PART}(?::\d{{1,5}})?)/)?(?P<namespace>{_PART})/)?(?P<model>{_PART})(?::(?P<tag>{_PART}))?"
)


@dataclass(frozen=True, slots=True)
class OllamaName:
    """All four parts of a name."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def shown(self) -> str:
        """As `ollama list` has it: without what is so anyway, and always with the tag."""
        parts = [self.host, self.namespace, f"{self.model}:{self.tag}"]
        if parts[0] == HOST:
            parts = parts[2:] if parts[1] == NAMESPACE else parts[1:]
        return "/".join(parts)

    @property
    def folded(self) -> tuple[str, ...]:
        """Equal for names that Ollama takes for one another: upper and lower case do not matter."""
        return tuple(part.lower() for part in (self.host, self.namespace, self.model, self.tag))


def parse_name(text: str) -> OllamaName | None:
    """A name that a person wrote, with what was left out; None when it can't be one."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in text:
        return None
    host, namespace = found["host"] or HOST, found["namespace"] or NAMESPACE
    return OllamaName(host, namespace, found["model"], found["tag"] or TAG)
