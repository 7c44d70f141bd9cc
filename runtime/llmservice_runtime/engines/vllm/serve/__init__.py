"""The process that serves: `vllm serve` as itself, with what our contract has and vLLM lacks as plug-ins in it."""
