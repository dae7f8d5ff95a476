"""Candidates per second with 1, 2, 4 and 8 workers on a CPU, in local processes and on Ray, at equal workers.

    python benchmarks/pool.py [--workers 1 2 4 8] [--each 24] [--rounds 3] [--kinds sleeping real] [--json] [--out FILE]

``sleeping`` candidates do nothing for 0.2 s and then fail: what is left is what a pool adds. ``real`` ones are the
mixture of `soak.py`: 5 kernels in a hundred, the rest bodies of ``forward``, one of them timed. Both pools hold the
same cores and take turns, one idle while the other works; the median round counts. More workers than cores are left
out, and said to be. ``ratio`` is Ray's rate over that of local processes for sleeping candidates with the most workers:
0.91 is an overhead of 10%.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import reporting
from soak import hundred

from vegtts_core.cluster import RayParameters
from vegtts_core.cluster.evaluation import RayEvaluators
from vegtts_core.errors import UserError
from vegtts_core.evaluator import EvaluatorSettings, Limits, SoundSettings
from vegtts_core.evaluator.pool import EvaluatorPool
from vegtts_core.scaffolds.assemble import assemble
from vegtts_core.scaffolds.types import Candidate
from vegtts_core.tasks import Task, get_task

SECONDS = 0.2
#: Two tasks with small inputs and quick references: a pool's own work should show, not theirs.
TASKS = (19, 88)


def sleeping(tasks: Sequence[Task], first: int, count: int) -> list[Candidate]:
    """Candidates ``first`` to ``first + count - 1``: each sleeps and raises. No two are the same text."""
    found = []
    for number in range(first, first + count):
        task = tasks[number % len(tasks)]
        body = f"import time\ntime.sleep({SECONDS})\nraise ValueError({number})"
        source = assemble(task.source, task.forward_arguments, ast.parse(body).body)
        found.append(
            Candidate(task.key, "forward", body, source, hashlib.sha256(f"{task.key} {body}".encode()).hexdigest())
        )
    return found


def real(tasks: Sequence[Task], first: int, count: int) -> list[Candidate]:
    """As many of the mixture, from both tasks; ``first`` keeps the rounds' texts apart."""
    mixed = [candidate for task in tasks for candidate in hundred(task, 100 * first, "cpu")]
    return mixed[:: max(1, len(mixed) // count)][:count]


KINDS = {"sleeping": sleeping, "real": real}


def rates(workers: int, kind: str, each: int, rounds: int) -> dict[str, Any]:
    """Candidates per second of both pools: ``each`` candidates per worker and round, and one round to warm up."""
    tasks = [get_task(id) for id in TASKS]
    settings = EvaluatorSettings(
        workers=workers,
        threads=1,
        limits=Limits(call_seconds=1.0),
        sound=SoundSettings(min_pairs=6, max_pairs=6, warmup=1, confirmations=0),
    )
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    count, first = each * workers, 0
    with (
        EvaluatorPool(tasks, settings) as local,
        RayEvaluators("kernel", "cpu", tasks, settings, RayParameters(address="local")) as cluster,
    ):
        pools = {"local": local, "ray": cluster}
        for turn in range(rounds + 1):
            for name, pool in pools.items():
                candidates = KINDS[kind](tasks, first, count)
                first += count
                start = time.perf_counter()
                verdicts = pool.evaluate(candidates)
                elapsed = time.perf_counter() - start
                if kind == "sleeping" and any("ValueError" not in verdict.reason for verdict in verdicts):
                    raise UserError(f"A sleeping candidate did not end as it should: {verdicts[0].reason}")
                print(f"{workers} workers, {kind}, {name}, round {turn}: {elapsed:.2f} s", file=sys.stderr, flush=True)
                if turn:
                    seconds[name].append(elapsed / len(candidates))
    rate = {name: 1 / statistics.median(values) for name, values in seconds.items()}
    return {
        "workers": workers,
        "kind": kind,
        "candidates": count,
        "rates": rate,
        "overhead": rate["local"] / rate["ray"] - 1,
        "seconds_per_candidate": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--each", type=int, default=24, help="candidates per worker and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    reporting.add_arguments(parser)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    counts = [workers for workers in options.workers if workers <= cores]
    left_out = [workers for workers in options.workers if workers > cores]
    try:
        found = [rates(workers, kind, options.each, options.rounds) for kind in options.kinds for workers in counts]
    except UserError as error:
        sys.exit(f"error: {error}")
    leading = next(one for one in reversed(found) if one["kind"] == options.kinds[0])
    result = {
        "benchmark": "pool",
        "ratio": leading["rates"]["ray"] / leading["rates"]["local"],
        "cores": cores,
        "load_before": load,
        "left_out": left_out,
        "results": found,
    }
    if not reporting.hand_over(result, options, "cpu"):
        return
    print("workers  candidates   local/s     Ray/s  overhead")
    for one in found:
        rate = one["rates"]
        figures = f"{rate['local']:9.2f} {rate['ray']:9.2f} {one['overhead']:9.1%}"
        print(f"{one['workers']:7}  {one['kind']:10} {figures}")
    if left_out:
        print(f"{', '.join(map(str, left_out))} workers were left out: there are {cores} cores.")
    if load > 0.5:
        print(f"The machine was in use: its load before the first round was {load:.1f}.")


if __name__ == "__main__":
    main()
