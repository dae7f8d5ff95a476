"""Attention of one packed row, a prompt followed by all of its completions, with gradients to every key and value.

A row holds the prompt once and, one after the other, the tokens of its completions. Each completion attends to the
prompt and to itself, as if it stood alone. The state is handed to the attention function of ``policy.attention`` by the
same keyword as the sampler's states, but it keeps nothing from layer to layer: the row is one forward pass, so autograd
and gradient checkpointing see an ordinary model. Small rows on a GPU, where every kernel launch counts, take one call
under a mask. Otherwise the softmax is taken in two parts, the shared prompt (never copied) and the completion's own
tokens, that are put together exactly from both parts' log-sum-exp; the gradient of either part needs only the
log-sum-exp of both together (Dao et al., FlashAttention, 2022, appendix B).
It knows lengths, queries, keys and values; it knows no token ids, positions or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

#: Longest row, in tokens, that takes one call under a mask: scores that the mask hides are computed as well.
MASKED_TOKENS = {"cuda": 4096}
#: Scores of one part that exist at a time where no fused kernel gives the log-sum-exp.
MAX_SCORES = 1 << 28
#: Masks whose side is a multiple of this need no padding inside the kernels.
ALIGNMENT = 8


@dataclass(frozen=True)
class PackedRow:
    """Tokens of a prompt and, behind it, tokens of each of its completions; completions without tokens are left out."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return self.prompt + sum(self.completions)


class PackedRows:
    """Several packed rows, padded on the right to the longest: what ``policy.attention`` takes as ``shared_prefix``.

    ``length`` is the padded length. Whatever stands at padded places is attended to by no token of a row.
    """

    def __init__(self, rows: Sequence[PackedRow], device: torch.device) -> None:
        self.rows = list(rows)
        longest = max(row.length for row in rows)
        self.masked = longest <= MASKED_TOKENS.get(device.type, 0)
        self.length = -(-longest // ALIGNMENT) * ALIGNMENT if self.masked else longest
        self._device = device
        self._biases: dict[torch.dtype, torch.Tensor] = {}
        self._plans: dict[int, _Plan] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """(rows, heads, tokens, size) -> (rows, tokens, heads, size); the same in every ``layer``."""
        if self.masked:
            groups = query.shape[1] // key.shape[1]
            if groups > 1:
                key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
            mask = self._bias(query.dtype)
            return scaled_dot_product_attention(query, key, value, mask, scale=scaling).transpose(1, 2)
        attended = [
            self._attend_row(number, query[number], key[number], value[number], scaling)
            for number in range(len(self.rows))
        ]
        return torch.stack(attended) if len(attended) > 1 else attended[0][None]

    def _attend_row(
        self, number: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """(heads, tokens, size) -> (tokens, heads, size) of one row."""
        row = self.rows[number]
        parts = [row.prompt, row.length - row.prompt, query.shape[1] - row.length]
        (query, own_query, padding), (key, own_key, _), (value, own_value, _) = (
            tensor.split(parts, 1) for tensor in (query, key, value)
        )
        # Three-dimensional calls would leave the fused kernels, hence the batch of one.
        keys, values = (tensor.repeat_interleave(query.shape[0] // key.shape[0], 0)[None] for tensor in (key, value))
        attended = scaled_dot_product_attention(query[None], keys, values, is_causal=True, scale=scaling)[0]
        pieces = [attended.transpose(0, 1)]
        if row.completions:
            plan = self._plans.setdefault(number, _Plan(row.completions, self._device))
            pieces.append(_Continuation.apply(own_query, own_key, own_value, key, value, plan, scaling))
        if padding.shape[1]:
            pieces.append(padding.transpose(0, 1))
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _bias(self, dtype: torch.dtype) -> torch.Tensor:
        """(rows, 1, length, length): 0 where a token is attended to, else minus infinity."""
        if dtype not in self._biases:
            lengths = [
                [row.prompt, *row.completions, self.length - row.length] for row in self.rows
            ]  # piece 0 is the prompt; the padding is a piece of its own
            pieces = torch.tensor(
                [[piece for piece, count in enumerate(row) for _ in range(count)] for row in lengths],
                device=self._device,
            )
            allowed = (pieces[:, None, :] == 0) | (pieces[:, None, :] == pieces[:, :, None])
            allowed &= torch.ones(self.length, self.length, dtype=torch.bool, device=self._device).tril_()
            bias = torch.zeros(allowed.shape, dtype=dtype, device=self._device).masked_fill_(~allowed, -torch.inf)
            self._biases[dtype] = bias[:, None]
        return self._biases[dtype]


class _Plan:
    """Where the tokens of completions of ``lengths`` lie in one row and in a table (completions, longest)."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.count, self.longest = len(lengths), max(lengths)
        self._even = min(lengths) == self.longest
        self._lengths = lengths
        self._device = device

    @cached_property
    def _table(self) -> torch.Tensor:
        """Row index of each place of the table, flat; padded places repeat the last token."""
        ends = torch.tensor(self._lengths).cumsum(0)
        places = (ends - torch.tensor(self._lengths))[:, None] + torch.arange(self.longest)
        return torch.minimum(places, ends[:, None] - 1).flatten().to(self._device)

    @cached_property
    def _inverse(self) -> torch.Tensor:
        """Place in the flat table of each token of the row."""
        inside = torch.arange(self.longest) < torch.tensor(self._lengths)[:, None]
        return inside.flatten().nonzero()[:, 0].to(self._device)

    @cached_property
    def _padded(self) -> torch.Tensor:
        inside = torch.arange(self.longest) < torch.tensor(self._lengths)[:, None]
        return (~inside).flatten().nonzero()[:, 0].to(self._device)

    def spread(self, packed: torch.Tensor, blank: bool = False) -> torch.Tensor:
        """(heads, tokens, ...) -> (completions, heads, longest, ...); padded places are zero if ``blank``."""
        by_token = packed.transpose(0, 1)
        if not self._even:
            by_token = by_token.index_select(0, self._table)
            if blank:
                by_token.index_fill_(0, self._padded, 0)
        return by_token.reshape(self.count, self.longest, *by_token.shape[1:]).transpose(1, 2)

    def pack(self, table: torch.Tensor) -> torch.Tensor:
        """(completions, heads, longest, ...) -> (heads, tokens, ...)."""
        by_token = table.transpose(1, 2).flatten(0, 1)
        return (by_token if self._even else by_token.index_select(0, self._inverse)).transpose(0, 1)


class _Continuation(torch.autograd.Function):
    """Completions' attention to the prompt and to themselves, in two parts; nothing the size of the scores is kept.

    ``query`` (heads, tokens, size), ``key`` and ``value`` (key-value heads, tokens, size) are the completions' own,
    ``prompt_key`` and ``prompt_value`` (key-value heads, prompt, size) the prompt's; gives (tokens, heads, size).
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        prompt_key: torch.Tensor,
        prompt_value: torch.Tensor,
        plan: _Plan,
        scaling: float,
    ) -> torch.Tensor:
        """Both parts, and their sum weighted by the parts of the softmax's mass."""
        heads, shared = query.shape[0], key.shape[0]
        groups = heads // shared
        common, mass = _attention(
            _by_group(query, groups), _repeat(prompt_key, groups), _repeat(prompt_value, groups), False, scaling
        )
        common, mass = _by_head(common), _by_head(mass)
        own_key, own_value = (plan.spread(tensor.repeat_interleave(groups, 0)) for tensor in (key, value))
        own, own_mass = _attention(plan.spread(query), own_key, own_value, True, scaling)
        own, own_mass = plan.pack(own), plan.pack(own_mass)
        total = torch.logaddexp(mass, own_mass)
        attended = torch.empty_like(query.transpose(0, 1), memory_format=torch.contiguous_format)
        mixed = common * (mass - total).exp_()[..., None].to(common.dtype)
        torch.addcmul(
            mixed.transpose(0, 1),
            own.transpose(0, 1),
            (own_mass - total).exp_()[..., None].to(own.dtype).transpose(0, 1),
            out=attended,
        )
        ctx.save_for_backward(query, key, value, prompt_key, prompt_value, attended, total)
        ctx.plan, ctx.scaling = plan, scaling
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Each part's gradient as if its keys stood alone, but with the softmax's whole mass."""
        query, key, value, prompt_key, prompt_value, attended, total = ctx.saved_tensors
        plan, scaling = ctx.plan, ctx.scaling
        groups = query.shape[0] // key.shape[0]
        gradient, attended = gradients[0].transpose(0, 1), attended.transpose(0, 1)
        to_query, to_prompt_key, to_prompt_value = _attention_backward(
            _by_group(gradient, groups),
            _by_group(query, groups),
            _repeat(prompt_key, groups),
            _repeat(prompt_value, groups),
            _by_group(attended, groups),
            _by_group(total, groups),
            False,
            scaling,
        )
        own_key, own_value = (plan.spread(tensor.repeat_interleave(groups, 0)) for tensor in (key, value))
        to_own_query, to_key, to_value = _attention_backward(
            plan.spread(gradient, blank=True),
            plan.spread(query),
            own_key,
            own_value,
            plan.spread(attended),
            plan.spread(total),
            True,
            scaling,
        )
        return (
            _by_head(to_query) + plan.pack(to_own_query),
            *(plan.pack(tensor).unflatten(0, (-1, groups)).sum(1) for tensor in (to_key, to_value)),
            to_prompt_key.sum(0),
            to_prompt_value.sum(0),
            None,
            None,
        )


def _by_group(tensor: torch.Tensor, groups: int) -> torch.Tensor:
    """(heads, tokens, ...) -> (groups, key-value heads, tokens, ...), a view: queries that share keys are a batch."""
    return tensor.unflatten(0, (-1, groups)).transpose(0, 1)


def _by_head(tensor: torch.Tensor) -> torch.Tensor:
    """The inverse of ``_by_group``."""
    return tensor.transpose(0, 1).flatten(0, 1)


def _repeat(tensor: torch.Tensor, groups: int) -> torch.Tensor:
    """The same keys or values for each of ``groups``, without a copy."""
    return tensor.expand(groups, *tensor.shape)


def _fused(query: torch.Tensor) -> bool:
    """Whether torch has a kernel that gives the log-sum-exp and takes it back."""
    return query.device.type == "cpu"


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of (batch, heads, tokens, size) and the log-sum-exp of its scores (batch, heads, tokens), float32."""
    if _fused(query):
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scaling)
    attended, masses = [], []
    for start, part in _chunks(query, key):
        scores = _scores(part, key, causal, start, scaling)
        masses.append(scores.logsumexp(-1))
        weights = scores.sub_(masses[-1][..., None]).exp_()
        attended.append(weights.to(value.dtype) @ value)
    return torch.cat(attended, 2), torch.cat(masses, 2)


def _attention_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attended: torch.Tensor,
    mass: torch.Tensor,
    causal: bool,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients to query, key and value, where ``attended`` and ``mass`` may be those of more keys than ``key``."""
    if _fused(query):
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            gradient, query, key, value, attended, mass, 0.0, causal, scale=scaling
        )
    to_query = []
    to_key, to_value = torch.zeros_like(key, dtype=mass.dtype), torch.zeros_like(value, dtype=mass.dtype)
    inner = (gradient * attended).sum(-1, keepdim=True, dtype=mass.dtype)
    for start, part in _chunks(query, key):
        stop = start + part.shape[2]
        weights = _scores(part, key, causal, start, scaling).sub_(mass[:, :, start:stop, None]).exp_()
        coming = gradient[:, :, start:stop]
        to_value += weights.to(value.dtype).transpose(-1, -2) @ coming
        to_scores = (coming @ value.transpose(-1, -2)).to(mass.dtype)
        to_scores = to_scores.sub_(inner[:, :, start:stop]).mul_(weights).mul_(scaling).to(query.dtype)
        to_query.append(to_scores @ key)
        to_key += to_scores.transpose(-1, -2) @ part
    return torch.cat(to_query, 2), to_key.to(key.dtype), to_value.to(value.dtype)


def _chunks(query: torch.Tensor, key: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    """(first token, queries), few enough at a time for their scores."""
    size = max(1, MAX_SCORES // (query.shape[0] * query.shape[1] * key.shape[2]))
    return [(start, query[:, :, start : start + size]) for start in range(0, query.shape[2], size)]


def _scores(part: torch.Tensor, key: torch.Tensor, causal: bool, start: int, scaling: float) -> torch.Tensor:
    """(batch, heads, queries, keys), float32 at least; later keys are hidden if ``causal``."""
    scores = ((part * scaling) @ key.transpose(-1, -2)).to(torch.promote_types(part.dtype, torch.float32))
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=part.device).triu_(start + 1)
        scores.masked_fill_(later, -torch.inf)
    return scores
