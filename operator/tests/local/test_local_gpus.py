"""Which replica gets which GPU: pure, and through the claims that all instances of a user see."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from llmservice_api.v1alpha1 import LLMServiceSpec
from llmservice_cli.local.gpus import GpuNeed, crowded, dealt, suited
from llmservice_cli.local.holds import Hold, Memory, Need
from llmservice_cli.local.room import Claim, Room
from llmservice_cli.plans import beside, not_there, visible, without
from llmservice_planning.plan import Plan
from llmservice_runtime.contract.engines import EngineType
from llmservice_runtime.contract.failure import FailureClass, FailureRecord
from llmservice_runtime.estimate.fit import Fit
from llmservice_runtime.machine.machine import Device, Gpu, Machine
from llmservice_runtime.machine.visible import CUDA_ENV

GIB = 1 << 30
CARDS = tuple(Gpu("X", Device.NVIDIA, 8 * GIB, 80, id=f"GPU-{n}", index=n, free_bytes=7 * GIB) for n in range(4))
IDS = [gpu.id for gpu in CARDS]
NEEDS = st.lists(
    st.builds(
        GpuNeed,
        st.sampled_from(["X", "Y"]),
        st.integers(0, 3),
        st.just(GIB),
        st.lists(st.sampled_from(IDS), max_size=3).map(tuple),
    ),
    max_size=4,
)
TAKEN = st.sets(st.sampled_from(IDS))


@given(NEEDS, TAKEN)
def test_nobody_gets_what_another_has_or_what_it_may_not_have(needs: list[GpuNeed], taken: set[str]) -> None:
    given_ = dealt(needs, CARDS, taken)
    flat = [gpu.id for gpus in given_ for gpu in gpus]
    assert len(flat) == len({*flat}) and not {*flat} & taken
    for need, gpus in zip(needs, given_, strict=True):
        assert len(gpus) <= need.count and all(gpu.product == need.kind for gpu in gpus)
        assert not need.among or {gpu.id for gpu in gpus} <= {*need.among}
        spare = [gpu for gpu in suited(need, CARDS, taken) if gpu.id not in flat]
        assert len(gpus) == need.count or not spare, "none lies idle that it could have"


@given(NEEDS, TAKEN, st.integers(0, 3))
def test_what_fits_is_what_can_be_chosen_beside_what_is_kept_for_others(
    kept: list[GpuNeed], taken: set[str], count: int
) -> None:
    hold = Hold("a/a", "/a", 0, instance=1, replica="a", gpus=tuple(taken))
    memory = Memory(GIB, GIB, (hold,), None, 1, CARDS).after(Need("", 0, one) for one in kept)
    need = Need("/m", 0, GpuNeed("X", count, GIB))
    chosen = memory.choose(need.gpus)
    if memory.fits(need):
        assert len(chosen) == count and not {gpu.id for gpu in chosen} & taken
        assert memory.without({"a"}).fits(need), "room that is made takes none away"
    assert memory.gpus_short(need.gpus) <= count


def test_one_that_other_programs_fill_comes_last_and_that_is_said() -> None:
    gpus = (dataclasses.replace(CARDS[0], free_bytes=GIB), CARDS[1])
    need = GpuNeed("X", 2, 2 * GIB)
    assert [gpu.id for gpu in suited(need, gpus)] == ["GPU-1", "GPU-0"]
    assert crowded(need, gpus) == (
        "1.0 GiB of 8.0 GiB are free on GPU 0; it is planned to take 2.0 GiB: other programs have the rest."
    )
    assert not crowded(need, CARDS) and not crowded(need, [dataclasses.replace(CARDS[0], free_bytes=None)])


def room(folder: Path, gpus: tuple[Gpu, ...] = CARDS) -> Room:
    return Room(folder, lambda: (16 * GIB, 16 * GIB), gpus=lambda: gpus)


def test_two_instances_at_once_never_give_the_same_gpu_away(tmp_path: Path) -> None:
    rooms, need, got = [room(tmp_path) for _ in range(3)], Need("/m", 1, GpuNeed("X", 1, GIB)), list[object]()
    threads = [threading.Thread(target=lambda one=one: got.append(one.claim("apps/a", need))) for one in rooms * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claims = [one for one in got if isinstance(one, Claim)]
    assert sorted(gpu.id for claim in claims for gpu in claim.gpus) == IDS
    refused = [one for one in got if isinstance(one, FailureRecord)]
    assert len(refused) == 2 and all(one.failure is FailureClass.DOES_NOT_FIT for one in refused)
    assert "takes 1 × X, and none of 4 is free: apps/a has GPU 0" in refused[0].message
    assert claims[0].environment({}) == {CUDA_ENV: claims[0].gpus[0].id}
    gone = claims.pop()
    gone.release()
    (again,) = [one for one in [room(tmp_path).claim("apps/b", need)] if isinstance(one, Claim)]
    assert again.gpus == gone.gpus


def test_what_is_made_for_others_is_not_taken(tmp_path: Path) -> None:
    here, two = room(tmp_path, CARDS[:2]), Need("/m", 1, GpuNeed("X", 2, GIB))
    assert isinstance(here.claim("apps/a", two, ahead=lambda: (two,)), FailureRecord)
    one = Need("/m", 1, GpuNeed("X", 1, GIB, ("GPU-1",)))
    any_ = here.claim("apps/a", Need("/m", 1, GpuNeed("X", 1, GIB)), ahead=lambda: (one,))
    assert isinstance(any_, Claim) and [gpu.id for gpu in any_.gpus] == ["GPU-0"]


def test_the_only_gpu_is_seen_as_it_is_and_a_silent_driver_changes_nothing(tmp_path: Path) -> None:
    answers = [CARDS[:1], ()]
    here = Room(tmp_path, lambda: (GIB, GIB), gpus=lambda: answers.pop(0))
    need = Need("/m", 1, GpuNeed("X", 1, GIB))
    claim = here.claim("apps/a", need)
    assert isinstance(claim, Claim) and claim.gpus and claim.environment({}) == {}
    claim.release()
    here._asked_at = float("-inf")
    assert isinstance(here.claim("apps/a", need), Claim)
    none = Room(tmp_path, lambda: (GIB, GIB), gpus=lambda: ()).claim("apps/b", need)
    assert isinstance(none, FailureRecord) and "there is none that it may have" in none.message


MACHINE = Machine(4, 64 * GIB, 64 * GIB, gpus=CARDS)


def spec(**body: object) -> LLMServiceSpec:
    return LLMServiceSpec.model_validate({"model": {"uri": "file://x.gguf"}, **body})


def env(value: str, **body: object) -> LLMServiceSpec:
    return spec(engine={"env": [{"name": CUDA_ENV, "value": value}]}, **body)


def planned(count: int) -> Plan:
    return Plan(
        EngineType.LLAMA_CPP, "", (), Fit.FITS, "X", count, 1, 1, -1, 1, 1, 1, (), 1, 1, "", "", "Chat", ()
    )  # fmt: skip


def test_what_gives_way_leaves_everything_and_what_stays_leaves_the_rest() -> None:
    gives = spec(scaling={"minReplicas": 0, "maxReplicas": 2})
    assert beside(MACHINE, planned(2), gives) == MACHINE
    left = beside(MACHINE, planned(1), spec(replicas=3))
    assert [gpu.id for gpu in left.gpus] == ["GPU-3"] and [gpu.id for gpu in left.others] == IDS[:3]
    assert [gpu.id for gpu in beside(MACHINE, planned(1), env("2")).gpus] == ["GPU-0", "GPU-1", "GPU-3"]
    assert beside(MACHINE, planned(0), spec()).gpus == CARDS
    imagined = Machine(4, GIB, GIB, gpus=(Gpu("X", Device.NVIDIA, GIB, 80),) * 2)
    assert len(beside(imagined, planned(1), env("2")).gpus) == 1


def test_what_a_service_names_is_looked_for_among_all_whoever_has_it() -> None:
    taken = without(MACHINE, CARDS[1:3])
    assert [gpu.id for gpu in visible(taken, env("1,3,0")).gpus] == ["GPU-3", "GPU-0"]
    assert not_there(env("1"), taken) is None and not visible(taken, env("1")).gpus
    assert not_there(env("", accelerator={"count": 0}), MACHINE) is None and not visible(MACHINE, env("")).gpus
    refused = not_there(env("0,9"), MACHINE)
    assert refused is not None and refused.field == "spec.engine.env" and "names '9'" in refused.reason
    refused = not_there(env("0", accelerator={"count": 2}), MACHINE)
    assert refused is not None and "names one GPU, and accelerator.count is 2" in refused.reason
    assert visible(MACHINE, spec()) is MACHINE
