"""Decode sessions whose steps are recorded once and replayed: which rows are in use, in which shapes, what is kept.

``StaticDecoding`` belongs to one model. It keeps an arena and its recorded steps from session to session, and so from
training step to training step, as long as they are right for the model (``graphs.model_state``) and large enough. A
session's rows have numbers in the arena that stay when others leave; only when the rows fit into a smaller shape are
they moved together.
It knows token ids, random numbers and lengths; it knows no texts and no stop conditions.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vegtts_core.policy.arena import PREFIX_BLOCK, Arena, Extent, Forward, StepShape, row_bucket, token_room
from vegtts_core.policy.attention import SUFFIX_BLOCK, SharedPrefix
from vegtts_core.policy.graphs import CannotCapture, Capture, CudaGraphCapture, has_hooks, model_state

logger = logging.getLogger(__name__)

#: Steps of a shape before it is recorded: recording costs about as much as replaying two saves.
STEPS_BEFORE_CAPTURE = 2
#: Shapes that are remembered; the one that was not used for longest is forgotten.
MAX_SHAPES = 32
#: Share of a device's memory up to which an arena and its graphs are kept between calls, beside an update.
KEPT_SHARE = 0.1


class _Step:
    """A shape: how often it was computed plainly, and what replays it."""

    def __init__(self) -> None:
        self.count = 0
        self.replay: Callable[[], None] | None = None


class StaticDecoding:
    """Opens decode sessions for ``model``, whose forward pass is ``forward``, on one device."""

    def __init__(self, model: torch.nn.Module, forward: Forward, device: torch.device, capture: Capture) -> None:
        self._model = model
        self._forward = forward
        self._device = device
        self._capture: Capture | None = capture
        self._arena: Arena | None = None
        self._steps: OrderedDict[StepShape, _Step] = OrderedDict()
        self._state: tuple[Any, ...] = ()
        self._said: set[str] = set()

    @property
    def kept_bytes(self) -> int:
        """Bytes of keys, values and recorded steps that are held now."""
        held = 0 if self._arena is None else self._arena.nbytes
        return held + (0 if self._capture is None else self._capture.nbytes)

    def open(self, prefix: SharedPrefix, prompt_of_row: list[int], steps: int) -> StaticSession | None:
        """Rows that continue ``prefix`` by at most ``steps`` tokens, or None where they must run without recording.

        A session ends where the next one is opened.
        """
        if self._capture is None:
            return None
        if any(tensor.device != self._device for tensor in prefix.keys.values()):
            return self._say("the model's layers are on several devices")
        if has_hooks(self._model):
            return self._say("the model has forward hooks, which a replay would leave out")
        wanted = Extent.of(prefix.lengths, len(prompt_of_row), steps)
        state = model_state(self._model)
        if self._arena is None or not self._arena.extent.covers(wanted) or state != self._state:
            self.drop()
            try:
                self._arena = Arena(wanted, prefix, self._device)
            except torch.OutOfMemoryError:
                return self._say("its room for keys and values does not fit into the device's memory at once")
            self._state = state
        self._arena.load(prefix)
        return StaticSession(self, self._arena, prefix.lengths, prompt_of_row)

    def run(self, arena: Arena, shape: StepShape) -> None:
        """Compute a step of ``arena``: replayed, recorded and replayed, or plainly."""
        assert arena is self._arena, "another session was opened"
        forward = self._forward

        def step() -> None:
            arena.step(forward, shape)

        if self._capture is None:
            step()
            return
        known = self._steps.setdefault(shape, _Step())
        self._steps.move_to_end(shape)
        if len(self._steps) > MAX_SHAPES:
            self._steps.popitem(last=False)
        try:
            if known.replay is None and known.count < STEPS_BEFORE_CAPTURE:
                known.count += 1
                self._capture.trial(step)
                return
            if known.replay is None:
                known.replay = self._capture(step)
        except CannotCapture as error:
            self._say(str(error))
            self._steps.clear()
            self._capture = None
            step()  # from the same inputs: what was begun is written over
            return
        known.replay()

    def drop(self) -> None:
        """Give back everything that is kept."""
        self._steps.clear()  # before the arena: what was recorded holds its addresses
        self._arena = None
        if self._capture is not None:
            self._capture.clear()

    def rest(self) -> None:
        """Between calls: keep what is small beside the device's memory, so that whoever comes next has room."""
        if self._device.type == "cuda":
            limit = KEPT_SHARE * torch.cuda.get_device_properties(self._device).total_memory
            if self._capture is None or self.kept_bytes > limit:
                self.drop()

    def _say(self, reason: str) -> None:
        """Log once why steps are not recorded."""
        if reason not in self._said:
            self._said.add(reason)
            logger.warning("%s decodes without CUDA graphs: %s", type(self._model).__name__, reason)


def static_decoding(model: torch.nn.Module, forward: Forward, device: torch.device) -> StaticDecoding | None:
    """With CUDA graphs, where there is a GPU."""
    return StaticDecoding(model, forward, device, CudaGraphCapture(device)) if device.type == "cuda" else None


class StaticSession:
    """Rows of an arena that advance together, one token at a time."""

    def __init__(self, decoding: StaticDecoding, arena: Arena, lengths: list[int], prompt_of_row: list[int]) -> None:
        self._decoding = decoding
        self._arena = arena
        self._lengths = np.array(lengths)
        self._length = 0
        self._prompts = np.array(prompt_of_row)
        self._rows = np.arange(len(prompt_of_row))  # where each row is in the arena
        self._reshape()

    def advance(self, tokens: list[int], numbers: np.ndarray, temperature: float) -> np.ndarray:
        """Feed each row its token and draw the next ones: see `engine.DecodeSession`."""
        room = self._shape.room
        assert self._length < self._arena.extent.room, "more steps than the session was opened for"
        if self._length == room:
            room = min(token_room(room + 1, SUFFIX_BLOCK), self._arena.extent.room)
        self._shape = self._shape._replace(room=room, temperature=temperature)
        padded = np.zeros((3, self._shape.rows))
        padded[2] = 0.5
        padded[:, self._rows] = tokens, self._lengths[self._prompts] + self._length, numbers
        self._arena.write(padded, self._length)
        self._decoding.run(self._arena, self._shape)
        self._length += 1
        return self._arena.outputs[: self._shape.rows].cpu().numpy()[self._rows]

    def leave(self, targets: list[int], sources: list[int], rows: int) -> None:
        """See `engine.Session`. Rows stay where they are in the arena until all fit into a smaller shape."""
        for numbers in (self._prompts, self._rows):
            numbers[targets] = numbers[sources]
        self._prompts, self._rows = self._prompts[:rows], self._rows[:rows]
        if min(row_bucket(rows), self._arena.extent.rows) < self._shape.rows:
            free = np.setdiff1d(np.arange(rows), self._rows)
            far = np.flatnonzero(self._rows >= rows)
            self._arena.move(free.tolist(), self._rows[far].tolist(), self._length)
            self._rows[far] = free
            self._reshape()

    def _reshape(self) -> None:
        """The smallest shape for the rows, which are the first in the arena, and who reads what in it."""
        extent = self._arena.extent
        rows = min(row_bucket(len(self._rows)), extent.rows)
        most = min(row_bucket(int(np.bincount(self._prompts).max())), rows) if len(self._lengths) > 1 else rows
        prefix = min(token_room(int(self._lengths.max()), PREFIX_BLOCK), extent.prefix)
        room = min(token_room(self._length + 1, SUFFIX_BLOCK), extent.room)
        self._shape = StepShape(rows, most, len(self._lengths), prefix, room, 1.0)
        in_arena = np.zeros(len(self._rows), dtype=np.int64)
        in_arena[self._rows] = self._prompts
        self._arena.assign(in_arena.tolist(), self._shape)
