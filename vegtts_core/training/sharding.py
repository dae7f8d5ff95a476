"""Frozen weights spread over the processes (FSDP); what is trained, a small adapter, stays whole on each.

Each layer's frozen weights are cut into as many pieces as there are processes and put together for the layer's forward
and for its backward pass (torch's ``fully_shard``). The adapters are left out of it, so that their gradients, optimiser
and checkpoints are those of DDP, bit by bit. Embeddings and head stay whole. A layer's pass is a meeting of all
processes, so that all make equally many. For sampling and scoring, of which each process does another amount, the
weights are put together for as long as that takes: the policy must fit one device to be sampled from.
It knows models and processes; it knows no groups or losses.

Run over gloo on a CPU (tests/training/test_processes.py); not run on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from vegtts_core.errors import UserError
from vegtts_core.training.logprobs import PromptPath, prompt_path
from vegtts_core.training.processes import Processes

#: What peft's names of an adapter's parameters contain.
_ADAPTER = "lora_"


class Shards:
    """The layers of a model whose frozen weights are spread, if they are."""

    def __init__(self, layers: list[FSDPModule] | None = None) -> None:
        self._layers = layers or []

    def __bool__(self) -> bool:
        return bool(self._layers)

    @classmethod
    def of(cls, model: Any, processes: Processes, shared_prompt: bool) -> Shards:
        """Spread the frozen weights of a peft ``model`` over ``processes``, where they ask for it.

        Raises UserError for models and parameters whose number of passes would differ between processes.
        """
        if not processes.sharded:
            return cls()
        if not shared_prompt or prompt_path(model) is not PromptPath.PACKED:
            raise UserError(
                "FSDP needs update.shared_prompt and a model that it works for: launch with params/accelerate/ddp.yaml."
            )
        base = model.get_base_model()
        names = set(base._no_split_modules or ())
        layers = [module for module in base.modules() if type(module).__name__ in names]
        mesh = init_device_mesh(base.device.type, (processes.count,))
        sharded = []
        for layer in layers:
            adapters = {value for name, value in layer.named_parameters() if _ADAPTER in name}
            sharded.append(fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=adapters))
        if not sharded:
            raise UserError(
                f"FSDP finds no layers to spread in {type(base).__name__}: launch with params/accelerate/ddp.yaml."
            )
        return cls(sharded)

    def gather(self) -> None:
        """Put the weights together, on every process, until ``spread``."""
        for layer in self._layers:
            layer.set_reshard_after_forward(False)
            layer.unshard()

    def spread(self) -> None:
        """Keep a piece of them again."""
        for layer in self._layers:
            layer.set_reshard_after_forward(True)
            layer.reshard()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All processes' weights together, so that each may make as many passes as it likes."""
        self.gather()
        yield
        self.spread()
