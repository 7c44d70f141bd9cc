"""Choose the engine of a model on a machine: a preference order over what the rules allow, with a reason for each.

facts + machine -> per engine and device: the first objection, or none
                -> the first allowed one in order of preference (an explicit request narrows the order to one)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmservice_runtime.contract.bounds import LOAD_QUANTIZATIONS
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.engines.base.case import AS_STORED, Case, Loading, first_objection, is_gguf
from llmservice_runtime.engines.base.choice import Choice, NoChoice, RejectedEngine
from llmservice_runtime.engines.registry import definition, label
from llmservice_runtime.formats.facts import ModelFacts, ModelFormat
from llmservice_runtime.machine.machine import GPU_DEVICES, Device, Machine

UNPACKED = "Use the model's original weights (safetensors), which other engines may run."
"""The way out of a GGUF that even its own engine can't run: a GGUF is made for that engine alone."""


DECODER = "Use a model that is a decoder alone, as those for chat are."
"""The way out of one with an encoder, in whatever format."""
ANOTHER = "Use another model: `llmservice engines URI` says which engines run it."
"""Where no version of the model would help."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One engine on one device: `objection` is empty when it runs."""

    engine: EngineType
    case: Case
    objection: str


def choose(
    facts: ModelFacts,
    machine: Machine,
    requested: EngineType | None = None,
    gpus: int | None = None,
    loading: Loading = AS_STORED,
) -> Choice | NoChoice:
    """The best engine by what it can do; whether it is installed is said in `missing`, and never changes the choice.

    `requested` narrows the choice to one engine and is refused with the reason when that one can't. `gpus`: None = a
    GPU where there is one that an engine can use, 0 = the CPU only, more = GPUs only.
    """
    verdicts = [
        judge(engine, facts, machine, device, loading)
        for device in _devices(machine, gpus)
        for engine in order(facts, device)
    ]
    allowed = [v for v in verdicts if not v.objection]
    wanted = [v for v in allowed if requested in (None, v.engine)]
    if not wanted:
        return _nothing(facts, machine, requested, verdicts, allowed, gpus, loading)
    best = wanted[0]
    build = machine.build(best.engine)
    asked = f"{label(best.engine)} was asked for. " if requested else ""
    return Choice(
        engine=best.engine,
        device=best.case.device,
        gpu=best.case.gpu,
        reason=f"{asked}{definition(best.engine).reason(best.case)}",
        rejected=_rejected(verdicts, best),
        notes=(*_unused_gpu(best, verdicts, machine), *definition(best.engine).notes(best.case), *_general(best.case)),
        missing="" if build.installed else build.install,
    )


def order(facts: ModelFacts, device: Device) -> tuple[EngineType, ...]:
    """Preference on a device, as the engines themselves say."""
    return tuple(sorted(EngineType, key=lambda engine: definition(engine).preference(facts, device)))


def judge(
    engine: EngineType, facts: ModelFacts, machine: Machine, device: Device, loading: Loading = AS_STORED
) -> Verdict:
    """May this engine run this model on this device? The model is asked first: a rebuild helps no format."""
    case = Case(facts, machine, device, machine.gpu if device in GPU_DEVICES else None, loading)
    objection = _writes_alone(engine, case) or first_objection(definition(engine).rules, case)
    objection = objection or _unconverted(engine, case)
    return Verdict(engine, case, objection or _not_built(engine, case) or "")


def _writes_alone(engine: EngineType, case: Case) -> str | None:
    """Vectors and scores of an engine that makes none."""
    if not case.facts.pools or definition(engine).pools:
        return None
    able = [label(other) for other in EngineType if definition(other).pools]
    kind = f"{case.architecture or 'the model'} is a model for {case.facts.task.value.lower()}"
    return f"{kind}, and {label(engine)} only writes text here; {' and '.join(able)} can do that."


def _unconverted(engine: EngineType, case: Case) -> str | None:
    """Weights that can't be made what is asked for while they are loaded."""
    wanted = case.loading.quantization
    if not wanted:
        return None
    if case.facts.quantization is not None:
        return f"the weights are quantized already ({case.weights}), and are not made {wanted} while they are loaded."
    if wanted not in definition(engine).conversions:
        able = [label(other) for other in EngineType if wanted in definition(other).conversions]
        elsewhere = f"; {' and '.join(able)} can" if able else ""
        return f"{label(engine)} can't make weights {wanted} while loading them{elsewhere}."
    return None


def _not_built(engine: EngineType, case: Case) -> str | None:
    build = case.machine.build(engine)
    if case.device in build.devices:
        return None
    if not build.devices:
        return f"{label(engine)} is not part of this release."
    built_for = ", ".join(sorted(device.value for device in build.devices))
    return f"the {label(engine)} build is for {built_for} only, not for {case.where}."


def _devices(machine: Machine, gpus: int | None) -> tuple[Device, ...]:
    gpu = (machine.gpu.vendor,) if machine.gpu and gpus != 0 else ()
    return gpu if gpus else (*gpu, Device.CPU)


def _rejected(verdicts: list[Verdict], best: Verdict) -> tuple[RejectedEngine, ...]:
    """One reason per other engine: its objection on the chosen device, or that it would run there too."""
    second = f"it would run on {best.case.where} too, but {label(best.engine)} is the better choice here."
    return tuple(
        RejectedEngine(v.engine, v.objection or second)
        for engine in EngineType
        for v in verdicts
        if v.engine is engine is not best.engine and v.case.device is best.case.device
    )


def _unused_gpu(best: Verdict, verdicts: list[Verdict], machine: Machine) -> tuple[str, ...]:
    """A GPU that stays idle is said, with the reason, never passed over."""
    if best.case.gpu or not machine.gpu:
        return ()
    objection = next((v.objection for v in verdicts if v.engine is best.engine and v.case.gpu), "")
    if not objection:
        return ("The GPU is not used, as accelerator.count: 0 says.",)
    said, build = f"The GPU is not used: {objection}", machine.build(best.engine)
    if (way := build.gpu_builds.get(machine.gpu.vendor)) and machine.gpu.vendor not in build.devices:
        said += f" Prompts are read and answers written at the CPU's speed. {way}"
    return (said,)


def _general(case: Case) -> tuple[str, ...]:
    facts, said = case.facts, list(case.facts.notes)
    if facts.format is ModelFormat.PICKLE:
        said.append("Pickle weights are loaded as tensors only (weights_only); a safetensors copy loads faster.")
    if facts.remote_code:
        run = "is run, as model.trustRemoteCode says" if case.loading.remote_code else "is not run"
        said.append(f"The repository brings code of its own (auto_map), which {run}.")
    elif case.loading.remote_code and is_gguf(case):
        said.append("model.trustRemoteCode changes nothing: a GGUF brings no code.")
    return tuple(said)


def _nothing(
    facts: ModelFacts,
    machine: Machine,
    requested: EngineType | None,
    verdicts: list[Verdict],
    allowed: list[Verdict],
    gpus: int | None,
    loading: Loading,
) -> NoChoice:
    rejected = _all_rejected(verdicts, requested)
    if gpus and not machine.gpu:
        return NoChoice(
            f"accelerator.count is {gpus}, and {machine.no_gpu}.",
            ("Leave accelerator out, or set accelerator.count to 0 and no more: the model then runs on the CPU.",),
            rejected,
        )
    ways = []
    engines = [engine for engine in EngineType if requested in (None, engine)]
    if gpus and any(not judge(engine, facts, machine, Device.CPU, loading).objection for engine in engines):
        ways.append("Leave accelerator out, or set accelerator.count to 0 and no more: the model then runs on the CPU.")
    ways += _other_loading(facts, machine, engines, _devices(machine, gpus), loading)
    ways += _other_versions(Case(facts, machine, Device.CPU))
    if requested is not None:
        objection = next(v.objection for v in verdicts if v.engine is requested)
        instead = tuple(dict.fromkeys(v.engine for v in allowed if machine.build(v.engine).installed))
        return NoChoice(f"engine.type is {requested.value}, but {objection}", tuple(ways), rejected, instead)
    if facts.remote_code and not loading.remote_code:
        ways.append(
            "Use a version of the model in classes of Transformers' own (often named -hf): the code that a repository "
            "brings is not run."
        )
    method = facts.quantization.name if facts.quantization else facts.dtype
    made = f", made {loading.quantization} while loading," if loading.quantization else ""
    where = " or ".join(dict.fromkeys(v.case.where for v in verdicts))
    gguf = facts.format is ModelFormat.GGUF  # what an engine of another format says helps nobody
    likely = [v.objection for v in verdicts if gguf or not definition(v.engine).gguf] or [verdicts[0].objection]
    return NoChoice(
        f"no engine runs {method} {facts.format} weights{made} on {where}: {likely[0]}", tuple(ways), rejected
    )


def _other_loading(
    facts: ModelFacts, machine: Machine, engines: Sequence[EngineType], devices: Sequence[Device], loading: Loading
) -> Iterator[str]:
    """What would run when it were loaded otherwise."""

    def runs(other: Loading) -> bool:
        return any(not judge(e, facts, machine, device, other).objection for e in engines for device in devices)

    if facts.remote_code and not loading.remote_code and runs(dataclasses.replace(loading, remote_code=True)):
        yield (
            "Set model.trustRemoteCode to true, where the installation allows it: the code that the repository brings "
            "then runs with the rights of the replica."
        )
    if loading.quantization:
        for other in LOAD_QUANTIZATIONS:
            if other != loading.quantization and runs(dataclasses.replace(loading, quantization=other)):
                yield f"Set engine.loadQuantization to {other}."
        if runs(dataclasses.replace(loading, quantization="")):
            yield "Leave engine.loadQuantization out: the weights are then loaded as they are stored."


def _all_rejected(verdicts: list[Verdict], requested: EngineType | None) -> tuple[RejectedEngine, ...]:
    """One reason per engine: what it objects to on the first device, or that another one was asked for."""
    found = []
    for engine in EngineType:
        mine = [v for v in verdicts if v.engine is engine]
        runs = next((v for v in mine if not v.objection), None)
        if runs and requested:
            build = runs.case.machine.build(engine)
            reason = f"it would run on {runs.case.where}, but engine.type asks for {label(requested)}."
            found.append(RejectedEngine(engine, reason if build.installed else f"{reason} {build.install}".strip()))
        elif mine:
            found.append(RejectedEngine(engine, mine[0].objection))
    return tuple(found)


def _other_versions(case: Case) -> list[str]:
    """What engines that can't read this model would run instead."""
    engines = map(definition, EngineType)
    ways = [way for engine in engines if first_objection(engine.rules, case) and (way := engine.way_out(case))]
    if case.facts.encoder:
        return [DECODER]
    return [UNPACKED] if ways and is_gguf(case) else ways or [ANOTHER]
