"""Bytes per device, term by term: weights, adapter, optimiser, caches, activations, logits.

Weights, adapter, gradients, moments and caches are counted from shapes and exact. Activations are what autograd keeps
of one forward pass: exact for decoders built like Llama, the nearest estimate for others. Python, torch and the
evaluator's processes come on top. It knows shapes and numbers; it knows no tasks or seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vegtts_core.plan.counts import Group, Work
from vegtts_core.plan.model_facts import ModelFacts
from vegtts_core.plan.waves import ITEM, call_batches
from vegtts_core.policy.attention import SUFFIX_BLOCK
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.pass_memory import (
    FLOAT,
    LOGIT_COPIES,
    PASS_TOKENS,
    activation_bytes,
    logit_bytes,
    tokens_that_fit,
)
from vegtts_core.training.warm_start_parameters import WarmStartParameters

#: Copies of all of a group's logits that exist at a time in TRL's own path: they and their gradient.
PLAIN_COPIES = 2


@dataclass(frozen=True)
class Memory:
    """Bytes at the largest moment of a run, on one device. ``plain_update``: activations and logits of TRL's own path.

    ``sharded`` weights, adapter and optimiser are split over the devices; else each device has all of them.
    """

    weights: int
    adapter: int
    gradients: int
    moments: int
    prompt_cache: int
    completion_cache: int
    sampling_logits: int
    activations: int
    update_logits: int
    plain_update: int

    @property
    def kept(self) -> int:
        """What is there all the time."""
        return self.weights + self.adapter + self.gradients + self.moments

    @property
    def sampling(self) -> int:
        """While completions are written (or scored)."""
        return self.prompt_cache + self.completion_cache + self.sampling_logits

    @property
    def update(self) -> int:
        """While a group's gradient is computed."""
        return self.activations + self.update_logits

    @property
    def total(self) -> int:
        """Sampling and updating follow one another, so the larger of them counts."""
        return self.kept + max(self.sampling, self.update)

    @property
    def plain_total(self) -> int:
        """With TRL's own update, each completion behind a prompt of its own."""
        return self.kept + max(self.sampling, self.plain_update)


def memory_of(
    work: Work, facts: ModelFacts, devices: int = 1, sharded: bool = False, device_gib: float | None = None
) -> Memory:
    """Memory of ``work`` if every completion has ``max_new_tokens``: what fits then, fits.

    ``device_gib``: what a device has, where known: passes of an update are then as large as they are there.
    """
    item = ITEM[work.dtype]
    parts = devices if sharded else 1
    trained = isinstance(work.family.parameters, AdaptationParameters | WarmStartParameters)
    adapter = 0
    copies = 1
    if trained or (work.adapter and not work.merged):
        lora = getattr(work.family.parameters, "lora", None)
        adapter = facts.lora_parameters(lora.rank, lora.layers) if lora else facts.lora_parameters(16)
    if trained and work.family.parameters.update.kl > 0:  # type: ignore[attr-defined]
        copies = 2  # the policy that the run started with, to be diverged from
    prompt, completion, rows = _caches(work, facts, item)
    weights = math.ceil(facts.parameters * item / parts)
    activations = logits = plain = 0
    learns = trained and bool(work.updates)
    if learns:
        kept = weights + 4 * adapter * FLOAT
        activations, logits, plain = _largest_update(work, facts, kept, device_gib)
    return Memory(
        weights=weights,
        adapter=math.ceil(copies * adapter * (FLOAT if trained else item) / parts),
        gradients=math.ceil(adapter * FLOAT / parts) if learns else 0,
        moments=math.ceil(2 * adapter * FLOAT / parts) if learns else 0,
        prompt_cache=prompt,
        completion_cache=completion,
        sampling_logits=LOGIT_COPIES * rows * facts.vocabulary * FLOAT,
        activations=activations,
        update_logits=logits,
        plain_update=plain,
    )


def _caches(work: Work, facts: ModelFacts, item: int) -> tuple[int, int, int]:
    """(bytes of prompts' keys and values, of completions', rows) of the largest batch of any call."""
    each = facts.cache_bytes(item)
    largest = (0, 0, 0)
    for call in {*work.calls, *work.scored}:
        for batch, wave in call_batches(work, call):
            total = sum(call[place].k for place in batch)
            rows = min(wave, total)
            longest = max(call[place].ask.tokens for place in batch)
            room = -(-work.max_new_tokens // SUFFIX_BLOCK) * SUFFIX_BLOCK
            prompts = longest * (len(batch) if facts.shares_prompts else rows)
            found = (prompts * each, rows * (room if facts.shares_prompts else work.max_new_tokens) * each, rows)
            largest = max(largest, found, key=lambda one: one[0] + one[1])
    return largest


def _largest_update(work: Work, facts: ModelFacts, kept: int, device_gib: float | None) -> tuple[int, int, int]:
    """(activations, logits) of the largest pass as it is run here, and both together as plain TRL would have them."""
    ranks = work.family.parameters.lora.rank * len(facts.linears) / facts.layers  # type: ignore[attr-defined]
    most = PASS_TOKENS.get(work.device, 0)
    if most and device_gib is not None:
        most = tokens_that_fit(facts, ranks, kept, int(device_gib * 2**30), work.device)
    largest = (0, 0, 0)
    shared = facts.shares_prompts and work.family.parameters.update.shared_prompt  # type: ignore[attr-defined]
    for update in set(work.updates):
        for groups in _passes(update, work, most):
            prompt = sum(group.ask.tokens for group in groups)
            counts = [_completions(group) for group in groups]
            own = sum(count * work.max_new_tokens for count in counts)
            apart = sum(
                count * (group.ask.tokens + work.max_new_tokens) for group, count in zip(groups, counts, strict=True)
            )
            behind, logits = activation_bytes(facts, ranks, apart, 0), PLAIN_COPIES * own * facts.vocabulary * FLOAT
            if shared:
                packed = activation_bytes(facts, ranks, prompt, own)
                found = (packed, logit_bytes(facts, own, work.device), behind + logits)
            else:
                found = (behind, logits, behind + logits)
            largest = max(largest, found, key=lambda one: one[0] + one[1])
    return largest


def _passes(update: Sequence[Group], work: Work, most: int) -> list[list[Group]]:
    """Groups as they share a forward pass: one each on a CPU, up to ``most`` tokens on a GPU (training.groups)."""
    passes: list[list[Group]] = []
    room = 0
    for group in update:
        tokens = group.ask.tokens + _completions(group) * work.max_new_tokens
        if not passes or tokens > room:
            passes.append([])
            room = max(most, tokens)
        passes[-1].append(group)
        room -= tokens
    return passes


def _completions(group: Group) -> int:
    """Completions of a group in an update, at most."""
    return group.k if not group.kept else min(group.most or group.k, group.k + len(group.given))
