"""What vLLM says before it ends, and what that means. Its engine core says why; the API server's last line does not."""

from __future__ import annotations

from llmservice_runtime.contract.failure import FailureClass

LAST_WORDS = (
    (
        FailureClass.UNSUPPORTED_FORMAT,
        r"model architectures? .{0,200} (is|are) not supported|does not recognize this architecture"
        r"|unknown quantization method|quantization method .{0,80} (is|are) not supported"
        r"|execute the configuration file|contains custom code which must be executed|`trust_remote_code=true`",
    ),
    (
        FailureClass.MODEL_DAMAGED,
        r"weights are not what its config\.json describes|safetensorerror|error while deserializing header"
        r"|incomplete metadata|invalidheader|following weights were not initialized from checkpoint"
        r"|not a valid json file",
    ),
    (FailureClass.OUT_OF_GPU_MEMORY, r"free memory on device .{0,120} is less than|no available memory for the cache"),
    (
        FailureClass.OUT_OF_MEMORY,
        r"available memory on node .{0,200} is less than|kv cache is needed, which is larger than"
        r"|insufficient space in /dev/shm",
    ),
    (
        FailureClass.BAD_ARGUMENT,
        r"invalid (tool call|reasoning) parser|(tool|reasoning)_parser.{0,60} has not been registered"
        r"|reasoning parser .{1,200} not found|unknown attention backend|selected backend .{1,200} is not valid"
        r"|vllm serve: error|api_server.py: error|validation errors? for \w*config"
        r"|value error, .{1,300}\[type=value_error",
    ),
    (FailureClass.CRASHED, r"worker proc .{0,80} died unexpectedly \(exit code: (?P<signal>-\d+)\)"),
    # vLLM may look before the kernel knows how its worker ended: then nobody is told.
    (FailureClass.CRASHED, r"worker proc .{0,80} died unexpectedly \(exit code: none\)"),
    (FailureClass.ENGINE_NOT_INSTALLED, r"no module named '?vllm|no package metadata was found for vllm"),
)
