"""Our parsers among vLLM's: what it imports before it looks at its arguments, and what its engine core has loaded.

By name and place; they are imported where they are used.
"""

from __future__ import annotations

from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from llmservice_runtime.engines.vllm.plugins import PARSER

_MODULE = "llmservice_runtime.engines.vllm.serve.parsers"

ToolParserManager.register_lazy_module(name=PARSER, module_path=_MODULE, class_name="LearnedTools")
ReasoningParserManager.register_lazy_module(name=PARSER, module_path=_MODULE, class_name="LearnedThinking")
