"""Search against adaptation by one policy at one budget, and how dense its rewards are (sections 5.1, 5.5, 6.7).

Step 0 of seed s draws what Best-of-N with seed s draws, so a family of adaptation runs brings its own Best-of-N: the
same
policy, tasks, evaluator and machine. Both methods are read twice, as the paper reads each of them once: by the share of
rollouts that are fast, and by the share of tasks for which any rollout that was paid for is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from vegtts_core import metrics
from vegtts_core.book import published
from vegtts_core.book.adapting_step import judged
from vegtts_core.book.prose import number
from vegtts_core.book.runs import best_of_n_run, names_runs, training_runs
from vegtts_core.book.tables import Column
from vegtts_core.errors import UserError
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval

NAN = float("nan")

DENSITY_FAMILY = "reward_density"
"""The section of a parameters file whose runs differ in how sparse their rewards are."""


def _hits(samples: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """One row per (task, seed, step): samples, fast (counts)."""
    view = metrics.under(samples, protocol)
    view["fast"] = view["fast_limit"] > 1
    return view.groupby(["task", "seed", "step"], as_index=False).agg(samples=("fast", "size"), fast=("fast", "sum"))


def search(hits: pd.DataFrame, steps: int) -> tuple[Interval, Interval]:
    """(fast_1 per rollout, share of tasks solved) of Best-of-N with ``steps`` steps' rollouts, from step 0 of all
    seeds.

    The second is pass@K, unbiased over all step-0 rollouts of a task; NaN where there are fewer than K of them.
    """
    start = hits[hits["step"] == 0]
    rate = mean_interval((start["fast"] / start["samples"]).to_numpy(), start["task"].to_numpy())
    k = int(start["samples"].min()) * steps
    whole = start.groupby("task")[["samples", "fast"]].sum()
    if int(whole["samples"].min()) < k:
        return rate, Interval(NAN, NAN, NAN, 0)
    solved = [float(metrics.pass_at_k(int(row["samples"]), int(row["fast"]), k)) for _, row in whole.iterrows()]
    return rate, mean_interval(solved, whole.index.to_numpy())


def adaptation(hits: pd.DataFrame, steps: int) -> tuple[Interval, Interval, Interval]:
    """The same of adaptation with ``steps`` steps' rollouts, and its share of tasks solved minus search's.

    fast_1 is that of Best-of-Adaptation's step among the first ``steps``, chosen by those very rollouts; a task is
    solved
    if any of the rollouts so far is fast. The difference is paired by task; NaN where search has too few rollouts.
    """
    spent = hits[hits["step"] < steps]
    share = (spent["fast"] / spent["samples"]).rename("share")
    table = pd.concat([spent[["task", "seed", "step"]], share], axis=1)
    scores = table.groupby(["seed", "step"])["share"].mean().unstack("step")
    best = dict(zip(scores.index, scores.columns[metrics.checkpoints.first_best(scores.to_numpy())], strict=True))
    chosen = table[table["step"] == table["seed"].map(best)]
    solved = spent.groupby(["task", "seed"], as_index=False)["fast"].sum()
    solved["hit"] = (solved["fast"] > 0).astype(float)
    start = hits[hits["step"] == 0].groupby("task")[["samples", "fast"]].sum()
    k = int(hits.loc[hits["step"] == 0, "samples"].min()) * steps
    gap = Interval(NAN, NAN, NAN, 0)
    if int(start["samples"].min()) >= k:
        theirs = solved["task"].map(
            {t: float(metrics.pass_at_k(int(r["samples"]), int(r["fast"]), k)) for t, r in start.iterrows()}
        )
        gap = mean_interval((solved["hit"] - theirs).to_numpy(), solved["task"].to_numpy())
    return (
        mean_interval(chosen["share"].to_numpy(), chosen["task"].to_numpy()),
        mean_interval(solved["hit"].to_numpy(), solved["task"].to_numpy()),
        gap,
    )


def control(samples: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Search and adaptation at equal rollouts, both ways of counting; columns method, rollouts (per task), sample,
    task.

    The paper's two rows first, then ours at one step's rollouts (where the two are one thing), two steps', and all.
    """
    hits = _hits(samples, protocol)
    k, last = int(hits["samples"].min()), int(hits["step"].max())
    rows: list[tuple[str, object, object, object]] = [
        (
            "paper: Best-of-N",
            str(published.table("A").at["best_of_n.k", "value"]),
            _point("4.4/1/best_of_n_fast_1"),
            _point("headline/best-of-n-k64/value"),
        ),
        ("paper: Best-of-Adaptation, 3 seeds", None, _point("headline/ttt-best-3-seeds/value"), None),
    ]
    for steps in dict.fromkeys((1, 2, last + 1)):
        rate, solved = search(hits, steps)
        rows.append(
            ("here: Best-of-N" + (" = step 0" if steps == 1 else ""), str(steps * k), _text(rate), _text(solved))
        )
        if steps > 1:
            rate, solved, _ = adaptation(hits, steps)
            rows.append((f"here: adaptation, steps 0 to {steps - 1}", str(steps * k), _text(rate), _text(solved)))
    return pd.DataFrame(rows, columns=["method", "rollouts", "sample", "task"])


CONTROL_COLUMNS = {
    "method": Column("method"),
    "rollouts": Column("rollouts per task"),
    "sample": Column("rollouts that are fast [95%]"),
    "task": Column("tasks solved [95%]"),
}


def _point(path: str) -> str:
    return number(float(published.value(path)), ".1%")


def _text(value: Interval) -> str | None:
    return None if np.isnan(value.estimate) else number(value, ".1%")


def gap(samples: pd.DataFrame, protocol: str, steps: int = 2) -> Interval:
    """Tasks solved by adaptation minus by search at ``steps`` steps' rollouts, paired by task."""
    return adaptation(_hits(samples, protocol), steps)[2]


# -- the Best-of-N run of chapter 5.1 ----------------------------------------------------------------------------


def other_run(source: str, params: str | Path) -> Run | None:
    """The recorded Best-of-N run; None for live chapters, which do not wait for one."""
    return best_of_n_run(source, params) if source == "recorded" else None


def differences(best_of_n: Run, adapted: Run) -> list[str]:
    """In what the policies, prompts and tasks of two runs differ; empty if step 0 may be held against the other run."""
    one, two = best_of_n.manifest["parameters"], adapted.manifest["parameters"]
    pairs = {
        "weights": [run.manifest["policy"].get("weights_sha256") for run in (best_of_n, adapted)],
        "adapter": [run.manifest["policy"].get("adapter_sha256") for run in (best_of_n, adapted)],
        "scaffold": [[one["scaffold"]], list(two["scaffolds"])],
        "temperature": [one["temperature"], two["temperature"]],
        "examples": [list(one["examples"]), list(two["examples"])],
        "tasks": [sorted(run.samples["task"].unique()) for run in (best_of_n, adapted)],
        "size": [one["size"], two["size"]],
    }
    return [name for name, (a, b) in pairs.items() if a != b]


def beside_other(best_of_n: Run | None, runs: Mapping[str, Run], protocol: str) -> str:
    """What the Best-of-N run of chapter 5.1 says of step 0, or why it says nothing."""
    if best_of_n is None:
        return "A live chapter makes no other Best-of-N run: step 0 is the only one here."
    unlike = differences(best_of_n, next(iter(runs.values())))
    if unlike:
        return (
            f"The Best-of-N run of chapter 5.1 is no such control: it differs in {', '.join(unlike)}. Its rates and "
            "those of this chapter are not held against each other."
        )
    samples = pd.concat([run.samples for run in runs.values()])
    start = samples[samples["step"] == 0]
    rates = [metrics.sample_fast_p(metrics.under(table, protocol)) for table in (best_of_n.samples, start)]
    both = best_of_n.samples.merge(start, on=["task", "seed", "sample"], suffixes=("", "_adapted"))
    same = int((both["completion"] == both["completion_adapted"]).sum())
    return (
        f"The Best-of-N run of chapter 5.1 is by the same policy: {number(rates[0], '.1%')} of its samples are fast, "
        f"{number(rates[1], '.1%')} of step 0's; {same} of {len(both)} rollouts that both drew with one seed are equal."
    )


# -- reward density ----------------------------------------------------------------------------------------------


def density_runs(source: str, params: str | Path, seed: int | None = None) -> dict[str, Run]:
    """The runs that differ in how sparse their rewards are; none where the parameters name no such family."""
    named = names_runs(source, params, DENSITY_FAMILY)
    return training_runs(source, params, DENSITY_FAMILY, seed) if named else {}


def density(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Reward density at step 0 beside the step that was best: ``metrics.density_and_optimum``, run by its reward."""
    if not runs:
        raise UserError("There is no run whose rewards could be looked at: name a family of runs.")
    protocol = str(next(iter(runs.values())).manifest["parameters"]["protocol"])
    named = {f"seed {run.manifest['parameters']['seed']}, {reward(run)}": _trained_on(run) for run in runs.values()}
    return metrics.density_and_optimum(named, protocol)


def _trained_on(run: Run) -> pd.DataFrame:
    """The samples with step 0's rewards as training saw them: the table has the speedup under every reward."""
    samples = run.samples.copy()
    samples.loc[samples["step"] == 0, "reward"] = judged(run, 0)["reward"].to_numpy()
    return samples


def reward(run: Run) -> str:
    """How a run was rewarded, in two or three words."""
    rewards = run.manifest["parameters"]["rewards"]
    if rewards["threshold"] is not None:
        return f"1 above {rewards['threshold']:g}×"
    return f"{rewards['measure']} speedup" + (", logarithm" if rewards["transform"] == "log" else "")


DENSITY_COLUMNS = {
    "run": Column("run, reward"),
    "nonzero": Column("not 0", ".0%", group="rewards at step 0"),
    "levels": Column("levels per group", ".1f", group="rewards at step 0"),
    "entropy": Column("entropy, nats", ".2f", group="rewards at step 0"),
    "informative": Column("groups that differ", ".0%", group="rewards at step 0"),
    "step": Column("best step", "d"),
    "expected_step": Column("best step, redrawn", ".1f"),
    "last_step": Column("last step", "d"),
}
