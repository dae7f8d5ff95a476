"""Parameters of a run that moves weights: test-time training, SDPO and the outer loop are all of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vegtts_core.cluster.parameters import PooledParameters
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.policy.load import LoraParameters
from vegtts_core.policy.types import SamplingParameters
from vegtts_core.policy.vllm.parameters import VllmParameters, is_default_sampler
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES
from vegtts_core.tasks import Size
from vegtts_core.training.advantages import AdvantageParameters
from vegtts_core.training.groups import UpdateParameters
from vegtts_core.training.replay import ReplayParameters
from vegtts_core.training.rewards import RewardParameters
from vegtts_core.training.teacher import SelfDistillationParameters

ScaffoldName = Literal["forward", "template", "kernel"]


class AdaptationParameters(PooledParameters):
    """An adaptation run; defaults are the paper's (sections 3.4 to 3.6, appendix A) where it has them.

    Rollouts of step s are written by checkpoint s (step 0: the policy that the run starts with), judge it, and give the
    update that makes checkpoint s + 1; after the last update, rollouts judge the last checkpoint. A run with ``steps``
    S so has (S + 1) x tasks x K rollouts. Algorithm 1 as printed files the rollouts of checkpoint s - 1 under s; here,
    as in the paper's trajectory table, a score belongs to the policy that wrote the rollouts.

    Step 0 of seed s draws what Best-of-N with seed s draws: its first K samples are the same.
    ``pool: ray`` spreads the evaluation; the policy, which moves with every step, samples where it is trained.
    """

    policy: str = "embedded"
    """``embedded``, a hub id, a folder or a GGUF file."""
    adapter: str | None = None
    """The adapter to start from (``embedded``: ours); None starts a new one, which changes nothing until trained."""
    lora: LoraParameters = LoraParameters()
    sampler: Literal["transformers", "vllm"] = Field("transformers", exclude_if=is_default_sampler)
    """What writes the rollouts: the trained model itself, or a vLLM engine beside it on the same devices (colocated),
    which loads each checkpoint's adapter as it is written. The completions are the same up to rounding."""
    vllm: VllmParameters = Field(VllmParameters(), exclude=True)
    """The engine of sampler *vllm*; it shares the device's memory with the trainer (``gpu_memory_utilization``)."""
    cuda_graphs: bool = Field(True, exclude=True)
    """Whether sampler *transformers* records decode steps as CUDA graphs on a GPU; no part of a run's identity."""
    scaffolds: tuple[ScaffoldName, ...] = Field(("forward",), min_length=1)
    """With several, a step draws from all pairs of task and scaffold (tasks without a template are left out there)."""
    tasks: str | tuple[int | str, ...] = "subset_1"
    tasks_per_step: int | None = Field(None, ge=1)
    """None: every task in every step (test-time training); else that many, drawn without repetition until all were."""
    training_only: bool = False
    """Refuse tasks that some published split evaluates on (other than as training tasks of ``split``)."""
    split: str = "l1_seed42"
    """The published split whose evaluation tasks ``training_only`` keeps out."""
    size: Size = Size.CPU
    examples: tuple[int, ...] = DEFAULT_EXAMPLES
    """Training tasks whose worked examples stand in the prompt."""
    seed: int = 42
    steps: int = Field(5, ge=0)
    k: int = Field(32, ge=1)
    """Rollouts per task and step."""
    temperature: float = Field(0.25, gt=0)
    loss_temperature: float | None = Field(None, gt=0)
    """Temperature of the log-probabilities in the loss; None: the one that was sampled at (TRL's convention)."""
    max_new_tokens: int = Field(1024, ge=1)
    judge_last: bool = True
    """Sample and judge the last checkpoint too; without it a run of S steps has S x tasks x K rollouts."""
    keep_every: int = Field(1, ge=1)
    """Checkpoints whose step is no multiple of this are deleted once the next is there."""
    patience: int | None = Field(None, ge=1)
    """Stop when aggregate fast_1 has been below its best for so many steps in a row (section 3.5); None: never."""
    algorithm: Literal["grpo", "sdpo"] = "grpo"
    rewards: RewardParameters = RewardParameters()
    advantages: AdvantageParameters = AdvantageParameters()
    replay: ReplayParameters = ReplayParameters()
    distillation: SelfDistillationParameters = SelfDistillationParameters()
    update: UpdateParameters = UpdateParameters()
    protocol: ProtocolName = ProtocolName.SOUND
    """Whose speedups are rewards, and whose fast_1 is the score."""
    evaluator: EvaluatorSettings = EvaluatorSettings()

    @model_validator(mode="after")
    def _baseline(self) -> AdaptationParameters:
        alone = self.k == 1 and self.advantages.scope == "group" and self.algorithm == "grpo" and self.steps > 0
        if alone:
            raise ValueError(
                "one rollout per task has no group to be held against: use k >= 2 or advantages.scope batch"
            )
        if self.protocol not in self.evaluator.protocols:
            raise ValueError(f"protocol {self.protocol} is not among evaluator.protocols: add it there")
        return self

    @property
    def sampling(self) -> SamplingParameters:
        """How tokens are drawn."""
        return SamplingParameters(self.temperature, self.max_new_tokens)

    @property
    def temperature_of_loss(self) -> float:
        """At which log-probabilities enter the loss."""
        return self.loss_temperature or self.temperature
