"""``python -m vegtts_core.tasks``: the list of tasks, or one task's module and contract (``--task 30 --size cpu``)."""

from __future__ import annotations

import argparse
import sys

from vegtts_core.errors import UserError
from vegtts_core.tasks.load import load_tasks
from vegtts_core.tasks.types import Size, Task


def _row(task: Task) -> str:
    shapes = " ".join("x".join(map(str, spec.shape)) if spec.shape else "-" for spec in task.inputs)
    family = task.family.value if task.family else "-"
    return (
        f"{task.key:<14} {family:<14} {task.flop / 1e9:>10.3f} {task.min_bytes / 2**20:>10.1f}  {task.name}  {shapes}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Prints what was asked for; 2 after a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m vegtts_core.tasks", description=__doc__)
    parser.add_argument("--task", help="id or key of one task: print its module and contract")
    parser.add_argument("--select", default="level1", help="which tasks to list (default: level1)")
    parser.add_argument("--size", default=Size.CPU.value, help="cpu (default) or kernelbench")
    options = parser.parse_args(arguments)
    try:
        tasks = load_tasks(options.task or options.select, options.size)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if options.task:
        for task in tasks:
            print(f"# {task.key}, {task.size} size. {task.contract.statement}\n\n{task.source}")
        return 0
    print(f"{'task':<14} {'family':<14} {'GFLOP':>10} {'MiB':>10}  name  shapes")
    for task in tasks:
        print(_row(task))
    return 0


if __name__ == "__main__":
    sys.exit(main())
