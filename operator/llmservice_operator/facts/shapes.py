"""The shapes of objects, as far as they are read: whoever reads them need not ask what each field is.

The API server keeps the shapes of its own kinds. It keeps none of what is in a ControllerRevision, and of an LLMService
only that of the CRD's version that it was stored with.
"""

from __future__ import annotations

from typing import Annotated, Any, Required

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from llmservice_api.labels import COMPONENT, PREPARE
from llmservice_runtime.contract.validation import said

Json = dict[str, Any]
Time = Annotated[
    str, Field(pattern=r"^[1-9]\d{3}-(0[1-9]|1[0-2])-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
]
Texts = dict[str, str]


class _Shape(TypedDict):
    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]


class _Owner(_Shape, total=False):
    uid: Required[str]
    controller: bool


class _Metadata(_Shape, total=False):
    name: Required[str]
    namespace: str
    uid: str
    generation: int
    labels: Texts
    annotations: Texts
    ownerReferences: list[_Owner]
    creationTimestamp: Time
    deletionTimestamp: Time


class _Condition(_Shape, total=False):
    type: Required[str]
    status: Required[str]
    reason: str
    message: str
    lastTransitionTime: Time | None


class _Waiting(_Shape, total=False):
    reason: str
    message: str


class _Running(_Shape, total=False):
    startedAt: Time | None


class _Ended(_Shape, total=False):
    exitCode: Required[int]
    reason: str
    message: str
    startedAt: Time | None
    finishedAt: Time | None


class _State(_Shape, total=False):
    waiting: _Waiting
    running: _Running
    terminated: _Ended


class _ContainerStatus(_Shape, total=False):
    name: Required[str]
    image: str
    ready: bool
    started: bool | None
    restartCount: int
    state: _State
    lastState: _State


class _Status(_Shape, total=False):
    conditions: list[_Condition]
    phase: str
    reason: str
    message: str
    startTime: Time | None
    completionTime: Time | None
    containerStatuses: list[_ContainerStatus]
    initContainerStatuses: list[_ContainerStatus]
    observedGeneration: int
    replicas: int
    updatedReplicas: int
    readyReplicas: int
    active: int
    failed: int


class _Named(_Shape, total=False):
    name: Required[str]


class _PodSpec(_Shape, total=False):
    nodeName: str
    restartPolicy: str
    containers: list[_Named]
    initContainers: list[_Named]
    volumes: list[_Named]


class _TemplateMetadata(_Shape, total=False):
    labels: Texts
    annotations: Texts


class _Template(_Shape, total=False):
    metadata: Required[_TemplateMetadata]
    spec: Required[_PodSpec]


class _WorkloadSpec(_Shape, total=False):
    template: _Template
    strategy: Json
    suspend: bool | None


class _Data(_Shape, total=False):
    """`facts.frozen.KEPT`, with what is read of the template; a test holds them together."""

    engine: str
    reason: str
    summary: str
    fit: str
    resolved_revision: str
    resource: str
    image: str
    notes: list[str]
    installation: str
    job: str
    prepared: str
    progress_seconds: int
    template: Required[_Template]
    plan: Json
    again: str
    model: str


class _Any(_Shape, total=False):
    metadata: Required[_Metadata]
    status: _Status


class _Pod(_Any, total=False):
    spec: Required[_PodSpec]


class _Workload(_Any, total=False):
    spec: Required[_WorkloadSpec]


class _Revision(_Any, total=False):
    data: Required[_Data]
    revision: Required[int]


class _ReadingData(_Shape):
    prepared: str


class _Reading(_Any, total=False):
    """What a Job read, where no plan keeps it."""

    data: Required[_ReadingData]


class _Service(_Shape, total=False):
    metadata: Required[_Metadata]
    spec: Required[Json]


class _Told(_Shape):
    type: str
    status: str
    reason: str
    lastTransitionTime: Time


class _ServiceStatus(_Shape, total=False):
    conditions: list[_Told]
    installation: str


class _About(_Shape, total=False):
    uid: str


class _Series(_Shape, total=False):
    lastObservedTime: Time | None


class _Source(_Shape, total=False):
    component: str


class _Event(_Shape, total=False):
    metadata: Required[_Metadata]
    involvedObject: _About
    series: _Series | None
    source: _Source
    reportingComponent: str
    reason: str
    message: str
    lastTimestamp: Time | None
    eventTime: Time | None


class _ConfigMap(_Any, total=False):
    data: Texts


_STATUS: TypeAdapter[Any] = TypeAdapter(_ServiceStatus)
_ANY: TypeAdapter[Any] = TypeAdapter(_Any)
_READING: TypeAdapter[Any] = TypeAdapter(_Reading)
_SHAPES: dict[str, TypeAdapter[Any]] = {
    "LLMService": TypeAdapter(_Service),
    "Pod": TypeAdapter(_Pod),
    "Job": TypeAdapter(_Workload),
    "Deployment": TypeAdapter(_Workload),
    "ControllerRevision": TypeAdapter(_Revision),
    "Event": TypeAdapter(_Event),
    "ConfigMap": TypeAdapter(_ConfigMap),
}


def readable(kind: str, obj: Json) -> Json:
    """The object, if every field that is read is what its reader expects. Raises ValueError with the first that is not.

    The status of an LLMService is ours, and is written anew where it can't be read.
    """
    _check(_shape(kind, obj), obj)
    if kind == "LLMService" and "status" in obj:
        try:
            _check(_STATUS, obj["status"])
        except ValueError:
            return {name: value for name, value in obj.items() if name != "status"}
    return obj


def _shape(kind: str, obj: Json) -> TypeAdapter[Any]:
    if kind == "ControllerRevision":
        _check(_ANY, obj)
        if obj["metadata"].get("labels", {}).get(COMPONENT) == PREPARE:
            return _READING
    return _SHAPES.get(kind, _ANY)


def _check(shape: TypeAdapter[Any], obj: object) -> None:
    try:
        shape.validate_python(obj)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {said(first)}") from None
