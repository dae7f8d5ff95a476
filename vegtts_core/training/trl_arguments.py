"""What TRL is told about an update: our parameters in its words, and everything it would do besides turned off.

It knows parameters and a device; it knows no groups or rollouts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from trl.trainer.grpo_config import GRPOConfig

from vegtts_core.training.groups import UpdateParameters


def trl_arguments(
    folder: Path,
    parameters: UpdateParameters,
    steps: int,
    groups: int,
    temperature: float,
    seed: int,
    model: torch.nn.Module,
) -> GRPOConfig:
    """For ``steps`` updates of ``groups`` micro-batches each, with a checkpoint in ``folder`` after every one."""
    device = next(model.parameters()).device
    clip = parameters.clip if parameters.clip is not None else 1.0e9
    arguments = GRPOConfig(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=parameters.learning_rate,
        lr_scheduler_type=parameters.schedule,
        warmup_steps=0,
        weight_decay=parameters.weight_decay,
        adam_beta2=parameters.adam_beta2,
        max_grad_norm=parameters.max_grad_norm,
        per_device_train_batch_size=2,
        num_generations=2,
        gradient_accumulation_steps=groups,
        steps_per_generation=groups,
        num_iterations=1,
        temperature=temperature,
        loss_type=parameters.loss,
        epsilon=clip,
        epsilon_high=clip,
        beta=parameters.kl,
        entropy_coef=parameters.entropy,
        scale_rewards="none",
        shuffle_dataset=False,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
        remove_unused_columns=False,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=False,
        ignore_data_skip=True,
        save_strategy="steps",
        save_steps=1,
        logging_steps=1,
        logging_first_step=True,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )
    if device.type == "cpu":  # accelerate numbers the CPUs of its processes, which torch.load does not know
        arguments.__dict__["_setup_devices"] = device
    return arguments
