"""The file with other names of services; it is read again when it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmservice_runtime.contract.errors import UserError
from llmservice_runtime.contract.validation import said

LOOK_SECONDS = 5.0
"""Between two looks at the file; the kubelet itself brings a changed ConfigMap within about a minute."""
MOST_BYTES = 1 << 20

logger = logging.getLogger(__name__)


class AliasFile(BaseModel):
    """The file: YAML or JSON."""

    model_config = ConfigDict(extra="forbid")

    aliases: dict[str, str] = Field(default_factory=dict, max_length=10_000)
    """Name that clients use -> `namespace/name`."""


def read_aliases(path: Path) -> dict[str, str]:
    """Alias -> full name. UserError names what is wrong."""
    try:
        text = path.read_bytes()
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
        found = AliasFile.model_validate(yaml.safe_load(text) or {}).aliases
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where or 'the file'}: {said(first)}.", _REMEDY) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"The gateway's aliases {path} can't be read: {error}.", _REMEDY) from error
    for alias, name in found.items():
        namespace, _, service = name.partition("/")
        if not alias.strip() or not namespace or not service or "/" in service:
            raise UserError(f"{path}: aliases: {alias!r} leads to {name!r}, which is no namespace/name.", _REMEDY)
    return found


_REMEDY = "Write `aliases: {gpt-4o: apps/qwen}`, as the chart's gateway.aliases."


async def follow(path: Path, rename: Callable[[Mapping[str, str]], None], seconds: float = LOOK_SECONDS) -> None:
    """Hand on what the file says each time that it changed, until cancelled. What can't be read changes nothing."""
    before, told = await asyncio.to_thread(read_aliases, path), ""
    rename(before)
    while True:
        await asyncio.sleep(seconds)
        try:
            now = await asyncio.to_thread(read_aliases, path)
        except UserError as error:
            if str(error) != told:
                logger.error("%s What was read before stays.", error)
            told = str(error)
            continue
        told = ""
        if now != before:
            logger.info("%d aliases were read", len(now))
            before = now
            rename(now)
