"""Draws that are made again when they are needed: a GPU computes them faster than it could hold them all.

KernelBench's tensors reach 8 GiB each. A draw keeps its seeds, weights and budget; its tensors lie on a shelf of
limited size, the latest first, and are made again, from the same seeds, once they have fallen off it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import torch

from vegtts_core.evaluator.answers import Draw, Known

T = TypeVar("T")
#: A draw's scale by rows is kept up to this size (bytes), else found again.
_LARGEST_ROWS = 64 << 20


def _size(draw: Draw) -> int:
    rows, magnitudes = draw.scale
    tensors = [*draw.inputs, draw.expected, rows, draw.free]
    inputs = {x.data_ptr() for x in draw.inputs if isinstance(x, torch.Tensor)}
    if magnitudes is not None and magnitudes.data_ptr() not in inputs:
        tensors.append(magnitudes)
    return sum(x.numel() * x.element_size() for x in tensors if isinstance(x, torch.Tensor))


class Shelf:
    """Holds the draws used last, up to ``capacity`` bytes; always the very last one."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._made: OrderedDict[int, Draw] = OrderedDict()

    def clear(self) -> None:
        """Let go of all of them."""
        self._made.clear()

    def get(self, key: int, make: Callable[[], Draw], size: int) -> Draw:
        """The draw of this key, made if it is not here. ``size``: its bytes, 0 if they are not known yet."""
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        # A new draw's size is not known, and making it takes more than it keeps.
        self._make_room(size or self._capacity)
        draw = make()
        self._make_room(_size(draw))
        self._made[key] = draw
        return draw

    def _make_room(self, size: int) -> None:
        while self._made and sum(map(_size, self._made.values())) + size > self._capacity:
            self._made.popitem(last=False)


class DrawnAgain(Draw):
    """A draw whose tensors come from a shelf."""

    def __init__(self, make: Callable[[Known | None], Draw], shelf: Shelf) -> None:
        self._make, self._shelf, self._bytes = make, shelf, 0
        made = shelf.get(id(self), lambda: make(None), 0)
        self._bytes = _size(made)
        rows = made.scale[0]
        self._known = Known(
            made.expected.shape,
            made.expected.dtype,
            rows if rows.numel() * rows.element_size() <= _LARGEST_ROWS else None,
            made.free is not None,
            made.budget,
            made.moved,
        )
        for name in ("name", "weights", "budget", "base", "changed", "moved"):
            setattr(self, name, getattr(made, name))
        if made.base is not None:
            made.base = None  # the copy on the shelf need not hold another one

    def _now(self) -> Draw:
        return self._shelf.get(id(self), lambda: self._make(self._known), self._bytes)

    @property
    def inputs(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As `Draw`'s."""
        return self._now().inputs

    @property
    def expected(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As `Draw`'s."""
        return self._now().expected

    @property
    def scale(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As `Draw`'s."""
        return self._now().scale

    @property
    def free(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As `Draw`'s."""
        return self._now().free

    def expecting(self, output: torch.Tensor) -> Draw:
        """The same draw with another answer, held in memory."""
        now = self._now()
        return Draw(self.name, now.inputs, self.weights, output, now.scale, now.free, self.budget)


class OnDemand(Sequence[T]):
    """A sequence whose items are made when they are asked for; the last one made is kept."""

    def __init__(self, makers: Sequence[Callable[[], T]]) -> None:
        self._makers = makers
        self._last: tuple[int, T] | None = None

    def __len__(self) -> int:
        return len(self._makers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return OnDemand(self._makers[index])
        if self._last is None or self._last[0] != index:
            self._last = None
            self._last = (index, self._makers[index]())
        return self._last[1]

    def forget(self) -> None:
        """Let go of the item that is kept."""
        self._last = None
