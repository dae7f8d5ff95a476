"""Drawing a task's inputs and building its reference: the only places where a task's tensors get their numbers.

Everything is drawn in the task's dtypes, from the seed alone: the same seed gives the same bits on one kind of device,
and the caller's own random state is left as it was. Drawn on a GPU, numbers have the same distribution, not the same
bits as on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vegtts_core.tasks.domains import fast_generator
from vegtts_core.tasks.source import exec_module
from vegtts_core.tasks.types import Domain, Fill, InputSpec, Task


class ModuleInputs:
    """A sampler for user-named modules: what their ``get_inputs`` returns under the generator's seed."""

    def __init__(self, source: str, index: int) -> None:
        self._source = source
        self._index = index

    def draw_all(self, seed: int) -> list[Any]:
        """All inputs, drawn together under ``torch.manual_seed(seed)`` on the current default device."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return list(exec_module(self._source)["get_inputs"]())

    def __call__(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """The input at this sampler's place."""
        return torch.as_tensor(self.draw_all(generator.initial_seed())[self._index])


def draw_inputs(
    task: Task, seed: int, wide: bool, device: str = "cpu", mode: int | None = None, fill: Fill | None = None
) -> list[torch.Tensor | float]:
    """The arguments of ``forward``: tensors on ``device`` in the task's dtypes, plain floats for numbers.

    ``wide=False`` draws what the benchmark draws: exactly what the module's ``get_inputs`` returns after
    ``torch.manual_seed(seed)``. ``wide=True`` draws from the contract's domains; structured inputs (rows of very
    different size, negative or tied numbers, ...) come up over a few seeds, so check a candidate with several.

    With ``fill``, for the CPU only, uniform numbers come from there: the same distributions in other bits.
    """
    with torch.device(device):
        first = _source_of(task.inputs[0], wide)
        if first is not None and isinstance(first.sample, ModuleInputs):
            return first.sample.draw_all(seed)
        generator = (torch.Generator(device) if fill is None else fast_generator(fill)).manual_seed(seed)
        return [_draw(spec, generator, wide, mode) for spec in task.inputs]


def drawn_by_module(task: Task) -> bool:
    """Whether the benchmark's inputs come from the module's own ``get_inputs``, which nobody can make faster."""
    source = _source_of(task.inputs[0], wide=False)
    return source is not None and isinstance(source.sample, ModuleInputs)


def draw_mixed(
    task: Task, seed: int, device: str = "cpu", fill: Fill | None = None, places: int | None = None, part: int = 0
) -> list[torch.Tensor | float]:
    """What the benchmark draws, with a few rows (of vectors: elements) from the contract's domain at random places.

    Every way in which the domain is sampled has a row, where there are as many; else at most one row in 64 is from the
    domain, so that whoever looks at some of the elements takes it for a benchmark draw. The places follow from
    ``places``, by default ``seed``; draws with the same and another ``part`` (0 or 1) have no row from the domain in
    common, so that who looks at one row, or a few, takes one of the two for what it is not. An input whose domain ties
    its rows together (symmetric matrices) or has none is as ``draw_inputs`` draws it. ``fill`` as there.
    """
    mixed: list[torch.Tensor | float] = []
    with torch.device(device):
        generator = torch.Generator(device).manual_seed(seed)
        where = torch.Generator(device).manual_seed(seed if places is None else places)
        for spec, x in zip(task.inputs, draw_inputs(task, seed, wide=False, device=device, fill=fill), strict=True):
            if not isinstance(x, torch.Tensor) or spec.domain is None or not x.dim():
                mixed.append(x)
            elif not spec.domain.rows_tied:
                mixed.append(_with_wide_rows(x, spec.domain, generator, where, part))
            elif isinstance(spec.domain.sample, ModuleInputs):
                mixed.append(x)
            else:
                mixed.append(spec.domain.sample(x.shape, generator))
    return mixed


def _with_wide_rows(
    x: torch.Tensor, domain: Domain, generator: torch.Generator, where: torch.Generator, part: int
) -> torch.Tensor:
    sizes = x.shape[:-1] if x.dim() > 1 else x.shape
    dim = next((place for place, size in enumerate(sizes) if size > 1), 0)
    modes = domain.modes or (domain.sample,)
    count = min(-(-x.shape[dim] // 2), max(x.shape[dim] // 64, len(modes)))
    rows = torch.randperm(x.shape[dim], generator=where)[part * count : (part + 1) * count]
    first = int(torch.randint(len(modes), (), generator=generator))
    for place, mode in enumerate(modes[first:] + modes[:first]):
        some = rows[place :: len(modes)]
        if len(some):
            shape = (*x.shape[:dim], len(some), *x.shape[dim + 1 :])
            x = x.index_copy(dim, some, mode(shape, generator))
    return x


def _source_of(spec: InputSpec, wide: bool) -> Domain | None:
    return spec.domain if wide else spec.benchmark


def wide_modes(task: Task) -> int:
    """How many ways there are to sample the richest of the domains of the task's inputs."""
    return max((len(spec.domain.modes) for spec in task.inputs if spec.domain and spec.shape), default=0) or 1


def _draw(spec: InputSpec, generator: torch.Generator, wide: bool, mode: int | None) -> torch.Tensor | float:
    source = _source_of(spec, wide)
    if source is None:
        assert spec.value is not None
        return spec.value
    if spec.shape is None:
        # The benchmark's value is a Python number: a trip through float32 would change it.
        return float(source.sample((), generator)) if wide or spec.value is None else spec.value
    if mode is not None and source.modes:
        return source.modes[mode % len(source.modes)](spec.shape, generator)
    return source.sample(spec.shape, generator)


def build_reference(task: Task, seed: int, wide_weights: bool = False) -> nn.Module:
    """The task's ``Model`` on the CPU, freshly executed, weights drawn under ``torch.manual_seed(seed)``.

    It is in training mode, as KernelBench leaves it: BatchNorm uses the batch's statistics, and each ``forward`` moves
    its running ones as a side effect. With ``wide_weights``, parameters and running statistics that start out constant
    (a norm's ones and zeros) get random values, so that a candidate that leaves them out is wrong.
    """
    namespace = exec_module(task.source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = namespace["Model"](*namespace["get_init_inputs"]())
    if wide_weights:
        _randomise_constants(model, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def _randomise_constants(model: nn.Module, generator: torch.Generator) -> None:
    named = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in named:
        if not tensor.is_floating_point() or tensor.numel() == 0 or not bool((tensor == tensor.flatten()[0]).all()):
            continue
        random = torch.rand(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(random + 0.5)
        elif bool(tensor.flatten()[0] == 0):
            tensor.copy_(random * 2 - 1)
        else:
            signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
            tensor.copy_((random + 0.5) * signs)
