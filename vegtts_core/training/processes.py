"""The processes that ``accelerate launch`` started, as training sees them: which one this is, and how they agree.

Whatever is decided (a step's groups, whether a run is done, an error) is decided by the main process and broadcast, so
that all processes make the same steps. Objects travel over gloo on the CPU: a process that waits for the main one to
sample or evaluate, for hours if need be, keeps neither a GPU nor a core busy while candidates are timed.
Without ``accelerate launch`` there is one process, and nothing here touches torch.distributed.
It knows nothing of models, groups or runs.

Run with gloo on a CPU (two and three processes, one machine). NCCL and several machines take the same calls, but were
not run.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from vegtts_core.errors import UserError

#: How long a process may wait for another one: longer than any step's sampling and evaluation.
PATIENCE = timedelta(days=7)

T = TypeVar("T")


class ToldByMain(UserError):
    """A UserError that the main process raises as well, and shows."""


@dataclass(frozen=True)
class Processes:
    """``count`` processes of which this is number ``index``. ``group``: torch's group for objects, None if alone.

    ``sharded``: they were started to spread frozen weights (``sharding``); ``zero``: to spread the optimiser by this
    stage of DeepSpeed's (``zero``), 0 if not.
    """

    count: int = 1
    index: int = 0
    group: Any = None
    sharded: bool = False
    zero: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the one that samples last, evaluates, records and saves."""
        return self.index == 0

    def broadcast(self, make: Callable[[], T]) -> T:
        """What ``make`` gives on the main process, which alone calls it. All raise if it raises there."""
        if self.count == 1:
            return make()
        if not self.main:
            box: list[Any] = [None]
            torch.distributed.broadcast_object_list(box, src=0, group=self.group)
            value, failure = box[0]
            if failure is not None:
                raise ToldByMain(failure)
            return value
        try:
            value = make()
        except Exception as error:
            torch.distributed.broadcast_object_list([(None, str(error))], src=0, group=self.group)
            raise
        torch.distributed.broadcast_object_list([(value, None)], src=0, group=self.group)
        return value

    def gather(self, value: T) -> list[T]:
        """Every process's ``value``, in their order, on every process."""
        if self.count == 1:
            return [value]
        box: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(box, value, group=self.group)
        return box

    def add(self, tensor: torch.Tensor) -> None:
        """Replace ``tensor``, on its device, by the sum over all processes."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)

    def wait(self) -> None:
        """Return once every process is here."""
        if self.count > 1:
            torch.distributed.barrier(group=self.group)

    def failure(self, sentence: str) -> UserError:
        """An error that all processes raise at the same place; the main one shows it."""
        return UserError(sentence) if self.main else ToldByMain(sentence)


def first_process() -> bool:
    """Whether this is the main process, before any has joined."""
    return int(os.environ.get("RANK", "0")) == 0


def shown_here(error: UserError) -> bool:
    """Whether this process is the one to show ``error``: the main one, or another with an error of its own."""
    return first_process() or (_joined is not None and not isinstance(error, ToldByMain))


def join(device: str) -> Processes:
    """Meet the other processes of this launch; alone at once if there are none. ``device``: cpu or cuda.

    Must come before a model is put on its GPU, which is chosen here. Raises UserError for launches that do not fit.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cuda" and torch.cuda.device_count() < local:
        raise UserError(
            f"{local} processes were started on a machine with {torch.cuda.device_count()} GPUs: "
            "set num_processes to their number, or use device cpu."
        )
    global _joined
    if _joined is None:
        from accelerate import PartialState

        # Frozen weights alone are spread, and by us: accelerate would spread, and average, what is trained as well.
        sharded = os.environ.pop("ACCELERATE_USE_FSDP", "false").lower() == "true"
        zero = _zero_stage()
        os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
        state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
        group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        _joined = Processes(state.num_processes, state.process_index, group, sharded, zero)
    return _joined


def _zero_stage() -> int:
    """The stage of DeepSpeed's ZeRO that this launch asks for, 0 for none. Raises UserError for what is not supported.

    Its other entries are not read: rate, clipping and decay are those of the run's own parameters.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true":
        return 0
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    offload = {os.environ.get(f"ACCELERATE_DEEPSPEED_OFFLOAD_{part}_DEVICE", "none") for part in ("OPTIMIZER", "PARAM")}
    if stage not in ("1", "2") or offload != {"none"} or "ACCELERATE_DEEPSPEED_CONFIG_FILE" in os.environ:
        raise UserError(
            "DeepSpeed works here with zero_stage 1 or 2, no offloading and no file of its own: launch with "
            "params/accelerate/deepspeed.yaml, or fsdp.yaml, which spreads the frozen weights as stage 3 would."
        )
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError("DeepSpeed is not installed: pip install -e '.[deepspeed]', or launch without it.")
    return int(stage)


def leave() -> None:
    """End the group, where there is one. The process must not train again."""
    global _joined
    if _joined is not None:
        torch.distributed.destroy_process_group()
        _joined = None


_joined: Processes | None = None
