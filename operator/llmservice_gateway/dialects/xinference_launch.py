"""Xinference's POST /v1/models: from what its client asks for to a service. What has no counterpart is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmservice_api.model_words import PAIR, asked_for, scheme_of
from llmservice_gateway.dialects.pieces import Json
from llmservice_gateway.dialects.reading import Fields, wrong
from llmservice_gateway.launching.wish import FORMS, Leave, Wish, checked
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.wire.errors import ApiError, bad_request, cut, unsupported

BY = "xinference"
ENGINES: Mapping[str, str] = {engine.value.lower(): engine.value for engine in EngineType}
"""By their names without signs: `llama.cpp`, `vLLM`."""
TASKS: Mapping[str, Json] = {"llm": {}, "embedding": {"task": "Embedding"}, "rerank": {"task": "Rerank"}}
FORMATS: Mapping[str, str] = {"ggufv2": "GGUF", "pytorch": "Safetensors"}
HUBS: Mapping[str, str] = {"huggingface": "hf", "modelscope": "modelscope"}
ON_LOAD: Mapping[str, str] = {"4-bit": "BitsAndBytesNF4", "8-bit": "BitsAndBytesInt8"}
"""What becomes of whole weights as they are loaded."""
_PLANNED = "the plan says it; write a manifest where it should be another one."
_OURS = "code and environment of an engine are a manifest's to say."
REFUSED: Mapping[str, str] = {
    "model_size_in_billions": "there is no registry here that has a model in several sizes; `model_name` says which.",
    "request_limits": "how many requests run at a time is planned; `endpoint.maxQueuedRequests` of a manifest bounds "
    "those that wait.",
    "worker_ip": "where a replica runs is the scheduler's to say.",
    "replica_config": "where a replica runs is the scheduler's to say; `replica` says how many there are.",
    "enable_thinking": "each request says it (`chat_template_kwargs`), here for all of them nobody does.",
    "envs": _OURS,
    "trust_remote_code": _OURS,
    "virtual_env_packages": _OURS,
    "virtual_env_find_links": _OURS,
    "gpu_memory_utilization": _PLANNED,
    "tensor_parallel_size": f"{_PLANNED[:-1]}, or `n_gpu`.",
    "model_version": "a revision stands in a manifest (`spec.model.revision`).",
}
NAMES: Mapping[str, str] = {
    "metadata": "model_uid",
    "spec.model": "model_name",
    "spec.replicas": "replica",
    "spec.accelerator": "n_gpu",
    "spec.adapters": "peft_model_config.lora_list",
    "spec.contextTokens": "max_model_len",
    "spec.engine.type": "model_engine",
    "spec.engine.loadQuantization": "quantization",
    "spec.task": "model_type",
}
"""Of fields of a service."""
_SIGNS = re.compile(r"[^a-z0-9]")


def launch(given: Json, leave: Leave) -> Wish:
    """ApiError 400 for what can't be, 403 for what may not be."""
    fields = Fields(given)
    word = _word(fields, leave)
    namespace, name = _uid(fields)
    choice, spec = _weights(fields)
    spec |= TASKS[_one_of(fields, "model_type", TASKS) or "llm"]
    if engine := _one_of(fields, "model_engine", ENGINES):
        spec.setdefault("engine", {})["type"] = ENGINES[engine]
    if (replicas := fields.one(int, "replica")) not in (None, 1):
        spec["replicas"] = replicas
    fields.refuse("n_worker", "a replica runs on one machine; `replica` says how many there are.", but=1)
    if (context := fields.one(int, "max_model_len")) is None:
        context = fields.one(int, "n_ctx")
    if context is not None:
        spec["contextTokens"] = context
    _gpus(fields, spec, leave, cpu="n_gpu" in given and given["n_gpu"] is None)
    if adapters := _adapters(fields, leave):
        spec["adapters"] = adapters
    fields.refuse("enable_virtual_env", "engines have environments of their own.", but=False)
    fields.end(REFUSED)
    return checked(Wish(word, BY, choice, name, namespace, spec), NAMES)


def _word(fields: Fields, leave: Leave) -> str:
    """The model, by `model_path` where that is given: then `model_name` only names it."""
    name, path = fields.must(str, "model_name"), fields.one(str, "model_path")
    hubs = [_one_of(fields, field, HUBS) for field in ("download_hub", "model_hub")]
    hub = next((HUBS[hub] for hub in hubs if hub), "")
    field, word = ("model_path", path) if path else ("model_name", name)
    if hub and PAIR.fullmatch(word):
        word = f"{hub}://{word}"
    word = _located(field, word, leave)
    if hub not in ("", scheme_of(asked_for(word)[0])):
        raise bad_request(f"`download_hub` is {hub}, and the model is named by a URI, which says it.", "download_hub")
    return word


def _located(field: str, word: str, leave: Leave) -> str:
    if not asked_for(word)[0]:
        said = f"`{field}` is {cut(word)!r}, a name as Xinference's own registry has them, which is not here."
        raise bad_request(f"{said} {FORMS}", field, "unknown_model_name")
    leave.check(word, field)
    return word


def _uid(fields: Fields) -> tuple[str, str]:
    """Namespace and name, each empty where it is not said."""
    uid = fields.one(str, "model_uid") or ""
    namespace, _, name = uid.rpartition(".")
    return namespace, name


def _weights(fields: Fields) -> tuple[str, Json]:
    """Which of a repository's quantizations is meant, and what of the spec says the rest."""
    kind = _one_of(fields, "model_format", FORMATS, why="the repository says how its weights are quantized")
    asked = fields.one(str, "quantization") or "none"
    if asked.lower() == "none":
        return "", {"model": {"expectedFormat": FORMATS[kind]}} if kind else {}
    if asked in ON_LOAD:
        if kind == "ggufv2":
            raise unsupported("quantization", f"{asked} is made of whole weights; name one that the repository has.")
        spec: Json = {"model": {"expectedFormat": "Safetensors"}} if kind else {}
        return "", {**spec, "engine": {"loadQuantization": ON_LOAD[asked]}}
    if kind == "pytorch" or not re.fullmatch(r"[A-Za-z0-9_.-]+", asked):
        said = f"{cut(asked)!r} is none of GGUF files. Of other weights 4-bit and 8-bit are made as they are loaded"
        raise unsupported("quantization", f"{said}; a repository that is quantized needs none.")
    return asked, {"model": {"expectedFormat": "GGUF"}}


def _gpus(fields: Fields, spec: Json, leave: Leave, *, cpu: bool) -> None:
    """`n_gpu`: how many a replica has; null is the CPU, `auto` and nothing the plan's. `gpu_idx` names them."""
    count, among = fields.any("n_gpu"), fields.any("gpu_idx")
    if isinstance(count, bool) or not (count is None or count == "auto" or isinstance(count, int)):
        raise wrong("n_gpu", "a whole number, `auto`, or null for the CPU", count)
    number = 0 if cpu else count if isinstance(count, int) else None
    if among is not None:
        indexes = among if isinstance(among, list) else [among]
        if not indexes or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in indexes):
            raise wrong("gpu_idx", "the number of a GPU, or a list of these", among)
        if not leave.here:
            raise unsupported("gpu_idx", "which GPU a replica has is the cluster's to say; `n_gpu` says how many.")
        if number not in (None, len(indexes)):
            raise bad_request(f"`gpu_idx` names {len(indexes)} GPUs, and `n_gpu` is {number}.", "gpu_idx")
        number = len(indexes)
        visible = {"name": "CUDA_VISIBLE_DEVICES", "value": ",".join(map(str, indexes))}
        spec.setdefault("engine", {})["env"] = [visible]
    if number is not None:
        spec["accelerator"] = {"count": number}


def _adapters(fields: Fields, leave: Leave) -> list[Json]:
    given = fields.object("peft_model_config")
    if given is None:
        return []
    path = given.at("lora_list")
    found = []
    for one in given.objects("lora_list") or ():
        name, word = one.must(str, "lora_name"), one.must(str, "local_path")
        one.end()
        where = one.at("local_path")
        uri, choice = asked_for(word)
        if choice or not uri:
            raise bad_request(f"`{where}` is {cut(word)!r}, which is no place of an adapter. {FORMS}", where)
        leave.check(word, where)
        found.append({"name": name, "uri": uri})
    given.end(dict.fromkeys(_OF_IMAGES, "adapters of pictures have no engine here."))
    if not found:
        raise bad_request(f"`{path}` is missing.", path, "missing_required_parameter")
    return found


_OF_IMAGES = ("image_lora_load_kwargs", "image_lora_fuse_kwargs")


def _one_of(fields: Fields, name: str, known: Mapping[str, object], why: str = "") -> str:
    """One of these words, however its case and signs are; empty = it is not said."""
    given = fields.one(str, name)
    if given is None:
        return ""
    if (found := _SIGNS.sub("", given.lower())) in known:
        return found
    raise _none_of(name, given, known, why)


def _none_of(name: str, given: str, known: Mapping[str, object], why: str) -> ApiError:
    listed = ", ".join(known)
    return unsupported(name, f"{cut(given)!r} is none of {listed}{f'; {why}' if why else ''}.")
