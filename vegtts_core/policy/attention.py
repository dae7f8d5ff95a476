"""Attention to a prompt's keys and values that all of its completions share, and to what each has written itself.

The function is registered with transformers' attention interface, so any model that calls attention through it can use
it. A call carries a ``SharedPrefix`` state; one without is ordinary scaled-dot-product attention. The softmax over
prompt and completion is taken in two parts (shared prompt: the queries of all completions folded into one matrix
product; own suffix: batched per row) and put together exactly from both parts' maxima and sums, in float32.
It knows tensors of queries, keys and values; it knows no tokens, positions or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

#: The name under which the attention is registered.
NAME = "vegtts_shared_prefix"
#: Tokens by which the room for suffixes grows.
SUFFIX_BLOCK = 64
#: What a model may ask of its attention that this one cannot give.
REFUSED = ("sliding_window", "softcap", "s_aux", "position_bias", "head_mask")


class CannotServe(Exception):
    """The model asks for something else than plain causal attention; callers fall back to a repeated cache."""


class SharedPrefix:
    """Keys and values of several prompts, each stored once, padded to the longest.

    Layer tensors have shape (prompts, key-value heads, longest prompt, head size); they are made when a layer first
    writes, in the layer's own dtype and on its own device. While ``filling`` is set, calls are chunks of that prompt.
    """

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self.filling: tuple[int, int] = (0, 0)  # (prompt, position of the chunk's first token)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Causal attention of one chunk (1, heads, T, head size) to its prompt up to itself, which it is added to."""
        prompt, start = self.filling
        for store, new in ((self.keys, key), (self.values, value)):
            if layer not in store:
                store[layer] = new.new_zeros(len(self.lengths), new.shape[1], max(self.lengths), new.shape[3])
            store[layer][prompt, :, start : start + new.shape[2]] = new[0]
        stop = start + key.shape[2]
        groups = query.shape[1] // key.shape[1]
        keys = self.keys[layer][prompt : prompt + 1, :, :stop].repeat_interleave(groups, 1)
        values = self.values[layer][prompt : prompt + 1, :, :stop].repeat_interleave(groups, 1)
        mask = None
        if start:
            mask = torch.ones(stop - start, stop, dtype=torch.bool, device=query.device).tril_(start)
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, is_causal=mask is None, scale=scaling
        )
        return attended.transpose(1, 2).contiguous()

    def padding(self, device: torch.device) -> torch.Tensor | None:
        """True (prompts, 1, 1, longest) where a shorter prompt has no token; None if all are of one length."""
        if min(self.lengths) == max(self.lengths):
            return None
        lengths = torch.tensor(self.lengths, device=device)
        return (torch.arange(max(self.lengths), device=device) >= lengths[:, None])[:, None, None]


@dataclass(frozen=True)
class Membership:
    """Whose prompt each row attends to, as int64 tensors that lead queries to their prompt and results back.

    ``table`` (prompts, most) holds the rows of each prompt, filled up with rows that are computed and not read;
    ``prompt`` and ``place`` (rows,) say where in it each row stands. With one prompt every row stands at its own
    number, and nothing need be looked up.
    """

    table: torch.Tensor
    prompt: torch.Tensor
    place: torch.Tensor

    def by_prompt(self, query: torch.Tensor) -> torch.Tensor:
        """(rows, shared heads, fold, size) -> (prompts, shared heads, most * fold, size)."""
        prompts, most = self.table.shape
        _, shared, fold, size = query.shape
        gathered = query[None] if prompts == 1 else query[self.table]
        return gathered.transpose(1, 2).reshape(prompts, shared, most * fold, size)

    def by_row(self, part: torch.Tensor) -> torch.Tensor:
        """(prompts, shared heads, most * fold, any) -> (rows, shared heads, fold, any)."""
        prompts, most = self.table.shape
        split = part.view(prompts, part.shape[1], most, -1, part.shape[-1])
        return split[0].transpose(0, 1) if prompts == 1 else split[self.prompt, :, self.place]


def lists_of_members(prompt_of_row: list[int], prompts: int, most: int = 0) -> tuple[list[list[int]], list[int]]:
    """The rows of `Membership.table` and ``place``; ``most`` is at least the largest number of rows of a prompt."""
    members: list[list[int]] = [[] for _ in range(prompts)]
    place = []
    for row, prompt in enumerate(prompt_of_row):
        place.append(len(members[prompt]))
        members[prompt].append(row)
    most = max(most, *(len(rows) for rows in members))
    return [rows + [0] * (most - len(rows)) for rows in members], place  # row 0 fills places that nobody reads


class SharedSuffix:
    """What the rows of a batch have written after their prompts: keys and values per row, in blocks.

    Rows are kept dense: a row that leaves is replaced by the last one. ``prompt_of_row`` says whose prompt each row
    attends to. Layer tensors have shape (room for rows, key-value heads, room for tokens, head size).
    """

    def __init__(self, prefix: SharedPrefix, prompt_of_row: list[int], device: torch.device) -> None:
        self.prefix = prefix
        self.length = 0
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self._padding = prefix.padding(device)
        self._device = device
        self._place(prompt_of_row)

    def _place(self, prompt_of_row: list[int]) -> None:
        table, place = lists_of_members(prompt_of_row, len(self.prefix.lengths))
        self.prompt_of_row = prompt_of_row
        self._members = Membership(
            *(torch.tensor(numbers, device=self._device) for numbers in (table, prompt_of_row, place))
        )

    def leave(self, targets: list[int], sources: list[int], rows: int) -> None:
        """Keep ``rows`` rows: those at ``sources`` move to ``targets``, all below ``rows``."""
        prompts = list(self.prompt_of_row)
        if targets:
            to = torch.tensor(targets, device=self._device)
            of = torch.tensor(sources, device=self._device)
            for store in (*self.keys.values(), *self.values.values()):
                store[to, :, : self.length] = store[of, :, : self.length]
            for target, source in zip(targets, sources, strict=True):
                prompts[target] = prompts[source]
        self._place(prompts[:rows])

    def _append(self, store: dict[int, torch.Tensor], layer: int, new: torch.Tensor) -> torch.Tensor:
        """All tokens of the live rows in this layer, the new ones (rows, heads, T, head size) included."""
        rows, heads, count, size = new.shape
        stop = self.length + count
        held = store.get(layer)
        if held is None or held.shape[2] < stop:
            room = -(-stop // SUFFIX_BLOCK) * SUFFIX_BLOCK
            larger = new.new_empty(rows, heads, room, size)
            if held is not None:
                larger[:, :, : self.length] = held[:rows, :, : self.length]
            store[layer] = held = larger
        held[:rows, :, self.length : stop] = new
        return held[:rows, :, :stop]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Attention of T new tokens per row to prompt and suffix: (rows, heads, T, size) -> (rows, T, heads, size)."""
        count = query.shape[2]
        fold = query.shape[1] // key.shape[1] * count
        keys, values = self._append(self.keys, layer, key), self._append(self.values, layer, value)
        hidden = None
        if count > 1:
            later = torch.ones(count, keys.shape[2], dtype=torch.bool, device=query.device).triu_(self.length + 1)
            hidden = later.repeat(fold // count, 1)
        prompt = (self.prefix.keys[layer], self.prefix.values[layer], self._padding)
        return in_two_parts(query * scaling, self._members, prompt, (keys, values, hidden))


#: Keys, values (both (..., tokens, size)) and what is hidden of them (bool, broadcast over scores) or None.
Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


def in_two_parts(query: torch.Tensor, members: Membership, prompt: Part, own: Part) -> torch.Tensor:
    """Attention of scaled queries (rows, heads, T, size) to their prompts and to their own tokens, which hide nothing
    entirely: (rows, T, heads, size of values) in the queries' dtype.
    """
    rows, heads, count, size = query.shape
    shared = own[0].shape[1]
    folded = query.reshape(rows, shared, heads // shared * count, size)
    top, total, mixed = (members.by_row(part) for part in _partial(members.by_prompt(folded), *prompt))
    own_top, own_total, own_mixed = _partial(folded, *own)
    both = torch.maximum(top, own_top)
    weight, own_weight = total * (top - both).exp_(), own_total * (own_top - both).exp_()
    attended = (mixed * weight + own_mixed * own_weight) / (weight + own_weight)
    attended = attended.to(query.dtype).reshape(rows, heads, count, own[1].shape[-1])
    return attended.transpose(1, 2).contiguous()


def _partial(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, hidden: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Softmax attention to one part: (largest score, sum of exponentials relative to it, attended values), float32.

    ``query`` (..., q, size) is scaled already; the first two come back as (..., q, 1), the last as (..., q, size).
    """
    scores = (query @ keys.transpose(-1, -2)).float()
    if hidden is not None:
        scores.masked_fill_(hidden, -torch.inf)
    weights = scores.softmax(-1)
    # The largest score's own weight is exp(0) / sum: the sum comes without another pass of exponentials.
    total = weights.amax(-1, keepdim=True).reciprocal()
    return scores.amax(-1, keepdim=True), total, (weights.to(values.dtype) @ values).float()


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    shared_prefix: SharedPrefix | SharedSuffix | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What transformers calls. Raises CannotServe where ``shared_prefix`` is given and the model asks for more."""
    if shared_prefix is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    asked = [name for name in REFUSED if options.get(name) is not None]
    layer = getattr(module, "layer_idx", None)
    if asked or layer is None or not getattr(module, "is_causal", True):
        raise CannotServe(f"{type(module).__name__} asks for {', '.join(asked) or 'attention without a layer index'}")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return shared_prefix.attend(int(layer), query, key, value, scale), None


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
