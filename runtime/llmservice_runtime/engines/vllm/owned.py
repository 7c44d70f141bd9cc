"""Options of vLLM that others decide: not to be given, nor offered."""

from __future__ import annotations

from collections.abc import Mapping

MODEL = "model.uri and model.revision say which model that is, and its files are there before vLLM starts"
ADDRESS = "the runtime gives vLLM its address and port, which probes, metrics and the gateway use"
NODES = "a replica runs on one machine"
TRUST = "--trust-remote-code"
_FILES = (
    "--model", "--tokenizer", "--revision", "--code-revision", "--tokenizer-revision", "--download-dir", "--hf-token",
    "--hf-config-path", "--config-format", "--ignore-patterns", "--io-processor-plugin",
)  # fmt: skip
_ADDRESSES = (
    "--host", "--port", "--uds", "--grpc", "--grpc-port", "--root-path", "--ssl-keyfile", "--ssl-certfile",
    "--ssl-ca-certs", "--ssl-cert-reqs", "--ssl-ciphers", "--enable-ssl-refresh", "--api-server-count", "--headless",
)  # fmt: skip
_NODES = (
    "--nnodes", "--node-rank", "--master-addr", "--master-port", "--data-parallel-address", "--data-parallel-rank",
    "--data-parallel-rpc-port", "--data-parallel-size-local", "--data-parallel-start-rank",
    "--data-parallel-external-lb", "--data-parallel-hybrid-lb", "--data-parallel-multi-port-external-lb",
    "--data-parallel-supervisor-port", "--elastic-ep-max-dp-size", "--enable-elastic-ep",
)  # fmt: skip
_TASK = ("the model's files say what it is for, and `task` may", "Leave it out.")
_NEEDS_TOKENIZER = ("texts need the tokenizer", "Leave it out.")
_NOT_PLANNED = ("sizes with it are not planned in this release", "Leave it out.")
OWNED: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(_FILES, (MODEL, "Leave it out, and set model.uri and model.revision.")),
    **dict.fromkeys(_ADDRESSES, (ADDRESS, "Leave it out.")),
    **dict.fromkeys(_NODES, (NODES, "Leave it out, and set accelerator.count.")),
    **dict.fromkeys(("--runner", "--convert"), _TASK),
    **dict.fromkeys(("--skip-tokenizer-init", "--tokens-only"), _NEEDS_TOKENIZER),
    **dict.fromkeys(("--decode-context-parallel-size", "--prefill-context-parallel-size"), _NOT_PLANNED),
    "--served-model-name": (
        "the model answers to the service's name, which the gateway asks for",
        "Leave it out, and name the service by metadata.name.",
    ),
    "--api-key": ("the gateway, its probes and the self-test ask vLLM without a key", "Leave it out."),
    "--config": ("what a file says can't be planned with", "Write its arguments into engine.args."),
    "--device-ids": ("accelerators are handed out by the machine", "Leave it out, and set accelerator.count."),
    "--disable-log-stats": ("scaling reads vLLM's metrics, which it turns off", "Leave it out."),
    TRUST: (
        "model.trustRemoteCode says whether code that a repository brings is run, where the installation allows it",
        "Leave it out.",
    ),
    "--num-gpu-blocks-override": (
        "it sets the KV cache whatever memory there is",
        "Use --kv-cache-memory-bytes, or contextTokens.",
    ),
}
"""Option -> why it is decided elsewhere, and what to do."""
