"""What a warm start is a function of."""

from __future__ import annotations

from pydantic import Field

from vegtts_core.cluster.parameters import PooledParameters
from vegtts_core.evaluator import EvaluatorSettings
from vegtts_core.evaluator.types import ProtocolName
from vegtts_core.policy.load import LoraParameters
from vegtts_core.scaffolds.examples import DEFAULT_EXAMPLES
from vegtts_core.tasks import Size
from vegtts_core.training.groups import UpdateParameters
from vegtts_core.training.parameters import ScaffoldName


class WarmStartParameters(PooledParameters):
    """A warm start. ``power``: a kept candidate weighs speedup ** power within its task."""

    policy: str = "embedded"
    lora: LoraParameters = LoraParameters()
    scaffolds: tuple[ScaffoldName, ...] = Field(("forward",), min_length=1)
    tasks: str | tuple[int | str, ...] = "l1_seed42_train"
    split: str = "l1_seed42"
    size: Size = Size.CPU
    examples: tuple[int, ...] = DEFAULT_EXAMPLES
    """In the prompts of the first stage, whose samples are the untrained policy's; later prompts are bare, and so are
    all that the adapter is fitted to."""
    seed: int = 42
    rounds: int = Field(0, ge=0)
    """Further stages: sample from the policy as fitted, judge, fit to all that was kept."""
    k: int = Field(16, ge=1)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(96, ge=1)
    demonstrations: dict[str, int] = Field(default_factory=dict)
    """Worked answers per task in the scaffolds named here; they stand for the first stage's samples."""
    epochs: float = Field(2.0, gt=0)
    """Passes over what was kept, per fit."""
    tasks_per_update: int = Field(8, ge=1)
    power: float = Field(1.0, ge=0)
    most: int = Field(16, ge=1)
    """Kept candidates of a task and scaffold that enter a fit, the fastest first."""
    update: UpdateParameters = UpdateParameters(learning_rate=2.0e-4, schedule="linear")
    protocol: ProtocolName = ProtocolName.SOUND
    evaluator: EvaluatorSettings = EvaluatorSettings()
