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
from vegtts_core.training.logprobs import KEPT_LOGITS, MAX_LOGITS, PASS_TOKENS
from vegtts_core.training.parameters import AdaptationParameters
from vegtts_core.training.warm_start_parameters import WarmStartParameters

FLOAT = 4
#: Copies of all of a group's logits that exist at a time in TRL's own path: they and their gradient.
PLAIN_COPIES = 2
#: Copies of a decoding step's logits that exist at a time: the model's own, tempered, their exponentials.
LOGIT_COPIES = 3


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


def memory_of(work: Work, facts: ModelFacts, devices: int = 1, sharded: bool = False) -> Memory:
    """Memory of ``work`` if every completion has ``max_new_tokens``: what fits then, fits."""
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
    activations = logits = plain = 0
    learns = trained and bool(work.updates)
    if learns:
        activations, logits, plain = _largest_update(work, facts)
    return Memory(
        weights=math.ceil(facts.parameters * item / parts),
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


def _largest_update(work: Work, facts: ModelFacts) -> tuple[int, int, int]:
    """(activations, logits) of the largest pass as it is run here, and both together as plain TRL would have them."""
    rank = work.family.parameters.lora.rank  # type: ignore[attr-defined]
    largest = (0, 0, 0)
    shared = facts.shares_prompts and work.family.parameters.update.shared_prompt  # type: ignore[attr-defined]
    for update in set(work.updates):
        for groups in _passes(update, work):
            prompt = sum(group.ask.tokens for group in groups)
            counts = [_completions(group) for group in groups]
            own = sum(count * work.max_new_tokens for count in counts)
            apart = sum(
                count * (group.ask.tokens + work.max_new_tokens) for group, count in zip(groups, counts, strict=True)
            )
            behind, logits = activation_bytes(facts, rank, apart, 0), PLAIN_COPIES * own * facts.vocabulary * FLOAT
            if shared:
                packed = activation_bytes(facts, rank, prompt, own)
                found = (packed, logit_bytes(facts, own, work.device), behind + logits)
            else:
                found = (behind, logits, behind + logits)
            largest = max(largest, found, key=lambda one: one[0] + one[1])
    return largest


def _passes(update: Sequence[Group], work: Work) -> list[list[Group]]:
    """Groups as they share a forward pass: one each on a CPU, up to so many tokens on a GPU (training.groups)."""
    limit = PASS_TOKENS.get(work.device, 0)
    passes: list[list[Group]] = []
    room = 0
    for group in update:
        tokens = group.ask.tokens + _completions(group) * work.max_new_tokens
        if not passes or tokens > room:
            passes.append([])
            room = max(limit, tokens)
        passes[-1].append(group)
        room -= tokens
    return passes


def _completions(group: Group) -> int:
    """Completions of a group in an update, at most."""
    return group.k if not group.kept else min(group.most or group.k, group.k + len(group.given))


def activation_bytes(facts: ModelFacts, rank: int, prompt: int, completion: int) -> int:
    """Bytes that autograd keeps, in float32, of ``prompt`` and ``completion`` tokens of packed rows.

    Per token and layer: four times the hidden width (residual and normed, twice), four times the feed-forward width,
    the adapter's ranks, two norms' scales, and attention: query, output and its log-sum-exp, own keys and values; a
    prompt's keys and values are kept repeated for every head as well.
    """
    per_layer = len(facts.linears) / facts.layers
    common = 4 * facts.hidden + 4 * facts.intermediate + per_layer * rank + 2
    common += facts.heads * (1 + 3 * facts.head_size) + 2 * facts.key_value_heads * facts.head_size
    repeated = 2 * facts.heads * facts.head_size
    layers = facts.layers * (common * (prompt + completion) + repeated * prompt)
    return int(FLOAT * (layers + 2 * facts.head_size * (prompt + completion)))


def logit_bytes(facts: ModelFacts, tokens: int, device: str) -> int:
    """Bytes of log-probabilities over the vocabulary that are kept for the gradient, and of the piece being made."""
    whole = tokens * facts.vocabulary
    piece = min(whole, max(facts.vocabulary, MAX_LOGITS[device]))
    kept = whole if whole <= KEPT_LOGITS[device] else 0
    return FLOAT * (kept + LOGIT_COPIES * piece)
