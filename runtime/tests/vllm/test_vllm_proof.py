"""The proof of vLLM's environment, with modules that stand for it and for PyTorch."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from llmservice_runtime.engines.vllm.install import check


@pytest.mark.parametrize(("device", "gpu", "proven"), [("", False, True), ("", True, False), ("cuda", True, True)])
def test_a_build_for_gpus_is_proven_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, device: str, gpu: bool, proven: bool
) -> None:
    """vLLM then knows no device: images are made on such machines."""
    torch, platforms = ModuleType("torch"), ModuleType("vllm.platforms")
    vars(torch)["cuda"] = SimpleNamespace(is_available=lambda: gpu)
    vars(platforms)["current_platform"] = SimpleNamespace(device_type=device, is_cpu=lambda: False)
    for name, module in (("torch", torch), ("vllm", ModuleType("vllm")), ("vllm.platforms", platforms)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(check, "MODULES", ())
    monkeypatch.setattr(check, "compile_packages", lambda _: None)
    monkeypatch.setattr(check, "version", lambda _: "0.32.0")
    if proven:
        check.main()
    else:
        with pytest.raises(AssertionError, match=r"vLLM 0\.32\.0 finds no device"):
            check.main()
