"""Manifests from files, folders and standard input: every mistake is told with its line, field, reason and remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from llmservice_api.sentences import explain, field_path
from llmservice_api.v1alpha1 import API_VERSION, KIND, LLMService
from llmservice_api.yamltext import MAX_BYTES, SHOWN, Document, YamlTextError, read_documents
from llmservice_runtime.contract.errors import UserError

STDIN = Path("-")
MOST_PROBLEMS = 100
"""Mistakes that are told; reading ends there."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One service as it was written.

    `path` is the file (`-` = standard input), `base` the absolute folder that relative file:// URIs start from: the
    file's own, or the working folder for standard input; `line` is where the document starts.
    """

    service: LLMService
    path: Path
    base: Path
    line: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: `field` in the API's spelling (`spec.model.uri`), empty when no field is to blame; `line` from 1."""

    path: Path
    line: int
    field: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{_place(self.path, self.line)}: {self.field + ': ' if self.field else ''}{self.reason}"


def _place(path: Path, line: int) -> str:
    return f"{'standard input' if path == STDIN else path}:{line}"


class ManifestError(UserError):
    """Manifests that can't be used; `problems` has the mistakes of all of them, in the order of the text."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            super().__init__(str(self.problems[0]), self.problems[0].remedy)
        else:
            lines = [f"  {problem} {problem.remedy}" for problem in self.problems]
            count = f"{len(self.problems)}{' or more' * (len(self.problems) >= MOST_PROBLEMS)}"
            super().__init__(f"{count} mistakes in the manifests:", "Correct them all.", details=lines)


def load_manifests(paths: Sequence[Path], stdin: IO[bytes] | None = None) -> list[Manifest]:
    """Read the services of `paths`: YAML files of one or more documents, folders (their *.yaml and *.yml), `-`.

    `stdin` stands in for the process's own. Raises ManifestError with every mistake, and when there is no service.
    """
    manifests: list[Manifest] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            for file in _files(path):
                _load_text(file, _read(file, stdin), manifests, problems)
        except ManifestError as error:
            problems.extend(error.problems)
    problems.extend(_twice(manifests))
    if not manifests and not problems:
        where = ", ".join(str(path) for path in paths) or "nothing"
        problems.append(
            Problem(paths[0] if paths else STDIN, 1, "", f"no {KIND} in {where}.", "Name a manifest with -f.")
        )
    if problems:
        raise ManifestError(problems[:MOST_PROBLEMS])
    return manifests


def _files(path: Path) -> list[Path]:
    if path == STDIN or not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    if not files:
        raise ManifestError([Problem(path, 1, "", "the folder has no *.yaml file.", "Name the file itself.")])
    return files


def _read(path: Path, stdin: IO[bytes] | None) -> str:
    try:
        if path == STDIN:
            data = (stdin or sys.stdin.buffer).read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = f"the file can't be read: {(error.strerror or str(error)).lower()}."
        raise ManifestError([Problem(path, 1, "", reason, "Check the path given with -f.")]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        if len(data) > MAX_BYTES:  # the cut may fall into a character; the size is the mistake
            return data.decode("utf-8", "replace")
        raise ManifestError([Problem(path, line, "", "the file is not UTF-8 text.", "Save it as UTF-8.")]) from None


def _load_text(path: Path, text: str, manifests: list[Manifest], problems: list[Problem]) -> None:
    base = Path.cwd() if path == STDIN else path.absolute().parent
    try:
        for document in read_documents(text):
            if len(problems) >= MOST_PROBLEMS:
                break
            mistakes = list(_kind_problems(path, document))
            if not mistakes:
                try:
                    service = LLMService.model_validate_json(
                        json.dumps(document.value), strict=True, by_alias=True, by_name=False
                    )
                    manifests.append(Manifest(service, path, base, document.line))
                except ValidationError as error:
                    mistakes = list(_field_problems(path, document, error))
            problems.extend(mistakes)
    except YamlTextError as error:
        problems.append(Problem(path, error.line, field_path(error.path), error.reason, error.remedy))


def _kind_problems(path: Path, document: Document) -> Iterator[Problem]:
    """What makes a document something else than an LLMService; its fields are only looked at when it is one."""
    if not isinstance(document.value, dict):
        yield Problem(
            path, document.line, "", "the document is not a mapping.", f"Start it with apiVersion: {API_VERSION}."
        )
        return
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if field not in document.value:
            yield Problem(path, document.line, field, "this field is required.", f"Add {field}: {wanted}.")
        elif document.value[field] != wanted:
            found = document.value[field]
            line = document.line_of((field,))
            yield Problem(path, line, field, f"{str(found)[:SHOWN]!r} is not {wanted}.", f"Write {field}: {wanted}.")


def _field_problems(path: Path, document: Document, error: ValidationError) -> Iterator[Problem]:
    found: list[Problem] = []
    for details in error.errors(include_url=False)[:MOST_PROBLEMS]:
        location, reason, remedy = explain(details, LLMService)
        found.append(Problem(path, document.line_of(location), field_path(location), reason, remedy))
    yield from sorted(found, key=lambda problem: problem.line)


def _twice(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    first: dict[str, Manifest] = {}
    for manifest in manifests:
        name = manifest.service.full_name
        if name in first:
            before = first[name]
            reason = f"the service {name} stands twice, first in {_place(before.path, before.line)}."
            yield Problem(manifest.path, manifest.line, "metadata.name", reason, "Rename or remove one.")
        first.setdefault(name, manifest)
