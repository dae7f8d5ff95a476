"""One update per step on TRL's GRPOTrainer: groups in, a moved adapter and a checkpoint out.

TRL brings the loss, the clipping, the regularisers, the optimiser and the checkpoints; what is replaced of its path is
in ``group_trainer``, how it is set up in ``trl_arguments``. Under ``accelerate launch`` every process calls this.
It knows token ids, log-probabilities and advantages; it knows no tasks, rewards or texts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from vegtts_core.training.checkpoints import latest_step, step_folder
from vegtts_core.training.group_trainer import GroupTrainer
from vegtts_core.training.groups import Rollouts, StepReport, Stop, UpdateParameters
from vegtts_core.training.processes import join
from vegtts_core.training.sharding import Shards
from vegtts_core.training.trl_arguments import trl_arguments


def train(
    model: PeftModel | torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rollouts: Rollouts,
    folder: Path,
    parameters: UpdateParameters,
    *,
    steps: int,
    groups: int,
    temperature: float,
    seed: int,
    on_step: Callable[[StepReport], None] = lambda report: None,
    keep_every: int = 1,
    save_every: int = 1,
) -> int:
    """Make ``steps`` updates of at most ``groups`` groups each; return the number made.

    Goes on from the newest whole checkpoint in ``folder``, with the result of an unbroken run. Checkpoint s (in
    `step_folder(folder, s)`) is the policy after s updates; ``on_step`` is called before it counts as whole. Once the
    next is there, those of other steps than multiples of ``keep_every`` are deleted. ``save_every``: a run that is
    quickly made again need not save (nor report) every step. Under ``accelerate launch`` every process calls this, with
    the same arguments and a ``folder`` that all of them see; the main one alone saves and reports. A run goes on under
    any number of processes. Raises UserError, with the last checkpoint kept, if loss or gradient is not finite.
    """
    processes = join(next(model.parameters()).device.type)
    begun = processes.broadcast(lambda: latest_step(folder))
    trainer = GroupTrainer(
        model,
        tokenizer,
        rollouts,
        trl_arguments(folder, parameters, steps, groups, temperature, seed, model),
        parameters,
    )
    if begun >= steps:  # nothing to do, but the caller goes on with the policy that all updates made
        trainer._load_from_checkpoint(str(step_folder(folder, begun)))
        return steps
    trainer.args.save_steps = save_every
    trainer.on_step, trainer.keep_every = on_step, keep_every
    trainer.shards = Shards.of(model, processes, parameters.shared_prompt)
    try:
        with warnings.catch_warnings():
            # torch's and accelerate's notes about single processes and devices say nothing to a reader of a run.
            warnings.simplefilter("ignore")
            trainer.train(resume_from_checkpoint=str(step_folder(folder, begun)) if begun else None)
    except Stop as stop:
        steps = stop.step
    trainer.shards.gather()
    if trainer.zero is not None:
        trainer.zero.close()
    return steps
