"""Decode steps over tensors of fixed shapes at fixed addresses, so that a step can be recorded once and replayed.

A step is a function of an ``Arena``'s tensors alone: what it needs (tokens, positions, random numbers, the length of
the suffixes) is written there before it, and what it gives is read from there after it. Its shape (``StepShape``) is
padded: rows that nobody needs are computed from valid tokens, positions and caches like any other, and not read; room
that is not written yet is hidden from attention, and holds zeros, since even a hidden NaN would spoil a sum.
It knows no texts and no stop conditions, not which rows are in use (``static_session``), nor how a step is recorded.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from vegtts_core.policy.attention import SUFFIX_BLOCK, Membership, SharedPrefix, in_two_parts, lists_of_members
from vegtts_core.policy.randomness import draw

#: Tokens by which the room for prompts grows.
PREFIX_BLOCK = 128
#: Rows that a step computes: few shapes, so that few are recorded. Below 64 rows a GPU gains little from fewer.
ROW_BUCKETS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768)


class Forward(Protocol):
    """The model's forward pass, as `engine` calls it."""

    def __call__(self, tokens: torch.Tensor, start: torch.Tensor, last: bool, **options: Any) -> Any:
        """``tokens`` (rows, T) at positions from ``start`` (rows, 1) on; the model's output, with ``logits``."""
        ...


def row_bucket(rows: int) -> int:
    """The smallest number of rows that steps are made for and ``rows`` fit into."""
    return next((bucket for bucket in ROW_BUCKETS if rows <= bucket), -(-rows // 256) * 256)


def token_room(tokens: int, block: int) -> int:
    """``tokens``, rounded up to blocks that double beyond four of them: ever fewer shapes, at most half more room."""
    while tokens > 4 * block:
        block *= 2
    return max(1, -(-tokens // block)) * block


class Extent(NamedTuple):
    """What an arena has room for."""

    prompts: int
    prefix: int
    """Tokens of a prompt."""
    rows: int
    room: int
    """Tokens of a row after its prompt."""

    @classmethod
    def of(cls, lengths: list[int], rows: int, tokens: int) -> Extent:
        """Room for prompts of ``lengths`` tokens and ``rows`` rows that add up to ``tokens`` each."""
        prefix, room = token_room(max(lengths), PREFIX_BLOCK), -(-tokens // SUFFIX_BLOCK) * SUFFIX_BLOCK
        return cls(len(lengths), prefix, -(-rows // 8) * 8, max(room, SUFFIX_BLOCK))

    def covers(self, other: Extent) -> bool:
        """Whether all of ``other`` fits."""
        return all(own >= asked for own, asked in zip(self, other, strict=True))


class StepShape(NamedTuple):
    """What a recorded step is made for, besides its arena."""

    rows: int
    most: int
    """Rows that are computed for each prompt, if there are several."""
    prompts: int
    prefix: int
    room: int
    temperature: float


class Arena:
    """The tensors of one extent, for the layers of one model.

    ``inputs`` (4, rows), float64, has each row's token, position and random number, and the length of all suffixes
    first in its last line: one transfer to the device. ``outputs`` (rows, 3), float64, has the drawn tokens and their
    two log-probabilities: one transfer back. A double holds a token id or a float32 exactly.
    """

    def __init__(self, extent: Extent, prefix: SharedPrefix, device: torch.device) -> None:
        self.extent = extent
        self.device = device

        def stores(like: dict[int, torch.Tensor], first: int, tokens: int) -> dict[int, torch.Tensor]:
            return {layer: held.new_zeros(first, held.shape[1], tokens, held.shape[3]) for layer, held in like.items()}

        self.prompt_keys = stores(prefix.keys, extent.prompts, extent.prefix)
        self.prompt_values = stores(prefix.values, extent.prompts, extent.prefix)
        self.keys = stores(prefix.keys, extent.rows, extent.room)
        self.values = stores(prefix.values, extent.rows, extent.room)
        self.padding = torch.zeros(extent.prompts, 1, 1, extent.prefix, dtype=torch.bool, device=device)
        self.table = torch.zeros(extent.prompts * extent.rows, dtype=torch.int64, device=device)
        self.prompt = torch.zeros(extent.rows, dtype=torch.int64, device=device)
        self.place = torch.zeros(extent.rows, dtype=torch.int64, device=device)
        self.places_in_room = torch.arange(extent.room, device=device)
        self.inputs = torch.zeros(4, extent.rows, dtype=torch.float64, device=device)
        self.outputs = torch.zeros(extent.rows, 3, dtype=torch.float64, device=device)
        self.staging = torch.zeros(4, extent.rows, dtype=torch.float64, pin_memory=device.type == "cuda")
        # A mask in four dimensions is taken as it is: without one, a model's forward pass looks into the positions to
        # see whether texts are packed, and waits for the device to do so. Our attention does not read it.
        self.mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)

    def stored(self) -> list[dict[int, torch.Tensor]]:
        """Keys and values by layer: of prompts, and of rows."""
        return [self.prompt_keys, self.prompt_values, self.keys, self.values]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(tensor.nbytes for stores in self.stored() for tensor in stores.values())

    def load(self, prefix: SharedPrefix) -> None:
        """Take over the prompts' keys and values, and forget what rows wrote before."""
        prompts, longest = len(prefix.lengths), max(prefix.lengths)
        for store, source in ((self.prompt_keys, prefix.keys), (self.prompt_values, prefix.values)):
            for layer, held in store.items():
                held.zero_()
                held[:prompts, :, :longest] = source[layer]
        for held in self.values.values():
            held.zero_()
        lengths = torch.tensor(prefix.lengths, device=self.device)[:, None]
        places = torch.arange(self.extent.prefix, device=self.device)
        self.padding[:prompts, 0, 0] = places >= lengths

    def assign(self, prompt_of_row: list[int], shape: StepShape) -> None:
        """Whose prompt each of the shape's rows attends to; rows beyond ``prompt_of_row`` read the first one's."""
        table, place = lists_of_members(prompt_of_row, shape.prompts, shape.most)
        idle = [0] * (shape.rows - len(prompt_of_row))
        flat = [row for rows in table for row in rows]
        for target, numbers in ((self.table, flat), (self.prompt, prompt_of_row + idle), (self.place, place + idle)):
            target[: len(numbers)] = torch.tensor(numbers, device=self.device)

    def move(self, targets: list[int], sources: list[int], length: int) -> None:
        """Let rows ``sources`` go on as rows ``targets``: copy the first ``length`` tokens of what they wrote."""
        if not targets:
            return
        to, of = (torch.tensor(rows, device=self.device) for rows in (targets, sources))
        for stores in (self.keys, self.values):
            for held in stores.values():
                held[to, :, :length] = held[of, :, :length]

    def write(self, columns: np.ndarray, length: int) -> None:
        """What the next step needs: ``columns`` (3, rows), tokens, positions and random numbers; the suffixes' length.

        The transfer before this one is over when it is written over, as its step's outputs were read.
        """
        staging = self.staging.numpy()
        staging[:3, : columns.shape[1]] = columns
        staging[3, 0] = length
        self.inputs.copy_(self.staging, non_blocking=True)

    def step(self, forward: Forward, shape: StepShape) -> None:
        """Compute a step: from ``inputs`` to ``outputs``, one more token of keys and values in every row's room."""
        tokens, positions = self.inputs[:2, : shape.rows, None].long()
        suffix = FixedSuffix(self, shape)
        output = forward(tokens, positions, last=False, use_cache=False, shared_prefix=suffix, attention_mask=self.mask)
        drawn = draw(output.logits[:, -1], shape.temperature, self.inputs[2, : shape.rows])
        self.outputs[: shape.rows] = torch.stack([column.double() for column in drawn], 1)


class FixedSuffix:
    """Attention of one new token per row to its prompt and to what it has written, in an arena."""

    def __init__(self, arena: Arena, shape: StepShape) -> None:
        self._arena = arena
        self._shape = shape
        self._length = arena.inputs[3, :1].long()
        self._hidden = arena.places_in_room[: shape.room] > self._length
        self._members = Membership(
            arena.table[: shape.prompts * shape.most].view(shape.prompts, shape.most),
            arena.prompt[: shape.rows],
            arena.place[: shape.rows],
        )

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """(rows, heads, 1, size) -> (rows, 1, heads, size); the new keys and values are written first."""
        arena, shape = self._arena, self._shape
        own = []
        for store, new in ((arena.keys, key), (arena.values, value)):
            room = store[layer][: shape.rows, :, : shape.room]
            room.index_copy_(2, self._length, new)
            own.append(room)
        prompts = (
            arena.prompt_keys[layer][: shape.prompts, :, : shape.prefix],
            arena.prompt_values[layer][: shape.prompts, :, : shape.prefix],
            arena.padding[: shape.prompts, :, :, : shape.prefix],
        )
        return in_two_parts(query * scaling, self._members, prompts, (own[0], own[1], self._hidden))
