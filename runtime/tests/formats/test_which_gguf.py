"""Which of several GGUF files is the model: headers decide, names are hints."""

from __future__ import annotations

import json
import re

import pytest

from llmservice_runtime.formats.errors import UnsupportedModel
from llmservice_runtime.formats.inspect import inspect_model, variants
from tests.formats.conftest import GgufMaker
from tests.formats.model_samples import MemoryFiles

MODEL_NAMES = ["llama-lora-merged", "my_adapter_merged", "mmproj-free-llama", "llama-imatrix", "ggml-vocab-32k-llama"]
MODEL_NAMES += ["x.imatrix", "control-vector-llama", "model-draft", "nomic-embed-like", "vocab-llama"]


@pytest.mark.parametrize("stem", MODEL_NAMES)
@pytest.mark.parametrize("kind", ["model", None])
def test_a_model_is_one_under_any_name(make_gguf: GgufMaker, stem: str, kind: str | None) -> None:
    raw = make_gguf(kind=kind)
    alone = MemoryFiles({f"{stem}-Q4_K_M.gguf": raw})
    assert inspect_model(alone).files == (f"{stem}-Q4_K_M.gguf",)
    files = MemoryFiles({f"{stem}-Q4_K_M.gguf": raw, f"{stem}-Q8_0.gguf": (raw, 9_000_000_000)})
    assert [variant.quantization for variant in variants(files)] == ["Q4_K_M", "Q8_0"]
    with pytest.raises(UnsupportedModel, match=r"2 GGUF models to choose from: Q4_K_M .*; Q8_0 \(9.0 GB") as error:
        inspect_model(files)
    assert chosen_by(error.value, files) == f"{stem}-Q4_K_M.gguf"


def chosen_by(error: UnsupportedModel, files: MemoryFiles) -> str:
    """The model that the advised include leads to."""
    found = re.search(r"include: (\[.*\])\.$", error.remedy)
    assert found
    return inspect_model(files, json.loads(found[1])).files[0]


@pytest.mark.parametrize(
    ("files", "first"),
    [
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], "a-Q4_K_M.gguf"),
        (["x/model.gguf", "y/model.gguf"], "x/model.gguf"),
        (["m[1].gguf", "m1.gguf"], None),
        (["m.gguf", "sub/m.gguf"], "m.gguf"),
        (["Q4_K_M/m.gguf", "Q8_0/m.gguf"], "Q4_K_M/m.gguf"),
        (["mé.gguf", 'm"q".gguf'], 'm"q".gguf'),
        (["m-Q4_K.gguf", "m-Q4_K_S.gguf"], None),
        (["m-q4_0-00001-of-00002.gguf", "m-q4_0-00002-of-00002.gguf", "m-q4_0.gguf"], None),
    ],
)
def test_the_advised_pattern_chooses_one(make_gguf: GgufMaker, files: list[str], first: str | None) -> None:
    held = {}
    for path in files:
        shard = re.search(r"-(\d{5})-of-(\d{5})", path)
        values = {"split.no": int(shard[1]) - 1, "split.count": int(shard[2])} if shard else {}
        held[path] = make_gguf(values=values)
    with pytest.raises(UnsupportedModel, match="to choose from") as error:
        inspect_model(MemoryFiles(held))
    assert chosen_by(error.value, MemoryFiles(held)) in ([first] if first else files)


def test_quantization_is_read_where_the_name_tells_none(make_gguf: GgufMaker) -> None:
    raw = make_gguf()
    with pytest.raises(UnsupportedModel, match=r"Q4_K_M \(1 MB, a.gguf\); Q4_K_M \(1 MB, b.gguf\)"):
        inspect_model(MemoryFiles({"a.gguf": raw, "b.gguf": raw}))


def others(make_gguf: GgufMaker) -> dict[str, bytes]:
    """What is no model, under a model's name."""
    base = {"general.base_model.0.name": "Llama 3.1 8B", "general.base_model.0.organization": "Meta Llama"}
    return {
        "LoRA adapter of Meta Llama/Llama 3.1 8B": make_gguf(kind="adapter", values=base),
        "LoRA adapter of its base model": make_gguf(kind="adapter"),
        "control vector": make_gguf("controlvector", kind=None),
        "image projector": make_gguf("clip", kind="mmproj"),
        "calibration data": make_gguf(kind="imatrix"),
        "type 'upscaler'": make_gguf(kind="upscaler"),
        "a vocabulary and no weights": make_gguf(types=()),
    }


def test_what_is_no_model_is_called_what_it_is(make_gguf: GgufMaker) -> None:
    model = make_gguf()
    for said, raw in others(make_gguf).items():
        with pytest.raises(UnsupportedModel, match=re.escape(said)):
            inspect_model(MemoryFiles({"llama-Q4_K_M.gguf": raw}))
        facts = inspect_model(MemoryFiles({"llama-Q4_K_M.gguf": raw, "y-lora.gguf": model}))
        assert facts.files == ("y-lora.gguf",)
        assert any("llama-Q4_K_M.gguf lies beside" in note for note in facts.notes)


def test_many_files_are_not_all_opened(make_gguf: GgufMaker) -> None:
    raw = make_gguf()
    files = MemoryFiles({f"m-{number:03d}.gguf": raw for number in range(200)} | {"mmproj-m.gguf": make_gguf("clip")})
    assert len(variants(files)) == 200
    assert len(files.asked) == 1


def part(make_gguf: GgufMaker, number: int, count: int) -> bytes:
    """As gguf-split writes them: the later ones hold nothing but tensors."""
    return make_gguf(values={"split.no": number - 1, "split.count": count}, tokens=8 if number == 1 else 0)


@pytest.mark.parametrize(
    "names",
    [
        ["part1.gguf", "part2.gguf", "part3.gguf"],
        ["a.gguf", "b.gguf", "c.gguf"],
        ["m (1).gguf", "m (2).gguf", "m.gguf"],
    ],
)
@pytest.mark.parametrize("have", [[1, 2, 3], [1, 2], [2, 3], [1], [3]])
def test_parts_under_other_names_are_told_the_names_they_need(
    make_gguf: GgufMaker, names: list[str], have: list[int]
) -> None:
    files = {names[number - 1]: part(make_gguf, number, 3) for number in have}
    with pytest.raises(UnsupportedModel, match=f"split into 3 parts, {len(have)} (is|are) here") as error:
        inspect_model(MemoryFiles(files))
    renames = dict(re.findall(r"(?:^|, )(.+?\.gguf) to (\S+\.gguf)", error.value.remedy.partition("Rename ")[2]))
    assert renames.keys() == files.keys()
    renamed = {renames[path]: raw for path, raw in files.items()}
    if len(have) == 3:
        assert inspect_model(MemoryFiles(renamed)).files == tuple(sorted(renamed))
        return
    lacking = next(number for number in (1, 2, 3) if number not in have)
    wanted = re.search(r"named (\S+\.gguf) and so on", error.value.remedy)
    assert wanted
    assert wanted[1].endswith(f"-{lacking:05d}-of-00003.gguf")
    with pytest.raises(UnsupportedModel, match=re.escape(f"{wanted[1]} is missing")):
        inspect_model(MemoryFiles(renamed))


def test_parts_that_were_mixed_up(make_gguf: GgufMaker) -> None:
    one, two = part(make_gguf, 1, 2), part(make_gguf, 2, 2)
    names = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    with pytest.raises(UnsupportedModel, match="split into 2 parts") as error:
        inspect_model(MemoryFiles({names[0]: two, names[1]: one}))
    assert f"Rename {names[0]} to {names[1]}, {names[1]} to {names[0]}" in error.value.remedy
    with pytest.raises(UnsupportedModel, match="says nothing of it"):
        inspect_model(MemoryFiles(dict.fromkeys(names, make_gguf())))
    counted = make_gguf(values={"split.no": 0, "split.count": 2, "split.tensors.count": 99})
    with pytest.raises(UnsupportedModel, match="hold 8 tensors; 99 were split"):
        inspect_model(MemoryFiles({names[0]: counted, names[1]: two}))


def test_parts_in_capitals_are_told_the_names_they_need(make_gguf: GgufMaker) -> None:
    """`llama_split_prefix` compares with lower case."""
    names = ["M-00001-OF-00002.GGUF", "M-00002-OF-00002.GGUF"]
    with pytest.raises(UnsupportedModel, match="split into 2 parts") as error:
        inspect_model(MemoryFiles({name: part(make_gguf, number, 2) for number, name in enumerate(names, 1)}))
    assert f"Rename {names[0]} to M-00001-of-00002.gguf, {names[1]} to M-00002-of-00002.gguf" in error.value.remedy


@pytest.mark.parametrize("names", [["m.gguf", "m (1).gguf"], ["a1.gguf", "b1.gguf", "a2.gguf", "b2.gguf"]])
def test_a_part_that_is_there_twice_is_not_renamed_onto_the_other(make_gguf: GgufMaker, names: list[str]) -> None:
    files = {name: part(make_gguf, 2 if "2" in name else 1, 2) for name in names}
    with pytest.raises(UnsupportedModel, match=r"and .* are each part \d of a model that is split into 2") as error:
        inspect_model(MemoryFiles(files))
    assert "Rename" not in error.value.remedy


def test_a_whole_model_is_taken_beside_stray_parts(make_gguf: GgufMaker) -> None:
    files = {"whole.gguf": make_gguf(), "old1.gguf": part(make_gguf, 1, 2), "old2.gguf": part(make_gguf, 2, 2)}
    facts = inspect_model(MemoryFiles(files))
    assert facts.files == ("whole.gguf",)
    assert len(facts.notes) == 2


@pytest.mark.parametrize(("number", "count"), [(2, 2), (7, 3), (1, 1), (3, 0)])
def test_a_part_behind_the_last_is_no_part(make_gguf: GgufMaker, number: int, count: int) -> None:
    stray = make_gguf(values={"split.no": number, "split.count": count})
    with pytest.raises(UnsupportedModel, match=f"model.gguf .*split.no is {number}, split.count {count}"):
        inspect_model(MemoryFiles({"model.gguf": stray}))
    whole = {"model.gguf": make_gguf(), "other.gguf": stray}
    assert inspect_model(MemoryFiles(whole)).files == ("model.gguf",), "one that can't be is not chosen"
