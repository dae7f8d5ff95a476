"""Appendix E.2: table E.1 with its counts and tests, and the same comparison of runs made here, step 0 included.

Feedback and prompt-only of one seed start as one policy and draw the same rollouts at step 0. What the two differ by
there is the clock's, and stands beside every later difference. It computes tables; the sentences are in
``distilling_results_words``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from scipy import stats

from vegtts_core import metrics
from vegtts_core.book.distilling_paper import paper_gap
from vegtts_core.book.tables import Column
from vegtts_core.runs import Run
from vegtts_core.statistics import Interval, mean_interval

ADAPTATION, FEEDBACK, PROMPT_ONLY = "adaptation (GRPO)", "SDPO, feedback", "SDPO, prompt-only"
DETECTED = 0.8
CONTROL, ADAPTED, NET = "0 (same rollouts)", "all adapted", "all adapted, less step 0"

Families = Mapping[str, Mapping[str, Run]]

STEP_COLUMNS = {
    "method": Column("method"),
    "seed": Column("seed", ".0f"),
    "step": Column("step", ".0f"),
    "samples": Column("rollouts", ".0f"),
    "correctness": Column("correct"),
    "speedup": Column("geometric speedup"),
}
DIFFERENCE_COLUMNS = {
    "measure": Column("measure"),
    "step": Column("step"),
    "n": Column("pairs (task, seed)", ".0f"),
    "difference": Column("feedback − prompt-only"),
}
POWER_COLUMNS = {
    "what": Column("comparison"),
    "n": Column("n per side", ",.0f"),
    "share": Column("share near", ".1%"),
    "detectable": Column("gap found in 80% of cases", ".1f", "points"),
    "power": Column("chance to find the paper's gap", ".0%"),
}
BEST_COLUMNS = {
    "method": Column("method"),
    "seed": Column("seed", ".0f"),
    "protocol": Column("protocol"),
    "step": Column("best step", ".0f"),
    "naive": Column("its score", ".1%"),
    "held_out": Column("held out", ".1%"),
    "base": Column("step 0, held out", ".1%"),
    "gain": Column("gain, held out", "{:+.1%}"),
    "same_step": Column("halves that choose it", ".0%"),
}


def protocols(families: Families) -> list[str]:
    """The protocols that every run was judged under, sound last."""
    sets = [
        set(run.manifest["parameters"]["evaluator"]["protocols"]) for runs in families.values() for run in runs.values()
    ]
    return sorted(set.intersection(*sets))


def together(runs: Mapping[str, Run]) -> pd.DataFrame:
    """All samples of a family."""
    return pd.concat([run.samples for run in runs.values()], ignore_index=True)


def common_seeds(families: Families) -> dict[str, dict[str, Run]]:
    """Each family without the seeds that another family lacks."""
    seeds = [{run.manifest["parameters"]["seed"] for run in runs.values()} for runs in families.values()]
    both = set.intersection(*seeds)
    return {
        method: {name: run for name, run in runs.items() if run.manifest["parameters"]["seed"] in both}
        for method, runs in families.items()
    }


def step_table(families: Families, names: Sequence[str]) -> pd.DataFrame:
    """Every step of every run: ``STEP_COLUMNS`` and ``fast.<protocol>``; intervals are bootstraps over tasks."""
    rows = []
    for method, runs in families.items():
        found = {name: metrics.trajectory(together(runs), name).seeds for name in names}
        last = found[names[-1]]
        for place, row in last.iterrows():
            entry = {"method": method} | {name: row[name] for name in ("seed", "step", "samples")}
            entry["correctness"] = _interval(row, "correctness", "correct_low", "correct_high")
            entry["speedup"] = _interval(row, "geometric_speedup", "geometric_low", "geometric_high")
            entry |= {f"fast.{n}": _interval(found[n].loc[place], "sample_fast_p", "low", "high") for n in names}
            rows.append(entry)
    return pd.DataFrame(rows)


def _interval(row: pd.Series, value: str, low: str, high: str) -> Interval:
    return Interval(float(row[value]), float(row[low]), float(row[high]), int(row["tasks"]))


def step_columns(names: Sequence[str]) -> dict[str, Column]:
    """``STEP_COLUMNS`` with formats and a column of fast_1 per protocol."""
    columns = dict(STEP_COLUMNS)
    columns["correctness"] = Column("correct", ".0%")
    columns["speedup"] = Column(f"geometric speedup, {names[-1]}", "{:.2f}×")
    return columns | {f"fast.{name}": Column(f"fast_1, {name}", ".1%") for name in names}


def same_rollouts(families: Families) -> float:
    """Share of step 0's rollouts whose text is the same in both families; NaN where no seed is in both."""
    keyed = []
    for method in (FEEDBACK, PROMPT_ONLY):
        samples = together(families[method])
        start = samples[samples["step"] == 0]
        keyed.append(start.set_index(["seed", "task", "sample"])["completion"])
    both = keyed[0].index.intersection(keyed[1].index)
    return float((keyed[0].loc[both] == keyed[1].loc[both]).mean()) if len(both) else math.nan


def paired(families: Families, protocol: str) -> pd.DataFrame:
    """Feedback less prompt-only per (seed, step, task): ``fast``, ``correct``."""
    tables = [
        metrics.trajectory(together(families[method]), protocol).tasks.set_index(["seed", "step", "task"])
        for method in (FEEDBACK, PROMPT_ONLY)
    ]
    both = tables[0].index.intersection(tables[1].index)
    found = pd.DataFrame(index=both)
    for name, column in (("fast", "sample_fast_p"), ("correct", "correctness")):
        found[name] = tables[0].loc[both, column] - tables[1].loc[both, column]
    return found.reset_index()


def differences(families: Families, names: Sequence[str]) -> pd.DataFrame:
    """Feedback less prompt-only at step 0, at each later step, over all of them, and over them less step 0.

    Columns ``measure``, ``step``, ``n`` (pairs of task and seed), ``interval`` (bootstrap over tasks and seeds).
    """
    rows = []
    for measure, protocol in [*(("fast", name) for name in names), ("correct", names[-1])]:
        table = paired(families, protocol)
        label = f"fast_1, {protocol}" if measure == "fast" else "correct"
        steps = sorted(int(step) for step in table["step"].unique())
        parts = [(CONTROL if step == 0 else str(step), table[table["step"] == step]) for step in steps]
        later = table[table["step"] > 0].groupby(["seed", "task"], as_index=False)[[measure]].mean()
        start = table[table["step"] == 0].set_index(["seed", "task"])[measure]
        before = start.reindex(pd.MultiIndex.from_frame(later[["seed", "task"]])).to_numpy()
        net = later.assign(**{measure: later[measure].to_numpy() - before})
        for step, part in [*parts, (ADAPTED, later), (NET, net)]:
            found = mean_interval(part[measure], part["task"])
            rows.append({"measure": label, "step": step, "n": len(part), "interval": found})
    return pd.DataFrame(rows)


def change(runs: Mapping[str, Run], protocol: str, column: str) -> Interval:
    """A column of ``metrics.trajectory``'s tasks, mean over adapted steps less step 0; bootstrap over tasks."""
    table = metrics.trajectory(together(runs), protocol).tasks
    later = table[table["step"] > 0].groupby(["seed", "task"])[column].mean()
    start = table[table["step"] == 0].set_index(["seed", "task"])[column]
    gains = (later - start).dropna()
    return mean_interval(gains.to_numpy(), gains.index.get_level_values("task").to_numpy())


def difference(table: pd.DataFrame, measure: str, step: str) -> Interval:
    """One interval of ``differences``."""
    return table[(table["measure"] == measure) & (table["step"] == step)]["interval"].iloc[0]


def detectable(share: float, n: float) -> float:
    """Gap of two shares near ``share``, of n independent rollouts each, that a test at 5% finds 80% of the time."""
    return float((stats.norm.ppf(0.975) + stats.norm.ppf(DETECTED)) * math.sqrt(2 * share * (1 - share) / n))


def power(share: float, n: float, gap: float) -> float:
    """Probability that such a test finds ``gap``."""
    shift = abs(gap) / math.sqrt(2 * share * (1 - share) / n)
    limit = stats.norm.ppf(0.975)
    return float(stats.norm.cdf(shift - limit) + stats.norm.cdf(-shift - limit))


def power_table(families: Families, names: Sequence[str]) -> pd.DataFrame:
    """What the paper's comparison and ours can find, with rollouts and with distinct candidates as what is independent.

    Shares of our runs are pooled over both teachers at the first adapted step, a rollout added to each outcome so
    that a share of 0 is no certainty. Columns of ``POWER_COLUMNS``.
    """
    gap = paper_gap()
    share = sum(gap.counts) / (2 * gap.n)
    entries = [("the paper, one step of three seeds", float(gap.n), share)]
    sides = [together(families[method]).assign(side=method) for method in (FEEDBACK, PROMPT_ONLY)]
    samples = pd.concat(sides, ignore_index=True)
    step = samples[samples["step"] == 1]
    for name in names:
        view = metrics.under(step, name)
        fast = (float((view["fast_limit"] > 1).sum()) + 1) / (len(view) + 2)
        entries.append((f"here, step 1, {name} fast_1", len(step) / 2, fast))
    distinct = step.groupby(["side", "seed", "task"])["fingerprint"].nunique().sum() / 2
    entries.append((f"the same, distinct candidates, {names[-1]}", float(distinct), entries[-1][2]))
    rows = [(what, n, p, 100 * detectable(p, n), power(p, n, gap.gap)) for what, n, p in entries if n]
    return pd.DataFrame(rows, columns=list(POWER_COLUMNS))


def best_table(families: Families, names: Sequence[str]) -> pd.DataFrame:
    """Best-of-Adaptation of every run, and what its score keeps on held-out halves; columns of ``BEST_COLUMNS``."""
    rows = []
    for method, runs in families.items():
        for name in names:
            found = metrics.split_half_optimism(together(runs), name)
            rows.append(found.assign(method=method, protocol=name))
    return pd.concat(rows, ignore_index=True)[list(BEST_COLUMNS)]


def diversity(families: Families, protocol: str) -> pd.DataFrame:
    """`metrics.diversity_by_step` of every family with a column ``method``."""
    rows = []
    for method, runs in families.items():
        groups = metrics.group_diversity(together(runs), protocol)
        rows.append(metrics.diversity_by_step(groups).assign(method=method))
    return pd.concat(rows, ignore_index=True)


def outcomes(families: Families, names: Sequence[str]) -> pd.DataFrame:
    """Per step over seeds: rows (``method``, ``step``, ``measure``, ``estimate``, ``low``, ``high``) for a figure.

    Measures: ``correctness`` and ``fast.<protocol>``.
    """
    rows = []
    for method, runs in families.items():
        for name in names:
            steps = metrics.trajectory(together(runs), name).steps
            columns = [(f"fast.{name}", "sample_fast_p", "low", "high")]
            if name == names[-1]:
                columns.append(("correctness", "correctness", "correct_low", "correct_high"))
            for measure, value, low, high in columns:
                rows += [(method, r["step"], measure, r[value], r[low], r[high]) for r in steps.to_dict("records")]
    return pd.DataFrame(rows, columns=["method", "step", "measure", "estimate", "low", "high"])
