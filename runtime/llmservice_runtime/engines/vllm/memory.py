"""What vLLM takes: 16-bit weights, blocks of 16 tokens, all that is left of its GPUs; and what arguments change."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from llmservice_runtime.contract.memory import Part
from llmservice_runtime.contract.pictures import TOGETHER, UNPACKED
from llmservice_runtime.engines.base.torch_memory import ALIGNMENT, GPU_BASE, GPU_SHARE_OF_WEIGHTS, TorchMemory
from llmservice_runtime.engines.vllm import kv_cache
from llmservice_runtime.engines.vllm.kv_cache import States
from llmservice_runtime.engines.vllm.options import ONLINE, SEQUENCES, VllmOptions
from llmservice_runtime.engines.vllm.rules import keeps_nothing
from llmservice_runtime.engines.vllm.sharding import layouts, objection
from llmservice_runtime.engines.vllm.told import known
from llmservice_runtime.estimate.budget import ALONE, GPU, HOST, SHARED, Layout, MemoryLine, Shape, cache_lines
from llmservice_runtime.estimate.kv import Pool, kv_bytes, states_bytes
from llmservice_runtime.estimate.overhead import GIB, MIB, activations, feed_forward
from llmservice_runtime.estimate.stages import heaviest, longest
from llmservice_runtime.estimate.weights import expert_share, linear_share
from llmservice_runtime.formats.facts import LayerGroup, ModelFacts, WidthKind
from llmservice_runtime.machine.machine import Device

USUAL_STEP = 8192
"""Tokens of one step, where arguments say nothing..."""
CPU_STEP = 2048
"""...and of an API server on a CPU (arg_utils.py)."""
OUTSIDE = 6 * GIB // 10
"""What is outside of PyTorch's memory on each GPU."""
MOST_SHARE = 3 * GIB // 2
"""Of the weights' share in the buffers: it stands for one layer's activations, and depth adds none."""
BROADCAST, ANSWERS, GROUP = 10 * 16 << 20, 10 * 24 << 20, 6 * 4 << 20
"""Of its queues in /dev/shm (chunks times their size): one to all workers, one of each worker, one of a group. They
must have room, and take what of them is written."""
WORKER = 432 * MIB
"""What a process that computes takes on a CPU, beside the core's."""
NCCL_SHARED = GIB
"""What NCCL's manual asks for."""
PICTURES_KEPT = GIB // 4
"""--mm-processor-cache-gb, as the plan gives it."""
PICTURE_READ = 28 * MIB
"""Of one picture in its API server until it is computed: 2048 x 2048 pixels, as Pillow has them and as an array."""
PATCH_WIDTHS = 6
"""Numbers of a patch that are there together, in widths of the encoder, beside what its feed-forward block has."""
GUESSES = "tokens are guessed ahead, and who knows how many are right"
FETCHES = "weights that are left on the host are fetched from there at each step"
NOT_COUNTED = "The model that drafts tokens is not counted: lower --gpu-memory-utilization by what it takes."


class VllmMemory(TorchMemory):
    """vLLM with the arguments it was given. `cpu_base` was measured (docs/benchmarks-memory.md): 1.2 GiB that its two
    processes have of their own, and 0.4 GiB of libraries.
    """

    max_sequences = SEQUENCES
    fills_gpus = True
    cpu_base = 1664 * MIB
    cpu_spare = 256 * MIB
    gpu_host = 4 * GIB

    def __init__(self, options: VllmOptions | None = None) -> None:
        self.options = options or VllmOptions()
        self.asked = self.options.asked
        self.lifts_context = self.options.lifts_context
        self.notes = (NOT_COUNTED,) if self.options.drafts else ()
        if self.options.drafts or self.options.guessed:
            self.unpredicted = GUESSES
        elif self.options.offloaded:
            self.unpredicted = FETCHES
        self.utilisation = self.options.utilisation
        self.cpu_step = self.options.step or CPU_STEP
        self.cache_bytes = self.options.cache_bytes

    def converted(self, quantization: str) -> VllmMemory:
        return VllmMemory(replace(self.options, converted=ONLINE.get(quantization, "")))

    def stored(self, facts: ModelFacts, device: Device) -> int:
        """Plain weights in the type that is computed with; a byte each where they are converted, but embeddings."""
        if facts.quantization is not None:
            return facts.weight_bytes
        plain = self.plain(facts, device)
        if not self.options.online:
            return plain
        if "linear" in known().online[self.options.online]:
            left = min(plain, 2 * self.options.width * facts.vocab_size * facts.hidden_size)
        else:
            left = int(plain * (1 - expert_share(facts)))
        return left + -(-(plain - left) // self.options.width)

    def plain(self, facts: ModelFacts, device: Device) -> int:
        held = {"F64": 8, "F32": 4}.get(facts.dtype, 2)
        width = 4 if exact(facts, device, self.options) else self.options.width
        return -(-facts.weight_bytes * width // held)

    def repeated(self, facts: ModelFacts, device: Device) -> int:
        """On a CPU embeddings and output are packed for oneDNN, and kept as they were beside it
        (vocab_parallel_embedding.py)."""
        return int(self.stored(facts, device) * (1 - linear_share(facts))) if device is Device.CPU else 0

    def layers(self, facts: ModelFacts, device: Device) -> tuple[LayerGroup, ...]:
        """With those that only fill groups up."""
        kept = kv_cache.kept(facts)
        layers = kv_cache.whole(kept) if self.options.whole_windows else kept
        return kv_cache.laid_out(layers, self.element(facts, device), self._states(facts, device))

    def _states(self, facts: ModelFacts, device: Device) -> States:
        """CPUs have kernels for states of 32 bits (platforms/cpu.py)."""
        if not self.options.caches_prefixes:
            copies = 1
        else:
            names = {facts.architecture, *facts.other_architectures}
            copies = 2 if names.isdisjoint(known().checkpointed) else 3
        copies += self.options.guessed
        return States(copies, device is Device.CPU or self.options.width == 4 or self.options.wide_states)

    def element(self, facts: ModelFacts, device: Device) -> Fraction:
        """What arguments say, else the checkpoint, else the type that is computed with."""
        if self.options.element is not None:
            return self.options.element
        wide = self.options.width == 4 or exact(facts, device, self.options)
        return Fraction(4) if wide else kv_cache.element(facts, device)

    def pool(self, facts: ModelFacts, shape: Shape) -> Pool:
        """What a sliding window has left behind is freed, and blocks are given to whoever needs them: a pool of so many
        tokens is one for sequences of whole contexts, as vLLM counts its capacity."""
        return Pool(
            tokens=shape.kv_tokens,
            sequences=shape.sequences,
            element=self.element(facts, shape.device),
            tensor_parallel=shape.layout.tensor,
            chunk=self.options.step or USUAL_STEP,
            long=-(-shape.kv_tokens // max(1, shape.context_tokens)),
            page=kv_cache.block(
                kv_cache.kept(facts),
                self.element(facts, shape.device),
                self._states(facts, shape.device),
                self.options.page,
            ),
        )

    def layouts(self, facts: ModelFacts, gpus: int) -> tuple[Layout, ...]:
        """What layers can be divided among, or the one that arguments ask for."""
        asked = self.asked.layout
        if asked is None:
            return layouts(facts, gpus, self.options.sharing)
        fits = asked.gpus == gpus and not objection(facts, asked, self.options.sharing)
        return (asked,) if fits else ()

    def unsplit(self, facts: ModelFacts, gpus: int) -> str:
        """What of the model can't be divided."""
        layout = self.asked.layout or Layout(gpus)
        return objection(facts, layout, self.options.sharing)

    def lines(self, facts: ModelFacts, shape: Shape) -> tuple[MemoryLine, ...]:
        """The fullest GPU: the longest stage of a pipeline, with a part of every layer in it."""
        if shape.device is Device.CPU:
            return (*self._split(super().lines(facts, shape)), *self._pictures(facts, self.cpu_step, HOST))
        layout, options = shape.layout, self.options
        whole = int(self.stored(facts, shape.device) * ALIGNMENT)
        weights = -(-heaviest(facts, whole, layout.pipeline) // layout.tensor)
        experts = int(weights * expert_share(facts))
        weights += -(-experts // layout.copies) - experts
        moved = min(options.offloaded, weights)
        layers, pool = self.layers(facts, shape.device), self.pool(facts, shape)
        stage, of = longest(facts, layout.pipeline), max(1, facts.layer_count)
        kv, states = (size * stage // of for size in (kv_bytes(layers, pool), states_bytes(layers, pool)))
        kv = max(kv, self.cache_bytes or 0)  # vLLM takes all that it is told to
        buffers = max(
            GPU_BASE + min(int(weights * GPU_SHARE_OF_WEIGHTS), MOST_SHARE),
            OUTSIDE + self._step(facts, shape),
        )
        adapters = self._adapters(facts, layout)
        offloaded = options.cache_on_host
        lines = (
            MemoryLine("weights", weights - moved, GPU),
            MemoryLine("adapters", adapters, GPU),
            *cache_lines(shape, kv, states, GPU),
            MemoryLine("engine and its buffers", buffers, GPU),
            *self._pictures(facts, self.options.step or USUAL_STEP, GPU),
            MemoryLine("engine processes", self.gpu_host, HOST),
            MemoryLine(SHARED, shared_memory(shape.gpus) + NCCL_SHARED if shape.gpus > 1 else 0, HOST),
            MemoryLine("weights left on the host", moved * shape.gpus, HOST),
            MemoryLine("cache offloaded to the host", offloaded, HOST),
        )
        return tuple(line for line in lines if line.bytes or line.is_cache)

    def cached_tokens(self, facts: ModelFacts, shape: Shape) -> int:
        """Of the KV cache on a CPU."""
        return max(shape.context_tokens, self.cpu_step) if facts.pools else shape.kv_tokens

    def _pooled_lines(self, facts: ModelFacts, shape: Shape, weights: int) -> tuple[MemoryLine, ...]:
        """What has a decoder keeps the texts of one step on a CPU; a GPU is filled with a cache of prefixes anyway."""
        lines = super()._pooled_lines(facts, shape, weights)
        if shape.device is not Device.CPU or keeps_nothing(facts):
            return lines
        tokens = self.cached_tokens(facts, shape)
        kv = kv_bytes(self.layers(facts, shape.device), self.pool(facts, replace(shape, kv_tokens=tokens)))
        return (lines[0], MemoryLine(f"KV cache of {tokens:,} tokens", kv), *lines[1:])

    def _split(self, lines: tuple[MemoryLine, ...]) -> tuple[MemoryLine, ...]:
        """With processes that compute, where arguments ask for some. What was measured of them has their queues in
        it."""
        workers = self.options.workers
        if not workers:
            return lines
        queues = shared_memory(workers)
        more = workers * WORKER - queues
        engine = (replace(line, bytes=line.bytes + more) if line.part is Part.ENGINE else line for line in lines)
        return (*engine, MemoryLine(SHARED, queues))

    def adapters(self, facts: ModelFacts, device: Device) -> int:
        """On a CPU: those that are computed with, and the copies that wait beside them, in 16 bits."""
        return 2 * self._adapters(facts, ALONE)

    def _pictures(self, facts: ModelFacts, tokens: int, where: str) -> tuple[MemoryLine, ...]:
        """Of a step that is all pictures: a layer's activations of their patches, and the vectors that are kept until
        the model has them; on the host what was unpacked last, who unpacks, and the pictures of all requests."""
        vision = facts.vision
        if vision is None:
            return ()
        patches = tokens * max(1, vision.merge) ** 2
        size = self.options.width * (
            patches * (PATCH_WIDTHS * vision.hidden_size + 2 * vision.feed_forward) + tokens * facts.hidden_size
        )
        host = PICTURES_KEPT + UNPACKED + TOGETHER * PICTURE_READ
        if where == HOST:
            return (MemoryLine("pictures", size + host, HOST),)
        return MemoryLine("pictures", size, where), MemoryLine("pictures kept", host, HOST)

    def _adapters(self, facts: ModelFacts, layout: Layout) -> int:
        """Room for LoRA adapters: two matrices of their rank for each of a layer's seven, in 16 bits."""
        count, rank = self.options.adapters
        ends = 9 * facts.hidden_size + 3 * feed_forward(facts)
        return count * rank * ends * 2 * longest(facts, layout.pipeline) // layout.tensor

    def _step(self, facts: ModelFacts, shape: Shape) -> int:
        """Activations of one layer for one step, and rows of logits with what is sampled from."""
        tokens, width = self.options.step or USUAL_STEP, self.options.width
        if self.options.whole_prompts:
            tokens = max(tokens, shape.context_tokens)
        logits = shape.sequences * facts.vocab_size * (4 + width) // shape.layout.tensor
        wide = max((w.size for w in facts.widths if w.kind is WidthKind.DENSE), default=0)
        if wide and not facts.mixture_experts:
            return tokens * width * (3 * wide // shape.layout.tensor + 4 * facts.hidden_size) + logits
        return activations(facts, tokens) * width // 4 + logits


def exact(facts: ModelFacts, device: Device, options: VllmOptions) -> bool:
    """Whether 32-bit weights stay what they are: of vectors on a CPU, where 16 bits are no faster. Elsewhere vLLM makes
    them 16 unasked."""
    said = options.value("--dtype") not in (None, "auto")
    return facts.pools and device is Device.CPU and facts.dtype == "F32" and facts.quantization is None and not said


def shared_memory(processes: int) -> int:
    """Bytes of /dev/shm for the queues to and from so many processes that compute."""
    return BROADCAST + processes * (ANSWERS + GROUP)
