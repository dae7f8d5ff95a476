"""The optimiser's state and gradients spread over the processes (DeepSpeed's ZeRO 1 and 2); the weights stay whole.

DeepSpeed averages the gradients of equally many passes as they come out of them; a step here consists of unequal
groups, of which a process may get none. So it is given a copy of what is trained, which no pass touches. At the end of
a step each process hands it the sum of its own passes, times the number of processes, so that the mean is the step's
sum; it reduces, clips and moves, each process a piece of the weights. Unlike ``gradients`` it adds in float32.
What is saved is an ordinary AdamW's state, whole, which any number of processes goes on from, with ZeRO or without.
It knows parameters and their gradients; it knows no losses, groups or models.

Run with gloo on a CPU (two processes, one machine: tests/training/test_processes.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vegtts_core.training.processes import Processes

#: What AdamW keeps of each weight.
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class _Share:
    """Where this process's share of a parameter lies: ``count`` weights of ``parameter`` and of its ``piece``."""

    parameter: torch.nn.Parameter
    piece: torch.Tensor
    begin: int
    begin_in_piece: int
    count: int


class ZeroOptimizer(torch.optim.Optimizer):
    """Stands for ``plain``, an optimiser of AdamW's kind that has made no step, in a trainer.

    Takes its rate from ``param_groups``, as a scheduler sets it. All processes call all methods but ``state_dict``.
    """

    def __init__(self, plain: torch.optim.Optimizer, processes: Processes, max_grad_norm: float) -> None:
        super().__init__(plain.param_groups, {})
        self._processes = processes
        self._groups = [group for group in self.param_groups if group["params"]]
        #: What is trained, in the order of ``reduce``.
        self.parameters = [parameter for group in self._groups for parameter in group["params"]]
        own = [torch.nn.Parameter(parameter.detach().clone()) for parameter in self.parameters]
        places = iter(own)
        kind: Any = type(plain)
        self._inner: Any = kind([group | {"params": [next(places) for _ in group["params"]]} for group in self._groups])
        self._engine: Any = _engine(own, self._inner, processes, max_grad_norm)
        self._own = own
        self._shares: list[_Share] = []
        for parameter, mine in zip(self.parameters, own, strict=True):
            found: Any = mine
            if (share := found._hp_mapping) is not None:
                piece = self._inner.param_groups[share.param_group_index]["params"][0]
                there, here = share.lp_fragment_address, share.hp_fragment_address
                self._shares.append(_Share(parameter, piece, there.start, here.start, here.numel))
        #: Length of the gradient of the step to come, before clipping; NaN if it is not finite, 0 if there is none.
        self.norm = 0.0
        self._ready = False

    @torch.no_grad()
    def reduce(self, gradients: Sequence[torch.Tensor]) -> None:
        """Take the sum of this process's passes, one tensor for each trained parameter, in the optimiser's order."""
        with self._engine.coalesce_grad_reduction():
            for mine, gradient in zip(self._own, gradients, strict=True):
                mine.grad = (gradient * self._processes.count).to(mine.dtype)
        norm = float(self._engine.optimizer.scaled_global_norm())
        self.norm = norm if norm >= 0 else math.nan  # DeepSpeed's -1
        self._ready = True

    def gradients(self) -> list[torch.Tensor]:
        """Between ``reduce`` and ``step``: the step's gradient before clipping."""
        from deepspeed.utils import safe_get_full_grad  # pyright: ignore[reportMissingImports]

        found: list[Any] = [safe_get_full_grad(mine) for mine in self._own]
        return found

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Clip and move, if there is a gradient."""
        if not self._ready:
            return
        for group, inner in zip(self._groups, self._inner.param_groups, strict=True):
            inner["lr"] = group["lr"]
        self._engine.step()
        for parameter, mine in zip(self.parameters, self._own, strict=True):
            parameter.copy_(mine)
        self._ready, self.norm = False, 0.0

    @torch.no_grad()
    def gather(self) -> None:
        """Put the whole state together, for ``state_dict``, until ``spread``."""
        state = next(iter(self._inner.state.values()), None)
        if state is None:  # no step was made
            return
        for name in _MOMENTS:
            row = torch.zeros(sum(map(torch.numel, self.parameters)), device=self.parameters[0].device)
            places = dict(zip(self.parameters, row.split([p.numel() for p in self.parameters]), strict=True))
            for share in self._shares:
                held = self._inner.state[share.piece][name].narrow(0, share.begin_in_piece, share.count)
                places[share.parameter].narrow(0, share.begin, share.count).copy_(held)
            self._processes.add(row)
            for parameter, values in places.items():
                self.state[parameter][name] = values.view_as(parameter).clone()
        for parameter in self.parameters:
            self.state[parameter]["step"] = state["step"].clone()

    @torch.no_grad()
    def spread(self) -> None:
        """Keep a piece of it again."""
        whole = dict(self.state)
        self.state.clear()
        if not whole:
            return
        for group in self._inner.param_groups:
            for piece in group["params"]:
                held = self._inner.state[piece]
                held["step"] = next(iter(whole.values()))["step"].clone()
                for name in _MOMENTS:
                    held.setdefault(name, torch.zeros_like(piece))
        for share in self._shares:
            for name in _MOMENTS:
                values = whole[share.parameter][name].flatten().narrow(0, share.begin, share.count)
                held = self._inner.state[share.piece][name]
                held.narrow(0, share.begin_in_piece, share.count).copy_(values)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved by any number of processes."""
        super().load_state_dict(state_dict)
        self.spread()

    def close(self) -> None:
        """Let go of DeepSpeed's buffers."""
        self._engine.destroy()


class _Shown(torch.nn.Module):
    """What DeepSpeed is shown of a model: what is trained."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        super().__init__()
        self.trained = torch.nn.ParameterList(parameters)


def _engine(
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    processes: Processes,
    max_grad_norm: float,
) -> Any:
    import deepspeed  # pyright: ignore[reportMissingImports]

    # On a CPU it would be built, for a minute; inference alone uses it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    total = sum(parameter.numel() for parameter in parameters)
    configuration = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,  # passes are added up before
        "gradient_clipping": max_grad_norm,
        "zero_optimization": {
            "stage": processes.zero,
            "reduce_bucket_size": total,
            "allgather_bucket_size": 2 * total,
            "overlap_comm": False,
        },
    }
    shown = _Shown(parameters)
    engine, *_ = deepspeed.initialize(model=shown, optimizer=optimizer, config=configuration, dist_init_required=False)
    return engine
