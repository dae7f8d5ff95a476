"""What a Best-of-N run is a function of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from vegtts_core.cluster.parameters import PooledParameters
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.policy.served import ServedParameters
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.policy.vllm.parameters import VllmParameters, is_default_sampler
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES
from vegtts_core.tasks import Size


class BestOfNParameters(PooledParameters):
    """Parameters of a Best-of-N run; defaults are the paper's (sections 3.1, 4.1, appendix A) where it has them."""

    policy: str = "embedded"
    """``embedded``, a hub id, a folder, a GGUF file, or ``served:MODEL`` for a model behind a server."""
    served: ServedParameters | None = None
    """How that server is reached and asked."""
    adapter: str | None = None
    """Folder of a LoRA adapter."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    sampler: Literal["transformers", "vllm"] = Field("transformers", exclude_if=is_default_sampler)
    """What runs the policy; the completions are the same up to rounding."""
    vllm: VllmParameters = Field(VllmParameters(), exclude=True)
    """The engine of sampler *vllm*. It changes no result and is no part of a run's identity."""
    cuda_graphs: bool = Field(True, exclude=True)
    """Whether sampler *transformers* records decode steps as CUDA graphs on a GPU; no part of a run's identity."""
    scaffold: Literal["forward", "template", "kernel"] = "forward"
    tasks: str | tuple[int | str, ...] = "subset_1"
    """A selection's name, or task numbers or keys."""
    size: Size = Size.CPU
    examples: tuple[int, ...] = DEFAULT_EXAMPLES
    """Training tasks whose worked examples stand in the prompt."""
    seeds: tuple[int, ...] = Field((42, 43), min_length=1)
    k: int = Field(64, ge=1)
    """Samples per task and seed."""
    temperature: float = Field(0.25, ge=0)
    max_new_tokens: int = Field(1024, ge=1)
    prompts_per_batch: int = Field(5, ge=1)
    """Prompts that are sampled together: a unit of work that is either done or not."""
    protocol: ProtocolName = ProtocolName.SOUND
    """Which protocol's reward a sample carries."""
    evaluator: EvaluatorSettings = EvaluatorSettings()

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("a seed is named twice")
        return seeds

    @property
    def sampling(self) -> SamplingParameters:
        """How tokens are drawn."""
        return SamplingParameters(self.temperature, self.max_new_tokens)
