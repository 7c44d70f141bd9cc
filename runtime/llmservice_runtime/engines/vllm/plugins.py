"""What of ours vLLM loads into its processes, as entry points of a distribution: the installer writes it beside vLLM.

A package that is linked into an environment has no entry points: without the distribution vLLM would load nothing, and
say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

DISTRIBUTION = "llmservice-vllm"
"""Name of the metadata-only distribution that carries the entry points."""

_SERVE = "llmservice_runtime.engines.vllm.serve"

PARSER = "llmservice"
"""The name of our parsers among vLLM's."""
REGISTRATION = f"{_SERVE}.registration"
"""Module that tells vLLM of our parsers: it looks at their names before it loads plug-ins."""

PROCESSES = "llmservice_processes"
STEPS = "llmservice_steps"
API = "llmservice_api"

STARTUP = (
    "import os, sys; "
    "'LLMSERVICE_ENGINE_PID' in os.environ and '--multiprocessing-fork' in sys.orig_argv "
    f"and __import__('{_SERVE}.processes', fromlist=['follow']).follow()"
)
"""What interpreters of vLLM's environment run first: a process that vLLM begins as a new program, which imports for a
minute before it comes to plug-ins, is to die with the one that began it all that time."""

WORKER = f"{_SERVE}.worker.Telling"
"""What workers are extended by, to be asked about their memory."""

ENTRY_POINTS: Mapping[str, Mapping[str, str]] = {
    "vllm.general_plugins": {PROCESSES: f"{_SERVE}.processes:arm"},
    "vllm.stat_logger_plugins": {STEPS: f"{_SERVE}.steps:StepCounter"},
    "vllm.endpoint_plugins": {API: f"{_SERVE}.api:Api"},
}
"""Group -> name -> object, as entry_points.txt has them."""

NAMES = tuple(name for group in ENTRY_POINTS.values() for name in group)
"""All of ours, in the order in which vLLM comes to them."""
