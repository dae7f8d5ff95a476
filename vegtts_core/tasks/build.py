"""From a problem to a ``Task`` at one size: rendered, run once on the meta device, counted."""

from __future__ import annotations

from functools import cache

from vegtts_core.tasks.level1 import PROBLEMS, VARIANTS
from vegtts_core.tasks.problem import Problem, render
from vegtts_core.tasks.source import forward_text, run_on_meta
from vegtts_core.tasks.types import InputContract, Size, Task


@cache
def level1_task(id: int, variant: str, size: Size) -> Task:
    """The level-1 problem ``id`` (1 to 100) at ``size``. Raises KeyError where there is no such problem."""
    problem: Problem = VARIANTS[id, variant] if variant else PROBLEMS[id]
    source = render(problem, size)
    text = forward_text(source)
    counts = run_on_meta(source)
    constants = problem.at(size)
    return Task(
        level=1,
        id=problem.id,
        name=problem.name,
        family=problem.family,
        size=size,
        source=source,
        inputs=tuple(argument.spec(constants) for argument in problem.arguments),
        contract=InputContract(problem.statement(), problem.sensitive_to(), problem.answer, problem.dim),
        forward_arguments=text.arguments,
        forward_signature=text.signature,
        forward_body=text.body,
        flop=counts.flop,
        min_bytes=counts.min_bytes,
        variant=problem.variant,
    )
