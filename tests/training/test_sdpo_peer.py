"""Our self-distillation beside TRL's experimental SDPOTrainer, where the two coincide: its loss of sampled tokens.

They coincide for beta = 1, a live teacher (the student's own weights), the same contexts, and the average over tokens,
then rollouts. The trainer is TRL's own and so are its forward passes, its loss and its gradient; the batch is handed to
it, because which context it would build is where it differs (see chapter 3.4).
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from byte_policy import VOCABULARY, ByteTokenizer, byte_model, rollout, slot
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from vegtts_core.policy.render import prompt_token_ids
from vegtts_core.training.batches import BatchMaker
from vegtts_core.training.group_trainer import GroupTrainer
from vegtts_core.training.groups import UpdateParameters
from vegtts_core.training.logprobs import completion_logprobs
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.teacher import teacher_prompt_for
from vegtts_core.training.trl_arguments import trl_arguments

TEMPERATURE = 0.5
SLOT = slot("level1/1", "Write it fast.")
ROWS = [
    rollout("level1/1", 0, "return x.oops()", None, "forward raised AttributeError: no attribute 'oops'."),
    rollout("level1/1", 1, "return x.abs()", 1.5),
    rollout("level1/1", 2, "return torch.maximum(x, -x)", 2.5),
    rollout("level1/1", 3, "return y", None, "forward raised NameError: name 'y' is not defined."),
]
TOKENIZER: Any = ByteTokenizer()


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Norms and rotations in the model's dtype: transformers' own pass through float32, where padding moves bits."""

    def norm(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def rotation(self: Any, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None].to(x.dtype) * self.inv_freq.to(x.dtype)
        return torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()

    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(LlamaRotaryEmbedding, "forward", rotation)


def parameters() -> AdaptationParameters:
    return AdaptationParameters.checked({"algorithm": "sdpo", "k": len(ROWS), "temperature": TEMPERATURE})


def peer(model: torch.nn.Module, folder: Any) -> Any:
    """TRL's trainer around ``model``, its teacher the student itself."""
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    vocabulary = {f"t{i}": i for i in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "t0")))
    tokenizer.pad_token = tokenizer.eos_token = "t0"
    arguments = SDPOConfig(
        output_dir=str(folder),
        temperature=TEMPERATURE,
        teacher_model_kind="live",
        distillation_mode="sampled_token",
        distillation_alpha=1.0,
        distillation_weight=1.0,
        num_generations=len(ROWS),
        per_device_train_batch_size=len(ROWS),
        gradient_accumulation_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SDPOTrainer(
            model=model,  # type: ignore[arg-type]
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": ["t1"] * len(ROWS)}),
            processing_class=tokenizer,
        )


def tables(rows: list[list[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, padded."""
    width = max(map(len, rows))
    pads = [[0] * (width - len(row)) for row in rows]
    ids = [pad + row if left else row + pad for pad, row in zip(pads, rows, strict=True)]
    mask = [pad + [1] * len(row) if left else [1] * len(row) + pad for pad, row in zip(pads, rows, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


def inputs() -> dict[str, torch.Tensor]:
    """The batch as TRL's loss reads it, with the contexts that our teacher is shown."""
    made = parameters()
    contexts = [
        prompt_token_ids(TOKENIZER, teacher_prompt_for(SLOT.prompt, ROWS, place, made.distillation))
        for place in range(len(ROWS))
    ]
    assert len({tuple(context) for context in contexts}) == len(ROWS)
    prompt, prompt_mask = tables([prompt_token_ids(TOKENIZER, SLOT.prompt)] * len(ROWS), left=True)
    completion, completion_mask = tables([row["token_ids"] for row in ROWS], left=False)
    context, context_mask = tables(contexts, left=True)
    return {
        "prompt_ids": prompt,
        "prompt_mask": prompt_mask,
        "completion_ids": completion,
        "completion_mask": completion_mask,
        "teacher_input_ids": torch.cat([context, completion], 1),
        "teacher_attention_mask": torch.cat([context_mask, completion_mask], 1),
        "self_distillation_mask": torch.ones(len(ROWS)),
    }


def gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])


def theirs(folder: Any) -> tuple[list[np.ndarray], torch.Tensor]:
    """Minus TRL's log ratio per token, and the gradient of its loss."""
    model = byte_model()
    trainer = peer(model, folder)
    model.train()
    given = inputs()
    logits = trainer._compute_teacher_student_logits(model, trainer.teacher_model, given)
    ids = given["completion_ids"].unsqueeze(-1)
    student, teacher = (
        torch.log_softmax(each, -1).gather(-1, ids).squeeze(-1)
        for each in (logits.student_logits, logits.teacher_logits)
    )
    values = [row[: len(own["token_ids"])].numpy() for row, own in zip((teacher - student).detach(), ROWS, strict=True)]
    model.zero_grad()
    trainer._compute_self_distillation_loss(model, given, logits).backward()
    return values, gradient(model)


def test_advantages_and_gradient_are_trls(tmp_path):
    values, expected = theirs(tmp_path)
    made = parameters()
    model = byte_model()
    group = BatchMaker(made, model, TOKENIZER).batch(0, [SLOT], ROWS).groups[0]
    for own, peers in zip(group.advantages, values, strict=True):
        assert np.allclose(own, peers, rtol=0, atol=1e-10)
    assert max(np.abs(value).max() for value in values) > 0.5
    scores = completion_logprobs(model, group.prompt, group.completions, TEMPERATURE)[0]
    worth = [torch.tensor(np.asarray(value)) for value in group.advantages]
    terms = [(scores[i, : len(value)] * value).mean() for i, value in enumerate(worth)]
    loss = -torch.stack(terms).mean()
    loss.backward()
    assert torch.isfinite(expected).all() and expected.abs().max() > 1e-3
    assert (gradient(model) - expected).abs().max() < 1e-8


def test_our_trainers_own_step_has_that_gradient(tmp_path):
    """GRPOTrainer's loss with our token advantages, which it takes in float32."""
    _, expected = theirs(tmp_path / "trl")
    made = parameters()
    model = byte_model()
    group = BatchMaker(made, model, TOKENIZER).batch(0, [SLOT], ROWS).groups[0]
    group = replace(group, old_logprobs=None)  # made-up rows: nobody sampled them
    update = UpdateParameters(loss="grpo")
    tokenizer = peer(copy.deepcopy(model), tmp_path / "tokenizer").processing_class
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = trl_arguments(tmp_path / "ours", update, 1, 1, TEMPERATURE, 0, model)
        trainer = GroupTrainer(model, tokenizer, lambda step: [group], arguments, update)
    model.train()
    trainer.current_gradient_accumulation_steps = 1
    given = trainer._prepare_inputs(None)
    trainer.compute_loss(model, given, num_items_in_batch=given["num_items_in_batch"]).backward()
    assert (gradient(model) - expected).abs().max() < 1e-6 * expected.abs().max()


def test_trl_leaves_out_a_rollout_without_solution_or_feedback(tmp_path):
    """Prompt-only, as TRL would have it: no context to show, so no loss at all."""
    trainer = peer(byte_model(), tmp_path)
    given = inputs()
    output = {"completion_ids": given["completion_ids"], "completion_mask": given["completion_mask"]}
    rewards = torch.zeros(len(ROWS))
    built = trainer.teacher_context_builder.build(output, ["t1"] * len(ROWS), rewards)
    assert (built["self_distillation_mask"] == 0).all()
    assert trainer.args.reprompt_template.endswith("\n\nCorrectly solve the original question.\n")
