"""Worked answers to training tasks: what a warm start may begin with where the policy cannot yet answer at all.

In scaffold ``forward`` the reference's own body, our worked example and other ways to write both; in ``template`` the
honest filling and other ways to write it, with tuning constants drawn anew. They are judged like any rollout before
they count.
It knows tasks and scaffolds; it knows no models.
"""

from __future__ import annotations

import textwrap

import numpy as np

from vegtts_core.kernels.templates.coverage import template_of
from vegtts_core.kernels.templates.honest import honest_filling
from vegtts_core.kernels.templates.lines import parse_filling
from vegtts_core.kernels.templates.tuning import tuning_grid
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.examples import EXAMPLE_BODIES
from vegtts_core.scaffolds.forward import ForwardScaffold
from vegtts_core.scaffolds.types import Refusal
from vegtts_core.tasks import Task
from vegtts_core.training.paraphrases import paraphrases
from vegtts_core.training.rewrites import rewrites

_FENCE = "```"
_ATTEMPTS = 200


def demonstrations(task: Task, scaffold: str, language: Language, count: int, seed: int) -> list[str]:
    """Up to ``count`` different completions for ``task``, the stop string included; none where we have no answer."""
    if scaffold == "forward":
        return [f"\n{textwrap.indent(body, ' ' * 8)}\n{_FENCE}" for body in _bodies(task, count, seed)]
    if scaffold == "template":
        return [f"\n{lines}\n{_FENCE}" for lines in _fillings(task, language, count, seed)]
    return []


def _bodies(task: Task, count: int, seed: int) -> list[str]:
    """The reference's body, our worked example, then rewrites of them that the scaffold accepts, in random order."""
    scaffold = ForwardScaffold()
    first = [task.forward_body.strip(), *([EXAMPLE_BODIES[task.id]] if task.id in EXAMPLE_BODIES else [])]
    others = list(dict.fromkeys(new for body in first for new in rewrites(task, body) if new not in first))
    order = np.random.default_rng([seed, task.id]).permutation(len(others))
    found: dict[str, str] = {}
    for body in [*first, *(others[place] for place in order)]:
        if len(found) >= count:
            break
        candidate = scaffold.parse(task, f"\n{textwrap.indent(body, ' ' * 8)}\n")
        if not isinstance(candidate, Refusal):
            found.setdefault(candidate.fingerprint, body)
    return list(found.values())


def _fillings(task: Task, language: Language, count: int, seed: int) -> list[str]:
    """The honest filling and its paraphrases as they are, then with one to three tuning constants drawn anew."""
    template = template_of(task)
    grid = tuning_grid(template)
    ways = [
        dict(line.split(" = ", 1) for line in lines.splitlines())
        for lines in (honest_filling(task), *paraphrases(task))
    ]
    random = np.random.default_rng([seed, task.id])
    found = {"\n".join(f"{name} = {value}" for name, value in way.items()): None for way in ways}
    for _ in range(_ATTEMPTS):
        if len(found) >= count:
            break
        names = random.permutation(list(grid))[: random.integers(1, 4)]
        way = ways[random.integers(len(ways))]
        drawn = way | {str(name): str(grid[name][random.integers(len(grid[name]))]) for name in names}
        lines = "\n".join(f"{name} = {value}" for name, value in drawn.items())
        filling = parse_filling(template, lines)
        if not isinstance(filling, Refusal) and template.problem(filling, language) is None:
            found[lines] = None
    return list(found)[:count]
